"""MobileNet v1 (Howard et al. 2017); with alpha 0.25 and 96x96 it is MLPerf Tiny's wake words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.base.extras import require
from edgekit.models.families.image import conv_norm_relu, image_input, separable
from edgekit.models.head import head

if TYPE_CHECKING:
    import keras

# Channels and stride of each separable block at alpha 1 (table 1 of the paper).
_BLOCKS = (
    ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2))
    + ((512, 1),) * 5
    + (
        (1024, 2),
        (1024, 1),
    )
)


def mobilenet_v1(
    input_shape: tuple[int, ...],
    classes: int | None,
    input_name: str = "x",
    *,
    alpha: float = 0.25,
    dropout: float = 0.0,
) -> keras.Model:
    """Builds the network.

    Args:
        input_shape: (height, width, channels).
        classes: of the softmax output; None for one value.
        input_name: of the input.
        alpha: factor on the channels of all layers.
        dropout: rate before the last layer.

    Raises:
        RecipeError: the input is not an image.
    """
    image = image_input("mobilenet_v1", input_shape, input_name)
    keras = require("keras", purpose="to build models")
    layers = keras.layers
    x = conv_norm_relu(image, max(int(32 * alpha), 1), 3, "stem", strides=2)
    for index, (channels, strides) in enumerate(_BLOCKS, start=1):
        x = separable(x, max(int(channels * alpha), 1), f"block{index}", strides=strides)
    x = layers.GlobalAveragePooling2D(name="average")(x)
    if dropout:
        x = layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(image, head(x, classes), name="mobilenet_v1")
