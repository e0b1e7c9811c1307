"""A multilayer perceptron."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.base.extras import require
from edgekit.models.families import norm
from edgekit.models.head import head

if TYPE_CHECKING:
    import keras


def mlp(
    input_shape: tuple[int, ...],
    classes: int | None,
    input_name: str = "x",
    *,
    units: tuple[int, ...] = (64, 32),
    dropout: float = 0.0,
    batch_norm: bool = False,
) -> keras.Model:
    """Builds the network; samples of any shape are flattened.

    Args:
        input_shape: of one sample.
        classes: of the softmax output; None for one value.
        input_name: of the input.
        units: widths of the hidden layers.
        dropout: rate after each hidden layer.
        batch_norm: whether a batch norm stands before each ReLU.
    """
    keras = require("keras", purpose="to build models")
    layers = keras.layers
    x = inputs = keras.Input(input_shape, name=input_name)
    if len(input_shape) > 1:
        x = layers.Flatten(name="flatten")(x)
    for index, width in enumerate(units, start=1):
        if batch_norm:
            x = layers.Dense(width, use_bias=False, name=f"dense{index}")(x)
            x = norm.batch_norm(x, f"norm{index}")
            x = layers.ReLU(name=f"relu{index}")(x)
        else:
            x = layers.Dense(width, activation="relu", name=f"dense{index}")(x)
        if dropout:
            x = layers.Dropout(dropout, name=f"dropout{index}")(x)
    return keras.Model(inputs, head(x, classes), name="mlp")
