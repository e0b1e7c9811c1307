"""A dense autoencoder as in MLPerf Tiny's anomaly detection (Koizumi et al. 2020, DCASE task 2)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from edgekit.base.extras import require
from edgekit.models.families.norm import batch_norm

if TYPE_CHECKING:
    import keras


def autoencoder(
    input_shape: tuple[int, ...],
    input_name: str = "x",
    *,
    units: tuple[int, ...] = (128, 128, 128, 128),
    code: int = 8,
) -> keras.Model:
    """Builds the network; its output has the shape of its input.

    Args:
        input_shape: of one sample; (640,) in the benchmark.
        input_name: of the input.
        units: widths of the encoder's layers; the decoder mirrors them.
        code: width of the bottleneck.
    """
    keras = require("keras", purpose="to build models")
    layers = keras.layers
    x = inputs = keras.Input(input_shape, name=input_name)
    if len(input_shape) > 1:
        x = layers.Flatten(name="flatten")(x)
    names = [f"encoder{i}" for i in range(1, len(units) + 1)]
    names += ["code", *(f"decoder{i}" for i in range(1, len(units) + 1))]
    for name, width in zip(names, (*units, code, *reversed(units)), strict=True):
        x = layers.Dense(width, use_bias=False, name=name)(x)
        x = batch_norm(x, f"{name}_norm")
        x = layers.ReLU(name=f"{name}_relu")(x)
    x = layers.Dense(math.prod(input_shape), name="reconstruction")(x)
    if len(input_shape) > 1:
        x = layers.Reshape(input_shape, name="image")(x)
    return keras.Model(inputs, x, name="autoencoder")
