"""`correct_bias` and `adaround`: what they promise, and what the real int8 file makes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import edgekit.compress
from edgekit.base.errors import PreconditionError
from edgekit.compress.channels import KINDS, by_output
from edgekit.compress.grid import nearest, on_grid, weight_steps
from edgekit.data.dataset import Dataset, Split

QUICK: dict[str, Any] = {"adaround": {"steps": 60}, "correct_bias": {}}
both = pytest.mark.parametrize("name", QUICK)
kernels = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=4, max_dims=4, max_side=4),
    elements=st.floats(-100, 100, width=32),
)


@given(st.sampled_from([kind for kind in KINDS if kind.endswith(("2D", "2DTranspose"))]), kernels)
def test_the_grid_is_what_absmax_by_127_gives_again(kind: str, kernel: Any) -> None:
    rounded = nearest(kind, kernel)
    assert on_grid(kind, rounded)
    steps = weight_steps(kind, kernel)
    assert np.abs(rounded - kernel).max() <= steps.max() * 0.5 * (1 + 1e-5)
    np.testing.assert_array_equal(rounded[kernel == 0], 0)
    np.testing.assert_allclose(nearest(kind, rounded), rounded, rtol=1e-6, atol=1e-37)
    for column, before in zip(by_output(kind, rounded).T, by_output(kind, kernel).T, strict=True):
        assert len(np.unique(column)) <= len(np.unique(before))


def network(seed: int = 0) -> Any:
    """All kinds of kernels, behind normalizations with statistics as after training."""
    import keras

    layers = keras.layers
    image = keras.Input((8, 8, 1), name="x")
    x = layers.Conv2D(8, 3, use_bias=False, name="conv")(image)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(x))
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu6", name="deep")(x)
    y = layers.Conv2D(8, 1, use_bias=False, name="point")(x)
    x = layers.ReLU(name="relu2")(layers.Add(name="add")([x, y]))
    x = layers.Conv2DTranspose(6, 2, strides=2, activation="relu", name="up")(x)
    x = layers.GlobalAveragePooling2D(name="average")(x)
    model = keras.Model(image, layers.Dense(3, name="head")(x))
    random = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.name in ("moving_variance", "gamma"):
            values = random.uniform(0.5, 2, weight.shape)
        else:
            values = random.normal(0, 0.4, weight.shape)
        weight.assign(values.astype(np.float32))
    return model


def int8_file(model: Any, dataset: Dataset, folder: Path) -> Path:
    from edgekit.export.savedmodel import write
    from edgekit.export.tflite import convert

    write(model, folder / "saved", batch=1)
    np.savez(folder / "x.npz", **dataset.calibration.x)  # type: ignore[arg-type]
    convert(
        saved_model=str(folder / "saved"),
        output=str(folder / "m.tflite"),
        precision="int8",
        calibration=str(folder / "x.npz"),
        calibration_samples=None,
    )
    return folder / "m.tflite"


def snr(wanted: Any, found: Any) -> float:
    return float(10 * np.log10(np.sum(wanted**2) / np.sum((wanted - found) ** 2)))


def outputs(model: Any, x: dict[str, Any]) -> Any:
    from edgekit.training.evaluate import record_outputs

    return next(iter(record_outputs(model, x).values()))


@pytest.mark.slow
@both
def test_the_real_int8_file_holds_the_weights_and_computes_nearer(
    tmp_path: Path, dataset: Dataset, name: str
) -> None:
    from edgekit.runtimes.open import open_session
    from edgekit.runtimes.session import predict

    model = network()
    result = getattr(edgekit.compress, name)(model, dataset, **QUICK[name])
    assert [row["layer"] for row in result.report["layers"]] == [
        *("conv", "deep", "point", "up", "head"),
    ]
    assert result.report["untreated"] == []
    assert all(row["snr_db"] >= row["snr_db_before"] - 0.01 for row in result.report["layers"])
    wanted = outputs(model, dataset.test.x)
    reached = {}
    for label, one in (("before", model), ("after", result.model)):
        (tmp_path / label).mkdir()
        with open_session(int8_file(one, dataset, tmp_path / label)) as session:
            found = next(iter(predict(session, dataset.test.x).values()))
        reached[label] = snr(wanted, found)
    assert reached["after"] > reached["before"] + 0.3
    written = [np.sort(codes) for codes in codes_in(tmp_path / "after" / "m.tflite")]
    for row in result.report["layers"]:
        kernel = result.model.get_layer(row["layer"]).kernel.numpy()
        codes = np.sort(np.round(kernel / weight_steps(row["kind"], kernel)).ravel())
        assert any(np.array_equal(codes, other) for other in written), row["layer"]


def codes_in(path: Path) -> list[Any]:
    """All int8 constants of a .tflite file, flat."""
    from tflite.Model import Model

    model = Model.GetRootAs(path.read_bytes(), 0)
    graph = model.Subgraphs(0)
    buffers = [model.Buffers(graph.Tensors(i).Buffer()) for i in range(graph.TensorsLength())]
    return [b.DataAsNumpy().view(np.int8) for b in buffers if b.DataLength()]


@pytest.mark.slow
@both
def test_each_layer_has_the_mean_of_the_float_layer(dataset: Dataset, name: str) -> None:
    """Recomputed for the first layer, where the input is known: its step is min-max by 255."""
    import keras

    from edgekit.compress.folding import fold_batch_norm

    model = network()
    result = getattr(edgekit.compress, name)(model, dataset, **QUICK[name])
    folded, _ = fold_batch_norm(model)
    x = dataset.calibration.x["x"]
    low, high = min(float(x.min()), 0), float(x.max())
    step = (high - low) / 255
    zero = np.round(-128 - low / step)
    coded = (np.clip(np.round(x / step) + zero, -128, 127) - zero) * step

    def means(one: Any, values: Any) -> Any:
        layer = keras.Model(one.inputs, one.get_layer("conv").output)
        return np.asarray(layer(values)).mean(axis=(0, 1, 2))

    plain = nearest("Conv2D", folded.get_layer("conv").kernel.numpy())
    wanted = means(folded, x)
    np.testing.assert_allclose(means(result.model, coded.astype(np.float32)), wanted, atol=2e-5)
    folded.get_layer("conv").kernel.assign(plain)
    assert np.abs(means(folded, coded.astype(np.float32)) - wanted).max() > 1e-4


@pytest.mark.slow
def test_learnt_rounding_beats_the_nearest(dataset: Dataset) -> None:
    """Few directions in the samples, and a large weight on an idle input: coarse steps to spend."""
    import keras

    random = np.random.default_rng(0)
    image = keras.Input((40,), name="x")
    model = keras.Model(image, keras.layers.Dense(6, name="dense")(image))
    kernel, bias = random.normal(size=(40, 6)), random.normal(size=6)
    kernel[0] = 30
    model.get_layer("dense").set_weights([kernel, bias])
    mixed = random.normal(size=(64, 4)) @ random.normal(size=(4, 40))
    mixed[:, 0] = 0
    split = Split({"x": mixed.astype(np.float32)}, np.zeros(64, np.int32))
    data = replace(dataset, train=split, calibration=split, validation=split, test=split)
    near = edgekit.compress.correct_bias(model, data).report["layers"][0]
    learnt = edgekit.compress.adaround(model, data, steps=300).report["layers"][0]
    assert near["rounded_otherwise"] == 0 < learnt["rounded_otherwise"]
    assert learnt["snr_db"] > near["snr_db"] + 3


@pytest.mark.slow
@both
def test_zeros_stay_and_centroids_stay_few(dataset: Dataset, name: str) -> None:
    model = network()
    random = np.random.default_rng(1)
    for layer in ("conv", "point", "up", "head"):
        kernel = model.get_layer(layer).kernel
        values = kernel.numpy() * (random.random(kernel.shape) < 0.5)
        kernel.assign(np.round(values * 8) / 8 if layer in ("point", "up") else values)
    result = getattr(edgekit.compress, name)(model, dataset, **QUICK[name])
    for layer in ("conv", "point", "up", "head"):
        old, new = (m.get_layer(layer) for m in (model, result.model))
        np.testing.assert_array_equal(new.kernel.numpy()[old.kernel.numpy() == 0], 0)
        kind = type(old).__name__
        if layer in ("point", "up"):
            for a, b in zip(
                by_output(kind, old.kernel.numpy()).T,
                by_output(kind, new.kernel.numpy()).T,
                strict=True,
            ):
                assert len(np.unique(b)) <= len(np.unique(a))


@pytest.mark.slow
@both
def test_nested_shared_and_multiple_inputs_and_what_stays(dataset: Dataset, name: str) -> None:
    import keras

    layers = keras.layers
    block = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.SeparableConv2D(4, 3, activation="relu", name="separable"),
            layers.GlobalAveragePooling2D(),
        ],
        name="block",
    )
    a, b = keras.Input((8, 8, 1), name="a"), keras.Input((8, 8, 1), name="b")
    tokens = keras.Input((5,), dtype="int32", name="tokens")
    words = layers.LSTM(4, name="lstm")(
        layers.Embedding(9, 4, mask_zero=True, name="words")(tokens)
    )
    x = layers.Concatenate()([block(a), block(b), words])
    y = layers.Dense(2, name="asked")(x)
    model = keras.Model([a, b, tokens], [layers.Dense(3, activation="softmax", name="out")(x), y])
    x = dataset.calibration.x["x"][:20]
    given = {"a": x, "b": x[::-1], "tokens": np.arange(100, dtype=np.int32).reshape(20, 5) % 9}
    data = replace(dataset, calibration=Split(given, np.zeros(20, np.int32)))
    run = getattr(edgekit.compress, name)
    result = run(model, data, skip=["asked"], **QUICK[name])
    assert {row["layer"] for row in result.report["layers"]} == {"block/conv", "out"}
    reasons = {row["layer"]: row["reason"] for row in result.report["untreated"]}
    assert reasons.pop("words") == "its rows are looked up, not multiplied"
    assert reasons == {
        "block/separable": "it is no convolution or dense layer",
        "lstm/lstm_cell": "it is no convolution or dense layer",
        "asked": "skipped as asked",
    }
    assert snr(outputs(model, given), outputs(result.model, given)) > 25
    with pytest.raises(PreconditionError, match="block/separable: it is no convolution"):
        run(model, data, strict=True)


@pytest.mark.slow
@both
def test_without_calibration_samples_it_says_so(name: str) -> None:
    with pytest.raises(PreconditionError, match="needs calibration samples"):
        getattr(edgekit.compress, name)(network())


@pytest.mark.slow
def test_the_chain_from_a_model_file_to_a_proven_int8_file(
    tmp_path: Path, dataset: Dataset
) -> None:
    from edgekit.models.files import save_model
    from edgekit.pipeline.compress_file import compress_file

    save_model(network(), tmp_path / "m.keras")
    np.savez(tmp_path / "x.npz", x=dataset.calibration.x["x"])
    report = compress_file(
        tmp_path / "m.keras",
        ["equalize", "adaround(steps=20)", "quantize(precision='int8')"],
        tmp_path / "m.tflite",
        data=tmp_path / "x.npz",
    )
    assert [one["pass"] for one in report.passes] == ["equalize", "adaround", "quantize"]
    assert report.artifact is not None
    assert report.artifact.precision == "int8"
    with pytest.raises(PreconditionError, match="put 'quantize' last"):
        compress_file(
            tmp_path / "m.keras",
            ["quantize", "equalize"],
            tmp_path / "m.tflite",
            data=tmp_path / "x.npz",
        )
