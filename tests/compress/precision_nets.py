"""Networks that int8 keeps, and that int8 breaks."""

from __future__ import annotations

from typing import Any

import numpy as np


def mixed_net() -> Any:
    """A residual block, depthwise layers, pooling and a softmax."""
    import keras

    layers = keras.layers
    x = keras.Input((8, 8, 1), name="x")
    h = layers.BatchNormalization(momentum=0.9)(layers.Conv2D(8, 3, padding="same", name="stem")(x))
    h = layers.ReLU()(h)
    y = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="dw")(h)
    y = layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.9)(y))
    y = layers.BatchNormalization(momentum=0.9)(layers.Conv2D(8, 1, name="pw")(y))
    h = layers.ReLU()(layers.Add(name="sum")([h, y]))
    h = layers.MaxPooling2D(name="pool")(h)
    h = layers.Conv2D(12, 3, activation="relu", name="last")(h)
    h = layers.Flatten(name="flat")(h)
    return keras.Model(x, layers.Dense(3, activation="softmax", name="scores")(h))


def plain_net() -> Any:
    """Convolutions with ReLUs, whose channels can be scaled without a change of function."""
    import keras

    layers = keras.layers
    h = x = keras.Input((8, 8, 1), name="x")
    for index, filters in enumerate((8, 12, 12, 12)):
        conv = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"conv{index}")
        h = conv(h)
    h = layers.GlobalAveragePooling2D(name="mean")(h)
    return keras.Model(x, layers.Dense(3, name="logits")(h))


def bad_channels(model: Any) -> None:
    """Spreads the channels between two convolutions over three decades; the function stays."""
    first, second = model.get_layer("conv1"), model.get_layer("conv2")
    scale = 10.0 ** np.random.default_rng(0).uniform(-3, 0, first.kernel.shape[-1])
    first.kernel.assign(first.kernel * scale)
    first.bias.assign(first.bias * scale)
    second.kernel.assign(second.kernel / scale[:, None])
