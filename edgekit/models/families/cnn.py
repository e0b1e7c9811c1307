"""A small convolutional network: blocks of convolution, batch norm, ReLU and pooling."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.base.extras import require
from edgekit.models.families.image import conv_norm_relu, image_input
from edgekit.models.head import head

if TYPE_CHECKING:
    import keras

_SMALLEST_POOLED = 4


def cnn(
    input_shape: tuple[int, ...],
    classes: int | None,
    input_name: str = "x",
    *,
    filters: tuple[int, ...] = (16, 32),
    kernel: int = 3,
    dense: int | None = 64,
    dropout: float = 0.2,
) -> keras.Model:
    """Builds the network.

    Args:
        input_shape: (height, width, channels).
        classes: of the softmax output; None for one value.
        input_name: of the input.
        filters: channels of each block; an image halves after each one while it is large enough.
        kernel: size of the square kernels.
        dense: width of the hidden dense layer; None for global average pooling instead.
        dropout: rate before the last layer.

    Raises:
        RecipeError: the input is not an image.
    """
    x = image = image_input("cnn", input_shape, input_name)
    keras = require("keras", purpose="to build models")
    layers = keras.layers
    for index, channels in enumerate(filters, start=1):
        x = conv_norm_relu(x, channels, kernel, f"block{index}")
        if min(x.shape[1:3]) >= _SMALLEST_POOLED:
            x = layers.MaxPooling2D(name=f"block{index}_pool")(x)
    if dense is None:
        x = layers.GlobalAveragePooling2D(name="average")(x)
    else:
        x = layers.Flatten(name="flatten")(x)
        x = layers.Dense(dense, activation="relu", name="dense")(x)
    if dropout:
        x = layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(image, head(x, classes), name="cnn")
