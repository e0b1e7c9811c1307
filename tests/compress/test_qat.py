"""Quantization-aware training: the graph it makes, and what it keeps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.base.errors import PreconditionError
from edgekit.data.dataset import Dataset
from tests.compress.qat_nets import NETS

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", list(NETS))
def test_the_copy_has_the_inputs_outputs_and_accuracy_of_the_model(
    name: str, qat_nets: Callable[[str], Any], dataset: Dataset, tmp_path: Path
) -> None:
    from edgekit.compress import qat
    from edgekit.models.files import as_functional, load_model, save_model
    from edgekit.training.evaluate import evaluate, record_outputs
    from edgekit.training.task import last_activation

    before = qat_nets(name)
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
    qat_nets: Callable[[str], Any], dataset: Dataset
) -> None:
    from edgekit.compress import qat

    result = qat(qat_nets("branches"), dataset, epochs=0)
    shared = result.model.get_layer("joined_range")
    assert shared.slots == 3  # convolution, ReLU, and all together with the sigmoid's known range
    low, high = (np.asarray(end) for end in (shared.low, shared.high))
    assert np.all(high > 0)
    wider = float(shared.limits()[1]) / high.max()  # for the step to be one over a whole number
    assert 1 <= wider < 1.15
    np.testing.assert_allclose(float(shared.limits()[0]), wider * low.min(), rtol=1e-5)


def test_a_known_range_is_brought_to_a_scale_without_an_error_of_its_own(
    qat_nets: Callable[[str], Any], dataset: Dataset
) -> None:
    """XNNPACK's conversions multiply by the ratio of two scales, rounded to 1/256."""
    from edgekit.compress import qat
    from edgekit.models.fakequant import FIXED_RANGES, fake_quant_layers, range_of

    result = qat(qat_nets("branches"), dataset, epochs=1, learning_rate=0.002)
    found = {layer.name: layer for layer in fake_quant_layers(result.model) if layer.reciprocal}
    assert list(found) == ["joined_range"]
    low, high = range_of(found["joined_range"])
    ratio = (FIXED_RANGES["sigmoid"][1] / 255) / ((high - low) / 255)
    np.testing.assert_allclose(256 * ratio, np.round(256 * ratio), atol=1e-3)


@pytest.mark.parametrize(("name", "weight_bits"), [("residual", 8), ("depthwise", 4)])
def test_normalizations_follow_the_batches_and_then_freeze(
    name: str, weight_bits: int, qat_nets: Callable[[str], Any], dataset: Dataset
) -> None:
    from dataclasses import replace

    from edgekit.compress.qat_graph import Settings, quantized_model
    from edgekit.compress.quantization_aware import Qat, QatArgs, calibrate, take_folded
    from edgekit.models.fakequant import quantized_layers
    from edgekit.training.evaluate import record_outputs
    from edgekit.training.fit import fine_tune

    ready = Qat(QatArgs())._prepared(qat_nets(name))
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
    name: str, weight_bits: int, qat_nets: Callable[[str], Any], dataset: Dataset
) -> None:
    from edgekit.compress import cluster, prune, qat
    from edgekit.compress.kernels import find_kernels
    from edgekit.models.fakequant import integers, quantized_layers

    pruned = prune(qat_nets(name), dataset, sparsity=0.5, epochs=1).model
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
    ranges: str, qat_nets: Callable[[str], Any], dataset: Dataset
) -> None:
    from edgekit.compress import qat
    from edgekit.training.evaluate import record_outputs

    model = qat_nets("depthwise")
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

    from edgekit.models.fake_rounding import learnt_fake_quant

    random = np.random.default_rng(0)
    x = tf.constant(random.normal(0, 1, (50, 4)).astype(np.float32))
    end = tf.constant(np.array([0.5, 1.0, 2.0, 4.0], np.float32))
    up = tf.constant(random.normal(0, 1, (50, 4)).astype(np.float32))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, end])
        mine = tf.reduce_sum(up * learnt_fake_quant(x, -end, end, 4, 1))
        step = end / 7
        inner = tf.clip_by_value(x / step, -7, 7)
        rounded = inner + tf.stop_gradient(tf.floor(inner + 0.5) - inner)
        theirs = tf.reduce_sum(up * rounded * step)
    np.testing.assert_allclose(mine, theirs, rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(mine, x), tape.gradient(theirs, x), rtol=1e-5)
    scaled = ops.convert_to_numpy(tape.gradient(theirs, end)) / np.sqrt(50 * 7)
    np.testing.assert_allclose(tape.gradient(mine, end), scaled, rtol=1e-3, atol=1e-5)
