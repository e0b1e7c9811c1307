"""The function stays exactly; what a bad scaling of channels costs in int8 comes back."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgekit.compress
from edgekit.base.errors import PreconditionError
from edgekit.compress.channels import by_output, input_factors, is_clustered, output_factors
from edgekit.data.dataset import Dataset, Split
from edgekit.schema.artifact import Preprocessing

pytestmark = pytest.mark.slow


def data(model: Any, count: int = 64, seed: int = 0) -> Dataset:
    random = np.random.default_rng(seed)
    x = {
        tensor.name: random.normal(size=(count, *tensor.shape[1:])).astype(np.float32)
        for tensor in model.inputs
    }
    split = Split(x, np.zeros(count, np.int32))
    return Dataset(split, split, split, split, (), Preprocessing())


def run(model: Any, dataset: Dataset) -> list[Any]:
    from edgekit.models.files import as_functional
    from edgekit.training.evaluate import record_outputs

    return list(record_outputs(as_functional(model), dataset.test.x).values())


def check_same(model: Any, other: Any) -> None:
    dataset = data(model)
    for old, new in zip(run(model, dataset), run(other, dataset), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-3, atol=1e-4 * np.abs(old).max())


def scaled_badly(model: Any, seed: int = 0) -> Any:
    """Kernels whose input channels differ by powers of two, biases that matter."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.name == "moving_variance":
            values = random.uniform(0.5, 2, weight.shape)
        elif weight.name == "gamma":
            values = 2.0 ** random.integers(-3, 4, weight.shape)
        else:
            values = random.normal(0, 0.3, weight.shape)
        weight.assign(values.astype(np.float32))
    return model


LAYERS: dict[str, Callable[[Any], Any]] = {
    "conv": lambda k: k.Conv2D(4, 3, padding="same", activation="relu"),
    "linear conv": lambda k: k.Conv2D(6, 1, use_bias=False),
    "grouped": lambda k: k.Conv2D(4, 3, groups=2, padding="same"),
    "depthwise": lambda k: k.DepthwiseConv2D(3, depth_multiplier=2, padding="same"),
    "transposed": lambda k: k.Conv2DTranspose(4, 2, strides=2, activation="leaky_relu"),
    "separable": lambda k: k.SeparableConv2D(4, 3, padding="same"),
    "norm": lambda k: k.BatchNormalization(),
    "relu": lambda k: k.ReLU(),
    "leaky": lambda k: k.LeakyReLU(),
    "prelu": lambda k: k.PReLU(shared_axes=[1, 2]),
    "relu6": lambda k: k.ReLU(6.0),
    "tanh": lambda k: k.Activation("tanh"),
    "pool": lambda k: k.AveragePooling2D(2, padding="same"),
    "max": lambda k: k.MaxPooling2D(2, padding="same"),
    "pad": lambda k: k.ZeroPadding2D(1),
    "up": lambda k: k.UpSampling2D(interpolation="bilinear"),
}


@settings(max_examples=12, deadline=None)
@given(
    names=st.lists(st.sampled_from(sorted(LAYERS)), min_size=2, max_size=6),
    end=st.sampled_from(["Flatten", "GlobalAveragePooling2D"]),
    branch=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_network_computes_the_same(names: list[str], end: str, branch: bool, seed: int) -> None:
    import keras

    layers = keras.layers
    image = keras.Input((4, 4, 2), name="image")
    x = layers.Conv2D(4, 3, padding="same")(image)
    for name in ["grouped", *names] if "grouped" in names else names:
        if name != "grouped" or x.shape[-1] % 2 == 0:
            x = LAYERS[name](layers)(x)
    x = layers.Conv2D(4, 1)(x)
    if branch:
        x = layers.Add()([x, layers.Conv2D(4, 1)(x)])
    x = getattr(layers, end)()(x)
    model = scaled_badly(keras.Model(image, layers.Dense(3)(x)), seed)
    result = edgekit.compress.equalize(model, data(model))
    check_same(model, result.model)


def narrow_depthwise(seed: int = 0) -> Any:
    """Three separable blocks after random channel scaling by 2^-4 to 2^2, the function kept."""
    import keras

    layers = keras.layers
    image = keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="stem")(image)
    for index in range(3):
        x = layers.DepthwiseConv2D(3, padding="same", activation="relu", name=f"deep{index}")(x)
        x = layers.Conv2D(8 * (index + 1), 1, activation="relu", name=f"point{index}")(x)
    x = layers.GlobalAveragePooling2D(name="average")(x)
    model = keras.Model(image, layers.Dense(4, name="head")(x))
    random = np.random.default_rng(seed)
    for weight in model.weights:
        fan_in = max(1, int(np.prod(weight.shape[:-1]))) if len(weight.shape) > 1 else 100
        fan_in = 9 if "deep" in weight.path else fan_in
        weight.assign(random.normal(0, np.sqrt(2 / fan_in), weight.shape).astype(np.float32))
    chain = [layer for layer in model.layers if layer.weights]
    for first, second in pairwise(chain):
        kinds = type(first).__name__, type(second).__name__
        kernels = first.kernel.numpy(), second.kernel.numpy()
        channels = by_output(kinds[0], kernels[0]).shape[1]
        factor = np.exp2(random.integers(-4, 3, channels)).astype(np.float32)
        first.kernel.assign(kernels[0] * output_factors(kinds[0], kernels[0], factor))
        first.bias.assign(first.bias.numpy() * factor)
        second.kernel.assign(kernels[1] / input_factors(kinds[1], kernels[1], factor))
    return model


def int8_snr(model: Any, reference: Any, folder: Path) -> float:
    """dB of the real int8 TFLite file of a model against the float reference."""
    from edgekit.export.savedmodel import write
    from edgekit.export.tflite import convert
    from edgekit.runtimes.open import open_session
    from edgekit.runtimes.session import predict

    folder.mkdir()
    dataset = data(reference, 256)
    write(model, folder / "saved", batch=1)
    np.savez(folder / "x.npz", **dataset.calibration.x)  # type: ignore[arg-type]
    convert(
        saved_model=str(folder / "saved"),
        output=str(folder / "m.tflite"),
        precision="int8",
        calibration=str(folder / "x.npz"),
        calibration_samples=128,
    )
    other = data(reference, 64, seed=1)
    wanted = run(reference, other)[0]
    with open_session(folder / "m.tflite") as session:
        found = next(iter(predict(session, other.test.x).values()))
    return float(10 * np.log10(np.sum(wanted**2) / np.sum((wanted - found) ** 2)))


def test_a_badly_scaled_network_regains_what_int8_took(tmp_path: Path) -> None:
    model = narrow_depthwise()
    result = edgekit.compress.equalize(model, data(model))
    check_same(model, result.model)
    rows = result.report["layers"]
    assert [row["with"] for row in rows] == [
        *("deep0", "point0", "deep1", "point1", "deep2", "point2"),
        "head",
    ]
    assert result.report["untreated"] == []
    before = int8_snr(model, model, tmp_path / "before")
    after = int8_snr(result.model, model, tmp_path / "after")
    assert after > before + 15


def test_factors_of_channels_fit_flattened_and_grouped_kernels() -> None:
    factors = np.array([1.0, 2, 3, 4])
    dense = input_factors("Dense", np.ones((8, 3)), factors)
    np.testing.assert_array_equal(dense[:, 0], [1, 2, 3, 4, 1, 2, 3, 4])
    grouped = input_factors("Conv2D", np.ones((3, 3, 2, 6)), factors)
    np.testing.assert_array_equal(grouped, [[1, 1, 1, 3, 3, 3], [2, 2, 2, 4, 4, 4]])


def test_what_cannot_be_equalized_is_named_or_an_error() -> None:
    import keras

    layers = keras.layers
    image = keras.Input((4, 4, 3), name="image")
    x = layers.Conv2D(4, 1, activation="relu6", name="six")(image)
    x = layers.Activation("tanh", name="bounded")(layers.Conv2D(4, 1, name="before_tanh")(x))
    shared = layers.Conv2D(4, 1, name="shared")
    x = shared(shared(x))
    x = layers.Conv2D(4, 1, name="branches")(x)
    x = layers.Add(name="add")([x, image[..., :1]])
    x = layers.Conv2D(16, 1, name="asked", activation="relu")(x)
    x = layers.Conv2D(4, 1, name="last")(x)
    model = scaled_badly(keras.Model(image, x))
    result = edgekit.compress.equalize(model, skip=["asked"])
    assert {row["layer"]: row["reason"] for row in result.report["untreated"]} == {
        "six": "its activation relu6 does not scale with its input",
        "before_tanh": "'bounded' (Activation) behind it does not scale with its input",
        "shared": "it is shared: called more than once",
        "branches": "'add' (Add) behind it does not scale with its input",
        "asked": "skipped as asked",
        "last": "it leads to an output of the model",
    }
    assert result.model is model
    with pytest.raises(PreconditionError, match="six: its activation relu6"):
        edgekit.compress.equalize(model, strict=True)
    replaced = edgekit.compress.equalize(model, skip=["asked"], replace_relu6=True)
    assert replaced.report["warnings"] == ["'six' was ReLU6 and is ReLU now"]
    assert [row["layer"] for row in replaced.report["layers"]] == ["six"]


def test_zeros_and_centroids_stay() -> None:
    import keras

    layers = keras.layers
    random = np.random.default_rng(0)
    sequence = [keras.Input((6, 6, 3))]
    for index in range(4):
        sequence.append(layers.Conv2D(16, 3, padding="same", name=f"c{index}"))
        sequence.append(layers.BatchNormalization(name=f"n{index}"))
        sequence.append(layers.ReLU())
    model = scaled_badly(keras.Sequential(sequence))
    kernels = [model.get_layer(f"c{index}").kernel for index in range(4)]
    masks = [random.random(kernel.shape) < 0.5 for kernel in kernels]
    kernels[2].assign(np.round(kernels[2].numpy() * 4) / 4)
    for kernel, mask in zip(kernels, masks, strict=True):
        kernel.assign(kernel.numpy() * mask)
    assert is_clustered(kernels[2].numpy())
    result = edgekit.compress.equalize(model)
    after = [result.model.get_layer(f"c{index}").kernel.numpy() for index in range(4)]
    for kernel, new in zip(kernels, after, strict=True):
        np.testing.assert_array_equal(new == 0, kernel.numpy() == 0)
    np.testing.assert_array_equal(after[2], kernels[2].numpy())
    check_same(model, result.model)
    assert [row["layer"] for row in result.report["layers"]] == ["c0"]
