"""A recurrent classifier of sequences: LSTM or GRU, one or both directions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from edgekit.base.errors import RecipeError
from edgekit.base.extras import require
from edgekit.models.head import head

if TYPE_CHECKING:
    import keras


def rnn(
    input_shape: tuple[int, ...],
    classes: int | None,
    input_name: str = "x",
    *,
    cell: Literal["lstm", "gru"] = "gru",
    units: tuple[int, ...] = (32,),
    bidirectional: bool = False,
    unroll: bool = True,
    dropout: float = 0.0,
) -> keras.Model:
    """Builds the network.

    Args:
        input_shape: (steps, features); an image (height, width, 1) is read row by row.
        classes: of the softmax output; None for one value.
        input_name: of the input.
        cell: kind of the recurrent layers.
        units: widths of the recurrent layers, one after the other.
        bidirectional: whether each layer reads the sequence both ways.
        unroll: writes the steps out one by one; the weights are the same. int8 files and fast
            execution on TensorFlow Lite need it; it makes files larger.
        dropout: rate before the last layer.

    Raises:
        RecipeError: the input is no sequence.
    """
    rows = len(input_shape) == 3 and input_shape[-1] == 1
    if len(input_shape) != 2 and not rows:
        raise RecipeError(f"an rnn takes (steps, features), not samples of shape {input_shape}")
    keras = require("keras", purpose="to build models")
    layers = keras.layers
    x = inputs = keras.Input(input_shape, name=input_name)
    if rows:
        x = layers.Reshape(input_shape[:2], name="rows")(x)
    kind = {"lstm": layers.LSTM, "gru": layers.GRU}[cell]
    for index, width in enumerate(units, start=1):
        more = index < len(units)
        name = f"{cell}{index}"
        layer = kind(width, return_sequences=more, unroll=unroll, name=name)
        x = layers.Bidirectional(layer, name=f"{name}_both")(x) if bidirectional else layer(x)
    if dropout:
        x = layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(inputs, head(x, classes), name="rnn")
