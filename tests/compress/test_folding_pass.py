"""`fold`: normalizations go into the layers before or behind them, where that is exact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgekit.compress
from edgekit.base.errors import PreconditionError
from tests.compress.test_folding import check_same, kinds, randomized

pytestmark = pytest.mark.slow


def behind(make: Callable[[Any, Any], Any], shape: tuple[int, ...], *, center: bool = True) -> Any:
    """ReLU, normalization, and what `make` puts behind it."""
    import keras

    x = image = keras.Input(shape, name="x")
    x = keras.layers.ReLU(name="relu")(x)
    norm = keras.layers.BatchNormalization(name="norm", center=center)
    model = randomized(keras.Model(image, make(keras.layers, norm(x))))
    if not center:
        norm.moving_mean.assign(np.zeros_like(norm.moving_mean.numpy()))
    return model


EXACT: dict[str, tuple[Callable[[Any, Any], Any], tuple[int, ...]]] = {
    "Conv1D": (lambda k, x: k.Conv1D(5, 3, name="l")(x), (9, 4)),
    "Conv2D": (lambda k, x: k.Conv2D(5, 3, strides=2, activation="relu", name="l")(x), (8, 8, 4)),
    "Conv2D groups": (lambda k, x: k.Conv2D(6, 3, groups=2, name="l")(x), (8, 8, 4)),
    "Conv2D 1x1 same": (
        lambda k, x: k.Conv2D(5, 1, padding="same", use_bias=False, name="l")(x),
        (8, 8, 4),
    ),
    "DepthwiseConv2D": (
        lambda k, x: k.DepthwiseConv2D(3, depth_multiplier=2, name="l")(x),
        (8, 8, 4),
    ),
    "Dense": (lambda k, x: k.Dense(5, use_bias=False, name="l")(x), (7,)),
    "Dense on a sequence": (lambda k, x: k.Dense(5, name="l")(x), (4, 7)),
    "Flatten, Dense": (lambda k, x: k.Dense(5, name="l")(k.Flatten()(x)), (3, 3, 4)),
    "pooled": (
        lambda k, x: k.Dense(5, name="l")(k.Dropout(0.5)(k.GlobalAveragePooling2D()(x))),
        (3, 3, 4),
    ),
    "average": (lambda k, x: k.Conv2D(5, 2, name="l")(k.AveragePooling2D(2)(x)), (8, 8, 4)),
    "upsampled": (
        lambda k, x: k.Conv2D(5, 2, name="l")(k.UpSampling2D(interpolation="bilinear")(x)),
        (4, 4, 4),
    ),
}


@pytest.mark.parametrize("case", EXACT)
def test_what_comes_behind_takes_the_normalization(case: str) -> None:
    model = behind(*EXACT[case])
    result = edgekit.compress.fold(model)
    check_same(model, result.model)
    assert "BatchNormalization" not in kinds(result.model)
    assert result.report == {
        "layers": [{"layer": "norm", "kind": "BatchNormalization", "into": "l"}],
        "untreated": [],
    }


@settings(max_examples=12, deadline=None)
@given(
    kernel=st.integers(1, 3),
    padding=st.sampled_from(["same", "valid"]),
    center=st.booleans(),
    groups=st.sampled_from([1, 2]),
    seed=st.integers(0, 99),
)
def test_folded_or_not_it_computes_the_same(
    kernel: int, padding: str, center: bool, groups: int, seed: int
) -> None:
    def make(layers: Any, x: Any) -> Any:
        return layers.Conv2D(4, kernel, padding=padding, groups=groups)(x)

    model = behind(make, (6, 6, 4), center=center)
    random = np.random.default_rng(seed)
    mask = random.random((kernel, kernel, 4 // groups, 4)) < 0.5
    conv = model.layers[-1]
    conv.kernel.assign(conv.kernel.numpy() * mask)
    result = edgekit.compress.fold(model)
    check_same(model, result.model)
    exact = padding == "valid" or kernel == 1 or not center
    assert result.modified == exact
    np.testing.assert_array_equal(result.model.layers[-1].kernel.numpy() != 0, mask)


def test_both_ways_in_nested_models_with_several_inputs_and_consumers() -> None:
    import keras

    layers = keras.layers
    a, b = keras.Input((6, 6, 4), name="a"), keras.Input((6, 6, 4), name="b")
    inner = keras.Sequential(
        [
            keras.Input((6, 6, 4)),
            layers.Conv2D(4, 3, padding="same", name="conv"),
            layers.BatchNormalization(name="first"),
            layers.ReLU(),
            layers.BatchNormalization(name="last"),
        ],
        name="inner",
    )
    x = inner(a)
    y = layers.Concatenate(name="both")([layers.Conv2D(3, 3, name="left")(x), b[:, 1:5, 1:5]])
    y = layers.BatchNormalization(name="after_concat")(y)
    out = layers.Conv2D(2, 2, name="head")(y), layers.Conv2D(3, 1, name="right")(x)
    model = randomized(keras.Model([a, b], out))
    result = edgekit.compress.fold(model)
    check_same(model, result.model)
    assert "BatchNormalization" not in kinds(result.model)
    assert [(row["layer"], row["into"]) for row in result.report["layers"]] == [
        ("inner/first", "inner/conv"),
        ("inner/last", "left, right"),
        ("after_concat", "head"),
    ]


def test_what_cannot_be_folded_stays_and_is_named_with_both_reasons() -> None:
    import keras

    layers = keras.layers
    image = keras.Input((8, 8, 4), name="image")
    x = layers.BatchNormalization(name="padded")(image)
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="one")(x)
    x = layers.BatchNormalization(name="nonlinear")(x)
    x = layers.ReLU(name="relu")(x)
    x = layers.BatchNormalization(name="rows", axis=1)(x)
    x = layers.Conv2D(4, 1, name="two", activation="relu")(x)
    x = layers.BatchNormalization(name="kept")(x)
    x = layers.Conv2D(4, 1, name="three", activation="relu")(x)
    x = layers.BatchNormalization(name="output")(x)
    model = randomized(keras.Model(image, x))
    result = edgekit.compress.fold(model, skip=["thr*"])
    assert not result.modified and result.model is model
    reasons = {row["layer"]: row["reason"].split("; ") for row in result.report["untreated"]}
    assert reasons == {
        "padded": [
            "it follows an input of the model",
            "'one' behind it pads with zeros, where the offset would be missing",
        ],
        "nonlinear": [
            "'one' before it ends in the activation relu",
            "'relu' (ReLU) behind it has no kernel to scale",
        ],
        "rows": [
            "it follows 'relu' (ReLU), which has no kernel to scale",
            "it normalizes axis 1, not the last",
        ],
        "kept": [
            "'two' before it ends in the activation relu",
            "'three' behind it is to keep its weights",
        ],
        "output": [
            "'three' before it ends in the activation relu",
            "it leads to an output of the model",
        ],
    }
    with pytest.raises(PreconditionError, match="padded"):
        edgekit.compress.fold(model, strict=True)


def test_few_centroids_stay_few() -> None:
    import keras

    image = keras.Input((8, 8, 4))
    conv = keras.layers.Conv2D(16, 3, name="conv")
    x = keras.layers.BatchNormalization(name="norm")(conv(image))
    model = randomized(keras.Model(image, x))
    conv.kernel.assign(np.sign(conv.kernel.numpy()) * 0.1)
    result = edgekit.compress.fold(model)
    assert not result.modified
    (row,) = result.report["untreated"]
    assert row["reason"].startswith("'conv' before it is to keep its weights")


def test_from_the_command_line(tmp_path: Path) -> None:
    from edgekit.cli.main import run
    from edgekit.models.files import load_model, save_model

    model = behind(*EXACT["Dense"])
    save_model(model, tmp_path / "m.keras")
    output = tmp_path / "folded.keras"
    options = ["--pass", "fold(strict=True)", "--output", str(output), "--quiet"]
    assert run(["compress", str(tmp_path / "m.keras"), *options]) == 0
    check_same(model, load_model(output))
