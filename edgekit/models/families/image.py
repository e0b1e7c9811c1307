"""What the families for images share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgekit.base.errors import RecipeError
from edgekit.base.extras import require
from edgekit.models.families.norm import batch_norm

if TYPE_CHECKING:
    import keras


def image_input(family: str, input_shape: tuple[int, ...], name: str) -> keras.KerasTensor:
    """The input of a family that takes images.

    Raises:
        RecipeError: the samples are no images.
    """
    if len(input_shape) != 3:
        raise RecipeError(
            f"{family} takes images (height, width, channels), not samples of shape {input_shape}"
        )
    return require("keras", purpose="to build models").Input(input_shape, name=name)


def conv_norm_relu(
    x: keras.KerasTensor, filters: int, kernel: int | tuple[int, int], name: str, **settings: Any
) -> keras.KerasTensor:
    """Convolution, batch norm, ReLU; `settings` go to the convolution."""
    layers = require("keras", purpose="to build models").layers
    options = {"padding": "same", "use_bias": False, **settings}
    x = layers.Conv2D(filters, kernel, name=f"{name}_conv", **options)(x)
    x = batch_norm(x, f"{name}_norm")
    return layers.ReLU(name=f"{name}_relu")(x)


def separable(
    x: keras.KerasTensor, filters: int, name: str, *, strides: int = 1
) -> keras.KerasTensor:
    """A depthwise 3x3 and a pointwise convolution, each with batch norm and ReLU."""
    layers = require("keras", purpose="to build models").layers
    x = layers.DepthwiseConv2D(
        3, strides=strides, padding="same", use_bias=False, name=f"{name}_depthwise"
    )(x)
    x = batch_norm(x, f"{name}_depthwise_norm")
    x = layers.ReLU(name=f"{name}_depthwise_relu")(x)
    return conv_norm_relu(x, filters, 1, f"{name}_pointwise")
