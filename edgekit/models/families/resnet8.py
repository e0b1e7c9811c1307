"""ResNet-8 as in MLPerf Tiny (Banbury et al. 2021), the image classification benchmark."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.base.extras import require
from edgekit.models.families.image import conv_norm_relu, image_input
from edgekit.models.families.norm import batch_norm
from edgekit.models.head import head

if TYPE_CHECKING:
    import keras


def resnet8(
    input_shape: tuple[int, ...],
    classes: int | None,
    input_name: str = "x",
    *,
    filters: int = 16,
    stacks: int = 3,
    weight_decay: float = 1e-4,
) -> keras.Model:
    """Builds the network.

    Args:
        input_shape: (height, width, channels).
        classes: of the softmax output; None for one value.
        input_name: of the input.
        filters: channels of the first stack; each further stack doubles them and halves the image.
        stacks: of two convolutions with a shortcut; 3 make eight layers.
        weight_decay: L2 on the kernels, while training.

    Raises:
        RecipeError: the input is not an image.
    """
    image = image_input("resnet8", input_shape, input_name)
    keras = require("keras", purpose="to build models")
    layers = keras.layers
    # Unlike elsewhere, MLPerf Tiny's convolutions keep their bias before the batch norm.
    options = {
        "use_bias": True,
        "kernel_initializer": "he_normal",
        "kernel_regularizer": keras.regularizers.L2(weight_decay) if weight_decay else None,
    }
    x = conv_norm_relu(image, filters, 3, "stem", **options)
    for stack in range(stacks):
        width, strides, name = filters * 2**stack, 1 if stack == 0 else 2, f"stack{stack + 1}"
        y = conv_norm_relu(x, width, 3, f"{name}_a", strides=strides, **options)
        y = layers.Conv2D(width, 3, padding="same", name=f"{name}_b_conv", **options)(y)
        y = batch_norm(y, f"{name}_b_norm")
        if strides > 1:
            x = layers.Conv2D(
                width, 1, strides=strides, padding="same", name=f"{name}_shortcut", **options
            )(x)
        x = layers.Add(name=f"{name}_add")([x, y])
        x = layers.ReLU(name=f"{name}_relu")(x)
    x = layers.GlobalAveragePooling2D(name="average")(x)
    return keras.Model(image, head(x, classes), name="resnet8")
