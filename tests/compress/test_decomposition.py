"""Composite layers taken apart: the same function, weights and names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.slow


def _model() -> Any:
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(0)
    x = keras.Input((8, 8, 1), name="x")
    h = layers.SeparableConv2D(
        6, 3, strides=2, padding="same", depth_multiplier=2, activation="relu", name="separable"
    )(x)
    h = layers.BatchNormalization(name="joined")(layers.Concatenate()([h, h]))
    h = layers.SeparableConv1D(6, 3, padding="same", name="separable_1d")(
        layers.Reshape((16, 12))(h)
    )
    norm = layers.LayerNormalization(name="norm")
    attention = layers.MultiHeadAttention(2, 4, value_dim=3, dropout=0.1, name="attention")
    for _ in range(2):  # shared layers
        y = norm(h)
        h = layers.Add()([attention(y, y), h])
    h, scores = layers.MultiHeadAttention(1, 4, use_bias=False, name="scored")(
        h, h, return_attention_scores=True
    )
    h = layers.TimeDistributed(layers.Dense(4, activation="relu"), name="each")(h)
    h = layers.EinsumDense("abc,cde->abde", (16, 2, 2), bias_axes="de", name="einsum")(h)
    h = layers.EinsumDense("abcd,de->abce", (16, 2, 2), bias_axes="be", name="positions")(h)
    h = layers.EinsumDense(
        "abcd,de->abce", (16, 2, 2), bias_axes="bce", activation="relu", name="places"
    )(h)
    h = layers.TimeDistributed(layers.Conv1D(3, 2), name="windows")(h)
    h = layers.LayerNormalization(name="last_norm")(layers.Flatten()(h))
    inner = keras.Sequential(
        [layers.Input((48,)), layers.EinsumDense("ab,bc->ac", 5, bias_axes="c", name="deep")],
        name="inner",
    )
    outputs = [layers.Dense(3, name="logits")(inner(h)), layers.Flatten(name="scores")(scores)]
    model = keras.Model(x, outputs)
    for weight in model.weights:
        if weight.name in ("bias", "beta", "gamma", "moving_mean", "moving_variance"):
            weight.assign(np.random.default_rng(0).uniform(0.2, 1.2, weight.shape))
    for name in ("positions", "places"):  # such biases are rounded to 255 steps
        bias = model.get_layer(name).bias
        steps = np.random.default_rng(0).integers(0, 256, bias.shape)
        steps.flat[0] = 255
        bias.assign(steps / 255)
    return model


def test_what_is_taken_apart_computes_what_it_did() -> None:
    from edgekit.compress.decomposition import decompose

    model = _model()
    apart, origins, left = decompose(model)
    apart, scales, left_norms = decompose(apart, norms=True)
    assert left == left_norms == []
    assert set(scales.values()) == {"joined"}
    assert set(origins.values()) == {
        *("separable", "separable_1d", "norm", "attention", "scored", "each", "einsum"),
        *("positions", "places", "windows", "last_norm", "inner/deep"),
    }
    assert all(new.startswith(old) for new, old in origins.items())
    plain = {"Conv1D", "Conv2D", "Dense", "DepthwiseConv1D", "DepthwiseConv2D"}
    assert {type(one).__name__ for one in apart._flatten_layers() if one.weights} - {
        "Functional"
    } <= plain
    assert [w.shape for w in apart.trainable_weights].count((1, 6, 1)) == 1  # shared, made once
    x = np.random.default_rng(0).normal(size=(9, 8, 8, 1)).astype(np.float32)
    for found, wanted in zip(apart(x), model(x), strict=True):
        np.testing.assert_allclose(found, wanted, atol=2e-6)


def test_what_cannot_be_taken_apart_stays_and_is_named() -> None:
    import keras

    from edgekit.compress.decomposition import decompose

    layers = keras.layers
    x = keras.Input((6, 4))
    masked = layers.Masking()(x)
    h = layers.MultiHeadAttention(2, 4, name="masked")(masked, masked)
    y = layers.MultiHeadAttention(2, 4, name="causal")(x, x, use_causal_mask=True)
    z = layers.LayerNormalization(axis=1, name="over_time")(x)
    z = layers.EinsumDense("abc,bcd->abd", (6, 4), name="by_step")(z)
    model = keras.Model(x, layers.Add()([h, y, z]))
    same, origins, left = decompose(model)
    assert same is model
    assert origins == {}
    reasons = {one.layer: one.reason for one in left}
    assert set(reasons) == {"masked", "causal", "over_time", "by_step"}
    assert "mask" in reasons["masked"]
    assert "mask" in reasons["causal"]
    skipped = decompose(model, skip=set(reasons))
    assert skipped == (model, {}, [])
