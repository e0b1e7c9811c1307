"""DS-CNN for keyword spotting (Zhang et al. 2017), as in MLPerf Tiny."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.base.extras import require
from edgekit.models.families.image import conv_norm_relu, image_input, separable
from edgekit.models.head import head

if TYPE_CHECKING:
    import keras


def dscnn(
    input_shape: tuple[int, ...],
    classes: int | None,
    input_name: str = "x",
    *,
    filters: int = 64,
    blocks: int = 4,
    dropout: float = 0.2,
) -> keras.Model:
    """Builds the network.

    Args:
        input_shape: (frames, coefficients, 1); (49, 10, 1) in the paper.
        classes: of the softmax output; None for one value.
        input_name: of the input.
        filters: channels of all layers.
        blocks: separable convolutions after the first one.
        dropout: rate after the first convolution; twice that before the last layer.

    Raises:
        RecipeError: the input has not three axes.
    """
    image = image_input("dscnn", input_shape, input_name)
    keras = require("keras", purpose="to build models")
    layers = keras.layers
    x = conv_norm_relu(image, filters, (10, 4), "stem", strides=2)
    if dropout:
        x = layers.Dropout(dropout, name="stem_dropout")(x)
    for index in range(1, blocks + 1):
        x = separable(x, filters, f"block{index}")
    if dropout:
        x = layers.Dropout(min(2 * dropout, 0.9), name="dropout")(x)
    x = layers.GlobalAveragePooling2D(name="average")(x)
    return keras.Model(image, head(x, classes), name="dscnn")
