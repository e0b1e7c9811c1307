"""Against the unfolded model, with statistics and scales as after training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.compress.folding import fold_batch_norm

pytestmark = pytest.mark.slow


def randomized(model: Any, seed: int = 0) -> Any:
    """The model with weights as if trained: no scale is one, no mean is zero."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.name == "moving_variance":
            values = random.uniform(0.2, 3, weight.shape)
        elif weight.name == "gamma":
            values = random.uniform(-2, 2, weight.shape)
        else:
            values = random.normal(0, 0.5, weight.shape)
        weight.assign(values.astype(np.float32))
    return model


def outputs(model: Any, seed: int = 0) -> list[Any]:
    import keras

    random = np.random.default_rng(seed)
    x = [random.normal(size=(3, *t.shape[1:])).astype(np.float32) for t in model.inputs]
    y = model(x[0] if len(x) == 1 else x, training=False)
    return [np.asarray(one) for one in keras.tree.flatten(y)]


def check_same(model: Any, folded: Any) -> None:
    for before, after in zip(outputs(model), outputs(folded), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4 * np.abs(before).max())


def kinds(model: Any) -> list[str]:
    return [type(layer).__name__ for layer in model._flatten_layers(include_self=False)]


def chain(make: Callable[[Any], Any], shape: tuple[int, ...]) -> Any:
    import keras

    x = image = keras.Input(shape, name="x")
    x = make(keras.layers)(x)
    x = keras.layers.BatchNormalization(name="norm")(x)
    return randomized(keras.Model(image, keras.layers.ReLU(name="relu")(x)))


LAYERS: dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]] = {
    "Conv1D": (lambda k: k.Conv1D(5, 3, name="l"), (9, 3)),
    "Conv2D": (lambda k: k.Conv2D(5, 3, strides=2, use_bias=False, name="l"), (8, 8, 3)),
    "Conv2D groups": (lambda k: k.Conv2D(6, 3, groups=3, padding="same", name="l"), (8, 8, 3)),
    "Conv3D": (lambda k: k.Conv3D(2, 2, name="l"), (4, 4, 4, 2)),
    "Conv1DTranspose": (lambda k: k.Conv1DTranspose(5, 3, name="l"), (9, 3)),
    "Conv2DTranspose": (lambda k: k.Conv2DTranspose(5, 3, strides=2, name="l"), (4, 4, 3)),
    "DepthwiseConv1D": (lambda k: k.DepthwiseConv1D(3, name="l"), (9, 3)),
    "DepthwiseConv2D": (
        lambda k: k.DepthwiseConv2D(3, depth_multiplier=2, padding="same", name="l"),
        (8, 8, 3),
    ),
    "SeparableConv2D": (lambda k: k.SeparableConv2D(5, 3, name="l"), (8, 8, 3)),
    "Dense": (lambda k: k.Dense(5, name="l"), (7,)),
    "Dense on a sequence": (lambda k: k.Dense(5, use_bias=False, name="l"), (4, 7)),
}


@pytest.mark.parametrize("case", LAYERS)
def test_each_kind_computes_the_same_without_its_normalization(case: str) -> None:
    model = chain(*LAYERS[case])
    before = model.get_weights()
    folded, report = fold_batch_norm(model)
    check_same(model, folded)
    assert "BatchNormalization" not in kinds(folded)
    assert report["layers"] == [{"layer": "norm", "kind": "BatchNormalization", "into": "l"}]
    assert report["untreated"] == []
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@settings(max_examples=15, deadline=None)
@given(
    scale=st.booleans(),
    center=st.booleans(),
    bias=st.booleans(),
    epsilon=st.sampled_from([1e-5, 1e-3, 0.5]),
    seed=st.integers(0, 99),
)
def test_any_options_of_the_normalization(
    scale: bool, center: bool, bias: bool, epsilon: float, seed: int
) -> None:
    import keras

    norm = keras.layers.BatchNormalization(scale=scale, center=center, epsilon=epsilon)
    layers = [keras.Input((6, 6, 2)), keras.layers.Conv2D(3, 3, use_bias=bias), norm]
    model = randomized(keras.Sequential(layers), seed)
    folded, report = fold_batch_norm(model)
    assert report["untreated"] == []
    check_same(model, folded)


def test_outputs_keep_their_names_and_layers_theirs() -> None:
    import keras

    layers = keras.layers
    image = keras.Input((6, 6, 2), name="image")
    x = layers.Conv2D(3, 3, name="conv")(image)
    x = layers.BatchNormalization(name="norm")(x)
    y = layers.Conv2D(2, 1, name="head")(x)
    y = layers.BatchNormalization(name="boxes")(y)
    model = randomized(keras.Model(image, {"boxes": y, "features": x}))
    folded, report = fold_batch_norm(model)
    assert folded.output_names == model.output_names
    assert len(report["layers"]) == 2
    assert "BatchNormalization" not in kinds(folded)
    check_same(model, folded)


def test_normalizations_within_and_behind_nested_and_shared_models() -> None:
    import keras

    layers = keras.layers
    block = keras.Sequential(
        [
            keras.Input((6, 6, 4)),
            layers.Conv2D(4, 3, padding="same", name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(),
            layers.Conv2D(4, 1, name="last"),
        ],
        name="block",
    )
    inner = layers.Input((6, 6, 4))
    outer = keras.Model(inner, block(inner), name="outer")
    a, b = keras.Input((6, 6, 4), name="a"), keras.Input((6, 6, 4), name="b")
    x = layers.BatchNormalization(name="behind")(outer(a))
    model = randomized(keras.Model([a, b], [x, b]))
    folded, report = fold_batch_norm(model)
    assert [(row["layer"], row["into"]) for row in report["layers"]] == [
        ("outer/block/norm", "outer/block/conv"),
        ("behind", "outer/block/last"),
    ]
    check_same(model, folded)

    twice = randomized(keras.Model([a, b], layers.Add()([outer(a), outer(b)])))
    folded, report = fold_batch_norm(twice)
    assert len(report["layers"]) == 1
    check_same(twice, folded)


def test_shared_layers_are_folded_only_if_they_are_shared_together() -> None:
    import keras

    layers = keras.layers
    a, b = keras.Input((6, 6, 4), name="a"), keras.Input((6, 6, 4), name="b")
    conv, norm = layers.Conv2D(4, 1, name="conv"), layers.BatchNormalization(name="norm")
    model = randomized(keras.Model([a, b], [norm(conv(a)), norm(conv(b))]))
    folded, report = fold_batch_norm(model)
    assert len(report["layers"]) == 1
    check_same(model, folded)

    norms = [layers.BatchNormalization(name=name) for name in ("first", "second")]
    conv, norm = layers.Conv2D(4, 1, name="conv"), layers.BatchNormalization(name="norm")
    other = layers.Conv2D(4, 1, name="other")
    branch = layers.Conv2D(4, 1, name="branch")(b)
    x = [norms[0](conv(a)), norms[1](conv(b)), norm(other(a)), norm(branch)]
    model = randomized(keras.Model([a, b], x))
    folded, report = fold_batch_norm(model)
    assert folded is model
    reasons = {row["layer"]: row["reason"] for row in report["untreated"]}
    assert set(reasons) == {"first", "second", "norm"}
    assert all(reason.endswith("is shared with other places") for reason in reasons.values())


def test_what_cannot_be_folded_stays_and_is_named() -> None:
    import keras

    layers = keras.layers
    image = keras.Input((6, 6, 4), name="image")
    first = layers.BatchNormalization(name="first")(image)
    x = layers.Conv2D(4, 3, padding="same", name="conv")(first)
    normed = layers.BatchNormalization(name="branching")(x)
    x = layers.Add(name="add")([x, normed])
    x = layers.BatchNormalization(name="after_add")(x)
    x = layers.Conv2D(4, 3, activation="relu", name="activated")(x)
    x = layers.BatchNormalization(name="after_relu")(x)
    x = layers.Conv2D(4, 1, name="wide")(x)
    x = layers.BatchNormalization(name="rows", axis=1)(x)
    x = layers.Conv2D(4, 1, name="pruned")(x)
    x = layers.BatchNormalization(name="asked")(x)
    x = layers.Conv2D(4, 1, name="live")(x)
    x = layers.BatchNormalization(name="batch")(x, training=True)
    model = randomized(keras.Model(image, layers.Flatten()(x)))
    folded, report = fold_batch_norm(model, skip={"pruned"})
    assert folded is model
    assert {row["layer"]: row["reason"] for row in report["untreated"]} == {
        "first": "it follows an input of the model",
        "branching": "the output of 'conv' before it is used elsewhere too",
        "after_add": "it follows 'add' (Add), which has no kernel to scale",
        "after_relu": "'activated' before it ends in the activation relu",
        "rows": "it normalizes axis 1, not the channels of 'wide'",
        "asked": "'pruned' before it is to keep its weights",
        "batch": "it is called with training=True and normalizes by each batch",
    }


def test_zeros_stay_zero() -> None:
    model = chain(*LAYERS["Conv2D"])
    kernel = model.get_layer("l").kernel
    mask = np.random.default_rng(1).random(kernel.shape) < 0.5
    kernel.assign(kernel.numpy() * mask)
    folded, _ = fold_batch_norm(model)
    np.testing.assert_array_equal(folded.get_layer("l").kernel.numpy() != 0, mask)
