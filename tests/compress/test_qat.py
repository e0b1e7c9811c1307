"""Quantization-aware training: the graph it makes, what it keeps, and the int8 file it becomes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.base.child import Worker
from edgekit.base.errors import PreconditionError
from edgekit.data.dataset import Dataset

pytestmark = pytest.mark.slow


def residual() -> Any:
    """ResNet-8's blocks, narrow: normalization, ReLU of sums, strided shortcut."""
    import keras

    layers = keras.layers
    x = keras.Input((8, 8, 1), name="x")
    h = layers.ReLU()(
        layers.BatchNormalization(momentum=0.9)(layers.Conv2D(8, 3, padding="same")(x))
    )
    for filters, strides in ((8, 1), (12, 2)):
        y = layers.Conv2D(filters, 3, strides, padding="same", use_bias=False)(h)
        y = layers.Activation("relu")(layers.BatchNormalization(momentum=0.9)(y))
        y = layers.BatchNormalization(momentum=0.9)(layers.Conv2D(filters, 3, padding="same")(y))
        if strides > 1:
            h = layers.Conv2D(filters, 1, strides)(h)
        h = layers.ReLU()(layers.Add()([h, y]))
    h = layers.GlobalAveragePooling2D()(h)
    return keras.Model(x, layers.Dense(3, activation="softmax", name="scores")(h))


def depthwise() -> Any:
    """Rescaled images, depthwise and pointwise layers with ReLU6, and pooling."""
    import keras

    layers = keras.layers
    x = keras.Input((8, 8, 1), name="x")
    h = layers.Rescaling(0.5, 0.25)(x)
    h = layers.ReLU(6.0)(layers.Conv2D(8, 3, padding="same")(h))
    for multiplier in (1, 2):
        h = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=multiplier)(h)
        h = layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.9)(h))
        h = layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.9)(layers.Conv2D(12, 1)(h)))
    h = layers.Flatten()(layers.AveragePooling2D(4)(h))
    return keras.Model(x, layers.Dense(3, name="logits")(layers.Dropout(0.1)(h)))


def mlp() -> Any:
    """A Sequential perceptron with an activation that is no ReLU."""
    import keras

    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 1), name="x"),
            layers.Flatten(),
            layers.Dense(24, activation="relu"),
            layers.Dense(16, activation="tanh"),
            layers.Dense(3, activation="softmax", name="scores"),
        ]
    )


def branches() -> Any:
    """Concatenated branches, a nested model called twice, a transposed layer, slices, one skip."""
    import keras

    layers, ops = keras.layers, keras.ops
    a = keras.Input((8, 8, 4))
    b = layers.Conv2D(4, 3, padding="same")(a)
    b = layers.Add()([layers.LeakyReLU(negative_slope=0.1)(b), a])
    inner = keras.Model(a, b, name="inner")
    x = keras.Input((8, 8, 1), name="x")
    h = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    h = inner(inner(h))
    left = layers.Conv2D(3, 1, activation="relu")(h)
    right = layers.Conv2D(5, 3, padding="same", activation="sigmoid")(h)
    more = layers.MaxPooling2D(2)(layers.Conv2D(2, 1)(h))
    more = layers.ReLU()(layers.Conv2DTranspose(2, 2, strides=2)(more))
    h = layers.Concatenate(name="joined")([left, right, more])
    h = h[:, 1:7, :, :] * 2.0
    h = layers.Reshape((6, 80))(h)
    h = layers.Conv1D(6, 3, activation="relu")(h)
    h = ops.concatenate([h, layers.Conv1D(6, 1)(h)], axis=1)
    return keras.Model(x, layers.Dense(3, name="logits")(layers.GlobalAveragePooling1D()(h)))


NETS = {build.__name__: build for build in (residual, depthwise, mlp, branches)}


@pytest.fixture(scope="module")
def trained(dataset: Dataset) -> Callable[[str], Any]:
    """Each network, trained for a few epochs, once."""
    import keras

    from edgekit.training.fit import fine_tune

    made: dict[str, Any] = {}

    def get(name: str) -> Any:
        if name not in made:
            keras.utils.set_random_seed(1)
            made[name] = NETS[name]()
            fine_tune(made[name], dataset, epochs=4, learning_rate=0.01, batch_size=16, seed=0)
        return made[name]

    return get


def exported(model: Any, dataset: Dataset, folder: Path, worker: Worker) -> Path:
    from edgekit.export.exporter import ExportJob, export
    from edgekit.models.files import save_model

    save_model(model, folder / "qat.keras")
    np.savez(folder / "calibration.npz", **dataset.calibration.x)  # type: ignore[arg-type]
    output = folder / "model-int8.tflite"
    job = ExportJob(
        folder / "qat.keras", "tflite", "int8", output, calibration=folder / "calibration.npz"
    )
    export(job, worker=worker, reference_x=dataset.test.x)
    return output


def steps_apart(file: Path, model: Path, x: dict[str, np.ndarray]) -> np.ndarray:
    """How many steps of the file's output each of its values is from the simulation in Keras."""
    from edgekit.runtimes.open import open_session
    from edgekit.runtimes.session import run_raw, to_real
    from edgekit.training.session import KerasSession

    wanted = next(iter(run_raw(KerasSession(model), x).values()))
    with open_session(file) as session:
        info = session.outputs[0]
        found = to_real(run_raw(session, x)[info.name], info)
    assert info.quantization is not None
    return np.abs(found - wanted) / info.quantization.scale[0]


@pytest.mark.parametrize(
    ("name", "ranges"), [*((name, "moving") for name in NETS), ("residual", "learnt")]
)
def test_the_int8_file_computes_what_was_trained(
    name: str,
    ranges: str,
    trained: Callable[[str], Any],
    dataset: Dataset,
    tmp_path: Path,
    worker: Worker,
) -> None:
    from edgekit.compress import qat
    from edgekit.graph.read import read_graph
    from edgekit.graph.tflite import constant_values
    from edgekit.models.fakequant import fake_quant_layers, integers, quantized_layers, range_of
    from edgekit.models.files import load_model

    before = trained(name)
    result = qat(before, dataset, epochs=2, ranges=ranges, learning_rate=0.002, batch_size=32)
    file = exported(result.model, dataset, tmp_path, worker)
    apart = steps_apart(file, tmp_path / "qat.keras", dataset.test.x)
    assert np.mean(apart <= 1.01) >= 0.995
    assert apart.max() <= 2.01

    graph = read_graph(file)
    assert not [t.name for t in graph.tensors if t.dtype == "float32"]
    scales = {np.float32(t.quantization.scale[0]) for t in graph.tensors if t.quantization}
    model = load_model(tmp_path / "qat.keras")
    for layer in fake_quant_layers(model):
        low, high = range_of(layer)
        assert np.float32((high - low) / 255) in scales, layer.name
    stored = [
        constant_values(file, index)
        for index, tensor in enumerate(graph.tensors)
        if tensor.dtype == "int8" and tensor.constant
    ]
    for layer in quantized_layers(model):
        wanted = np.sort(integers(layer).reshape(-1))
        assert any(np.array_equal(wanted, np.sort(values.reshape(-1))) for values in stored), (
            layer.name
        )


def test_ranges_that_the_model_brings_need_no_calibration(
    trained: Callable[[str], Any], dataset: Dataset, tmp_path: Path, worker: Worker
) -> None:
    from edgekit.base.errors import InputError
    from edgekit.compress import qat
    from edgekit.models.files import save_model
    from edgekit.pipeline.export_files import export_files
    from edgekit.runtimes.open import open_session
    from edgekit.runtimes.session import run_raw

    made = qat(trained("residual"), dataset, epochs=0).model
    calibrated = exported(made, dataset, tmp_path, worker)
    (tmp_path / "alone").mkdir()
    with open_session(calibrated) as session:
        wanted = run_raw(session, dataset.test.x)
    export_files(
        tmp_path / "qat.keras",
        formats=["tflite", "onnx"],
        precisions=["int8"],
        output=tmp_path / "alone",
    )
    for suffix in (".tflite", ".onnx"):
        with open_session(tmp_path / "alone" / f"qat-int8{suffix}") as session:
            found = run_raw(session, dataset.test.x)
        for one, other in zip(wanted.values(), found.values(), strict=True):
            assert np.abs(one.astype(int) - other.astype(int)).max() <= (suffix == ".onnx")
    save_model(trained("residual"), tmp_path / "float.keras")
    with pytest.raises(InputError, match="needs calibration samples"):
        export_files(tmp_path / "float.keras", formats=["onnx"], precisions=["int8"])


@pytest.mark.parametrize("name", list(NETS))
def test_the_copy_has_the_inputs_outputs_and_accuracy_of_the_model(
    name: str, trained: Callable[[str], Any], dataset: Dataset, tmp_path: Path
) -> None:
    from edgekit.compress import qat
    from edgekit.models.files import as_functional, load_model, save_model
    from edgekit.training.evaluate import evaluate, record_outputs
    from edgekit.training.task import last_activation

    before = trained(name)
    result = qat(before, dataset, epochs=0)
    assert result.model.output_names == as_functional(before).output_names
    assert last_activation(result.model) == last_activation(before)
    models = (as_functional(before), result.model)
    accuracy = [evaluate(model, dataset.test)["accuracy"] for model in models]
    assert accuracy[1] >= accuracy[0] - 0.03
    save_model(result.model, tmp_path / "qat.keras")
    again = record_outputs(load_model(tmp_path / "qat.keras"), dataset.test.x)
    for output, values in record_outputs(result.model, dataset.test.x).items():
        np.testing.assert_array_equal(values, again[output])


def test_values_that_share_a_scale_share_a_range(
    trained: Callable[[str], Any], dataset: Dataset
) -> None:
    from edgekit.compress import qat

    result = qat(trained("branches"), dataset, epochs=0)
    shared = result.model.get_layer("joined_range")
    assert shared.slots == 3  # convolution, ReLU, and all together with the sigmoid's known range
    low, high = (np.asarray(end) for end in (shared.low, shared.high))
    assert np.all(high > 0)
    wider = float(shared.limits()[1]) / high.max()  # for the step to be one over a whole number
    assert 1 <= wider < 1.15
    np.testing.assert_allclose(float(shared.limits()[0]), wider * low.min(), rtol=1e-5)


def test_a_known_range_is_brought_to_a_scale_without_an_error_of_its_own(
    trained: Callable[[str], Any], dataset: Dataset
) -> None:
    """XNNPACK's conversions multiply by the ratio of two scales, rounded to 1/256."""
    from edgekit.compress import qat
    from edgekit.models.fakequant import FIXED_RANGES, fake_quant_layers, range_of

    result = qat(trained("branches"), dataset, epochs=1, learning_rate=0.002)
    found = {layer.name: layer for layer in fake_quant_layers(result.model) if layer.reciprocal}
    assert list(found) == ["joined_range"]
    low, high = range_of(found["joined_range"])
    ratio = (FIXED_RANGES["sigmoid"][1] / 255) / ((high - low) / 255)
    np.testing.assert_allclose(256 * ratio, np.round(256 * ratio), atol=1e-3)


def test_biases_are_whole_numbers_of_the_steps_of_the_file(
    trained: Callable[[str], Any], dataset: Dataset, tmp_path: Path, worker: Worker
) -> None:
    from edgekit.compress import qat
    from edgekit.graph.read import read_graph
    from edgekit.graph.tflite import constant_values

    model = qat(trained("depthwise"), dataset, epochs=1, learning_rate=0.002).model
    file = exported(model, dataset, tmp_path, worker)
    stored = []
    for index, tensor in enumerate(read_graph(file).tensors):
        if tensor.dtype == "int32" and tensor.constant and tensor.quantization is not None:
            scale = np.asarray(tensor.quantization.scale)
            stored.append(np.sort(constant_values(file, index).reshape(-1) * scale))
    for layer in model.layers:
        if getattr(layer, "bias", None) is not None:
            wanted = np.sort(np.asarray(layer.bias))
            assert any(
                values.shape == wanted.shape and np.allclose(values, wanted, rtol=1e-5, atol=1e-7)
                for values in stored
            ), layer.name


@pytest.mark.parametrize(("name", "weight_bits"), [("residual", 8), ("depthwise", 4)])
def test_normalizations_follow_the_batches_and_then_freeze(
    name: str, weight_bits: int, trained: Callable[[str], Any], dataset: Dataset
) -> None:
    from dataclasses import replace

    from edgekit.compress.qat_graph import Settings, quantized_model
    from edgekit.compress.quantization_aware import Qat, QatArgs, calibrate, take_folded
    from edgekit.models.fakequant import quantized_layers
    from edgekit.training.evaluate import record_outputs
    from edgekit.training.fit import fine_tune

    ready = Qat(QatArgs())._prepared(trained(name))
    settings = Settings(weight_bits, "moving", 0.99)
    frozen = quantized_model(ready.model, settings, ready.skip)
    normal = quantized_model(ready.model, replace(settings, norms=ready.norms), ready.skip)
    calibrate(frozen, dataset.calibration)
    calibrate(normal, dataset.calibration)
    norms = [one.norm for one in quantized_layers(normal) if one.norm is not None]
    assert len(norms) == len(ready.norms) > 0

    def same() -> None:
        wanted, found = (record_outputs(m, dataset.test.x) for m in (normal, frozen))
        for key in wanted:  # float32 folds in another order: now and then a value rounds elsewhere
            apart = np.abs(wanted[key] - found[key])
            assert np.mean(apart < 1e-4) > 0.97

    same()
    before = [np.asarray(norm.moving_mean) for norm in norms]
    fine_tune(normal, dataset, epochs=1, learning_rate=0.01, batch_size=16, seed=0)
    after = [np.asarray(norm.moving_mean) for norm in norms]
    assert all(not np.allclose(a, b, rtol=1e-3) for a, b in zip(before, after, strict=True))
    take_folded(frozen, normal)
    same()
    assert not [w for w in frozen.weights if "moving" in w.path]  # nothing is left to follow
    assert all(one.norm is None for one in quantized_layers(frozen))


def test_what_cannot_be_trained_as_quantized_stays_and_is_named(dataset: Dataset) -> None:
    import keras

    from edgekit.compress import qat
    from edgekit.training.evaluate import record_outputs

    layers = keras.layers
    keras.utils.set_random_seed(0)
    x = keras.Input((8, 8, 1), name="x")
    h = layers.Masking()(layers.Reshape((8, 8))(x))
    h = layers.GRU(6, return_sequences=True, name="masked")(h)
    h = layers.MultiHeadAttention(2, 4, name="causal")(h, h, use_causal_mask=True)
    h = layers.Conv3D(2, 1, name="volume")(layers.Reshape((8, 2, 3, 1))(h))
    h = layers.MultiHeadAttention(1, 4, name="spared")(*[layers.Reshape((8, 12))(h)] * 2)
    h = layers.Dense(4, name="last")(h)
    model = keras.Model(x, layers.Dense(3, name="logits")(layers.Flatten()(h)))
    result = qat(model, dataset, epochs=0, skip=["last", "spared/query"])
    named = {row["layer"].split("/")[0] for row in result.report["untreated"]}
    assert named == {"masked", "causal", "volume", "spared", "last"}
    assert [row["layer"] for row in result.report["layers"]] == ["logits"]
    inside = dataset.calibration.x  # of the ranges
    wanted = record_outputs(model, inside)["logits"]
    found = record_outputs(result.model, inside)["logits"]
    assert np.abs(found - wanted).max() < 0.1 * np.abs(wanted).max()
    with pytest.raises(PreconditionError, match="cannot be trained as quantized"):
        qat(model, dataset, epochs=0, strict=True)


def test_several_outputs_learn_from_the_float_model(dataset: Dataset) -> None:
    import keras

    from edgekit.compress import qat

    layers = keras.layers
    keras.utils.set_random_seed(0)
    x = keras.Input((8, 8, 1), name="x")
    h = layers.Dense(8, activation="relu")(layers.Flatten()(x))
    outputs = [layers.Dense(3, name="logits")(h), layers.Dense(2, name="size")(h)]
    model = keras.Model(x, outputs)
    result = qat(model, dataset, epochs=3, weight_bits=3, learning_rate=0.01)
    losses = result.report["history"]["loss"]
    assert losses[-1] < 0.7 * losses[0]
    with pytest.raises(PreconditionError, match="labels are for one"):
        qat(model, dataset, epochs=1, distill=0.5)


@pytest.mark.parametrize(("name", "weight_bits"), [("residual", 8), ("depthwise", 4)])
def test_zeros_and_shared_weights_stay(
    name: str, weight_bits: int, trained: Callable[[str], Any], dataset: Dataset
) -> None:
    from edgekit.compress import cluster, prune, qat
    from edgekit.compress.kernels import find_kernels
    from edgekit.models.fakequant import integers, quantized_layers

    pruned = prune(trained(name), dataset, sparsity=0.5, epochs=1).model
    small = cluster(pruned, clusters=6, epochs=0).model
    result = qat(small, dataset, epochs=2, learning_rate=0.005, weight_bits=weight_bits)
    before = {kernel.layer: kernel.values for kernel in find_kernels(small)[0]}
    moved = False
    for layer in quantized_layers(result.model):
        old = before[layer.name.removesuffix("_raw")]
        stored = integers(layer)
        assert not np.any(stored[old == 0]), layer.name
        channels = np.moveaxis(stored, layer.rules["kernel"], range(len(layer.rules["kernel"])))
        flat = channels.reshape(
            -1, stored.size // np.prod(channels.shape[: len(layer.rules["kernel"])])
        )
        assert max(np.unique(row[row != 0]).size for row in flat) <= 6
        moved |= not np.allclose(layer.kernel.numpy(), old)
    assert moved


@pytest.mark.parametrize("ranges", ["moving", "learnt"])
def test_training_wins_back_what_few_bits_cost(
    ranges: str, trained: Callable[[str], Any], dataset: Dataset
) -> None:
    from edgekit.compress import qat
    from edgekit.training.evaluate import record_outputs

    model = trained("depthwise")
    float_loss, ptq, tuned = (
        _cross_entropy(record_outputs(one, dataset.test.x)["logits"], dataset.test.y)
        for one in (
            model,
            qat(model, dataset, weight_bits=2, epochs=0).model,
            qat(
                model,
                dataset,
                weight_bits=2,
                epochs=16,
                ranges=ranges,
                learning_rate=0.005,
                batch_size=16,
            ).model,
        )
    )
    assert ptq > float_loss + 0.1
    assert tuned - float_loss < 0.5 * (ptq - float_loss)


def _cross_entropy(logits: np.ndarray, y: np.ndarray) -> float:
    shifted = logits - logits.max(axis=1, keepdims=True)
    log = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return float(-log[np.arange(len(y)), y].mean())


def test_learnt_steps_have_the_gradient_of_the_paper() -> None:
    """Against Esser et al. 2020, equation 3, written with rounding passed straight through."""
    import tensorflow as tf
    from keras import ops

    from edgekit.models.fakequant import _learnt_fake_quant

    random = np.random.default_rng(0)
    x = tf.constant(random.normal(0, 1, (50, 4)).astype(np.float32))
    end = tf.constant(np.array([0.5, 1.0, 2.0, 4.0], np.float32))
    up = tf.constant(random.normal(0, 1, (50, 4)).astype(np.float32))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, end])
        mine = tf.reduce_sum(up * _learnt_fake_quant(x, -end, end, 4, 1))
        step = end / 7
        inner = tf.clip_by_value(x / step, -7, 7)
        rounded = inner + tf.stop_gradient(tf.floor(inner + 0.5) - inner)
        theirs = tf.reduce_sum(up * rounded * step)
    np.testing.assert_allclose(mine, theirs, rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(mine, x), tape.gradient(theirs, x), rtol=1e-5)
    scaled = ops.convert_to_numpy(tape.gradient(theirs, end)) / np.sqrt(50 * 7)
    np.testing.assert_allclose(tape.gradient(mine, end), scaled, rtol=1e-3, atol=1e-5)
