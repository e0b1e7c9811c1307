"""Networks with what quantization-aware training must know of."""

from __future__ import annotations

from typing import Any


def residual() -> Any:
    """ResNet-8's blocks, narrow: normalization, ReLU of sums, strided shortcut."""
    import keras

    layers = keras.layers
    x = keras.Input((8, 8, 1), name="x")
    h = layers.ReLU()(
        layers.BatchNormalization(momentum=0.9)(layers.Conv2D(8, 3, padding="same")(x))
    )
    for filters, strides in ((8, 1), (12, 2)):
        y = layers.Conv2D(filters, 3, strides, padding="same", use_bias=False)(h)
        y = layers.Activation("relu")(layers.BatchNormalization(momentum=0.9)(y))
        y = layers.BatchNormalization(momentum=0.9)(layers.Conv2D(filters, 3, padding="same")(y))
        if strides > 1:
            h = layers.Conv2D(filters, 1, strides)(h)
        h = layers.ReLU()(layers.Add()([h, y]))
    h = layers.GlobalAveragePooling2D()(h)
    return keras.Model(x, layers.Dense(3, activation="softmax", name="scores")(h))


def depthwise() -> Any:
    """Rescaled images, depthwise and pointwise layers with ReLU6, and pooling."""
    import keras

    layers = keras.layers
    x = keras.Input((8, 8, 1), name="x")
    h = layers.Rescaling(0.5, 0.25)(x)
    h = layers.ReLU(6.0)(layers.Conv2D(8, 3, padding="same")(h))
    for multiplier in (1, 2):
        h = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=multiplier)(h)
        h = layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.9)(h))
        h = layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.9)(layers.Conv2D(12, 1)(h)))
    h = layers.Flatten()(layers.AveragePooling2D(4)(h))
    return keras.Model(x, layers.Dense(3, name="logits")(layers.Dropout(0.1)(h)))


def mlp() -> Any:
    """A Sequential perceptron with an activation that is no ReLU."""
    import keras

    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 1), name="x"),
            layers.Flatten(),
            layers.Dense(24, activation="relu"),
            layers.Dense(16, activation="tanh"),
            layers.Dense(3, activation="softmax", name="scores"),
        ]
    )


def branches() -> Any:
    """Concatenated branches, a nested model called twice, a transposed layer, slices, one skip."""
    import keras

    layers, ops = keras.layers, keras.ops
    a = keras.Input((8, 8, 4))
    b = layers.Conv2D(4, 3, padding="same")(a)
    b = layers.Add()([layers.LeakyReLU(negative_slope=0.1)(b), a])
    inner = keras.Model(a, b, name="inner")
    x = keras.Input((8, 8, 1), name="x")
    h = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    h = inner(inner(h))
    left = layers.Conv2D(3, 1, activation="relu")(h)
    right = layers.Conv2D(5, 3, padding="same", activation="sigmoid")(h)
    more = layers.MaxPooling2D(2)(layers.Conv2D(2, 1)(h))
    more = layers.ReLU()(layers.Conv2DTranspose(2, 2, strides=2)(more))
    h = layers.Concatenate(name="joined")([left, right, more])
    h = h[:, 1:7, :, :] * 2.0
    h = layers.Reshape((6, 80))(h)
    h = layers.Conv1D(6, 3, activation="relu")(h)
    h = ops.concatenate([h, layers.Conv1D(6, 1)(h)], axis=1)
    return keras.Model(x, layers.Dense(3, name="logits")(layers.GlobalAveragePooling1D()(h)))


NETS = {build.__name__: build for build in (residual, depthwise, mlp, branches)}
