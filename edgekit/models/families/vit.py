"""A small vision transformer (Dosovitskiy et al. 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.base.errors import RecipeError
from edgekit.base.extras import require
from edgekit.models.families.image import image_input
from edgekit.models.head import head

if TYPE_CHECKING:
    import keras


def vit(
    input_shape: tuple[int, ...],
    classes: int | None,
    input_name: str = "x",
    *,
    patch: int = 4,
    width: int = 32,
    depth: int = 2,
    heads: int = 2,
    mlp_ratio: float = 2.0,
    dropout: float = 0.1,
) -> keras.Model:
    """Builds the network: patches, learnt positions, pre-norm blocks, average over the patches.

    Args:
        input_shape: (height, width, channels); the sides are multiples of `patch`.
        classes: of the softmax output; None for one value.
        input_name: of the input.
        patch: side of the square patches.
        width: of the embedding; a multiple of `heads`.
        depth: blocks of attention and perceptron.
        heads: of the attention.
        mlp_ratio: width of the perceptron's hidden layer over `width`.
        dropout: rate after attention and perceptron.

    Raises:
        RecipeError: the input is no image, or its sides or the width cannot be divided.
    """
    image = image_input("vit", input_shape, input_name)
    if input_shape[0] % patch or input_shape[1] % patch:
        raise RecipeError(f"patches of {patch} do not divide images of shape {input_shape}")
    if width % heads:
        raise RecipeError(f"{heads} heads do not divide a width of {width}")
    keras = require("keras", purpose="to build models")
    layers = keras.layers
    tokens = (input_shape[0] // patch) * (input_shape[1] // patch)
    x = layers.Conv2D(width, patch, strides=patch, use_bias=False, name="patches")(image)
    x = layers.Reshape((tokens, width), name="tokens")(x)
    # A projection whose bias is learnt for each token: positions without a layer of our own.
    x = layers.EinsumDense(
        "btd,de->bte", output_shape=(tokens, width), bias_axes="te", name="positions"
    )(x)
    for index in range(1, depth + 1):
        name = f"block{index}"
        y = layers.LayerNormalization(epsilon=1e-5, name=f"{name}_norm1")(x)
        y = layers.MultiHeadAttention(
            heads, width // heads, dropout=dropout, name=f"{name}_attention"
        )(y, y)
        x = layers.Add(name=f"{name}_add1")([x, y])
        y = layers.LayerNormalization(epsilon=1e-5, name=f"{name}_norm2")(x)
        y = layers.Dense(int(width * mlp_ratio), name=f"{name}_dense1")(y)
        # The tanh form: the exact one needs Erfc, which ONNX has no operator for.
        y = keras.ops.gelu(y, approximate=True)
        y = layers.Dropout(dropout, name=f"{name}_dropout")(y)
        y = layers.Dense(width, name=f"{name}_dense2")(y)
        x = layers.Add(name=f"{name}_add2")([x, y])
    x = layers.LayerNormalization(epsilon=1e-5, name="norm")(x)
    x = layers.GlobalAveragePooling1D(name="average")(x)
    return keras.Model(image, head(x, classes), name="vit")
