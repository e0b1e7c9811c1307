"""Networks of torchvision and of vendors' model zoos that keras.applications does not have.

Each function builds one from its publication, without weights; normalizations fold away, so they
are left out.
"""

from __future__ import annotations

import math
from typing import Any

_VGG = {"11": (1, 1, 2, 2, 2), "13": (2, 2, 2, 2, 2)}
_BOTTLENECKS = {"50": (3, 4, 6, 3), "101": (3, 4, 23, 3), "152": (3, 8, 36, 3)}
# RegNetX (Radosavovic et al. 2020), table 11: depths, widths and channels of a group.
_REGNETX = {
    "800m": ((1, 3, 7, 5), (64, 128, 288, 672), 16),
    "1.6g": ((2, 4, 10, 2), (72, 168, 408, 912), 24),
}


def _layers() -> Any:
    import keras

    return keras.layers


def _input(*shape: int) -> Any:
    import keras

    return keras.Input(shape)


def _model(inputs: Any, outputs: Any) -> Any:
    import keras

    return keras.Model(inputs, outputs)


def _conv(x: Any, filters: int, kernel: Any, stride: int = 1, *, groups: int = 1) -> Any:
    return _layers().Conv2D(filters, kernel, stride, "same", groups=groups, activation="relu")(x)


def _pooled(x: Any, size: int = 3, stride: int = 2, padding: str = "valid") -> Any:
    return _layers().MaxPooling2D(size, stride, padding)(x)


def _headed(x: Any, classes: int = 1000) -> Any:
    return _layers().Dense(classes)(_layers().GlobalAveragePooling2D()(x))


def fully_connected(layers: str, units: str, last: str, task: str) -> Any:
    """TinyML Benchmark's networks (Sudharsan et al. 2021): `layers` of ten units, or 10 and 50."""
    features, classes = {
        "iris": (4, 3), "wine": (13, 3), "breast cancer": (30, 2), "digits": (64, 10),
    }[task]  # fmt: skip
    widths = [int(units)] * int(layers or 1) if not last else [int(units), int(last)]
    x = inputs = _input(features)
    for width in widths:
        x = _layers().Dense(width, activation="relu")(x)
    return _model(inputs, _layers().Dense(classes, activation="softmax")(x))


def alexnet() -> Any:
    """AlexNet as torchvision has it (Krizhevsky 2014, "One weird trick"): one tower, no LRN."""
    inputs = _input(224, 224, 3)
    x = _pooled(_conv(_layers().ZeroPadding2D(2)(inputs), 64, 11, 4))
    x = _pooled(_conv(x, 192, 5))
    x = _pooled(_conv(_conv(_conv(x, 384, 3), 256, 3), 256, 3))
    x = _layers().Flatten()(x)
    for _ in range(2):
        x = _layers().Dense(4096, activation="relu")(x)
    return _model(inputs, _layers().Dense(1000)(x))


def squeezenet(version: str) -> Any:
    """SqueezeNet 1.0 (Iandola et al. 2016) and 1.1 (its authors' repository)."""
    inputs = _input(224, 224, 3)
    first = version.endswith("0")
    filters, kernel = (96, 7) if first else (64, 3)
    pooled_after = (2, 6) if first else (1, 3)
    x = _pooled(_layers().Conv2D(filters, kernel, 2, activation="relu")(inputs))
    for index, width in enumerate((16, 16, 32, 32, 48, 48, 64, 64)):
        squeezed = _conv(x, width, 1)
        x = _layers().Concatenate()([_conv(squeezed, 4 * width, 1), _conv(squeezed, 4 * width, 3)])
        if index in pooled_after:
            x = _pooled(x)
    return _model(inputs, _layers().GlobalAveragePooling2D()(_conv(x, 1000, 1)))


def vgg(depth: str) -> Any:
    """VGG A and B (Simonyan and Zisserman 2015)."""
    x = inputs = _input(224, 224, 3)
    for repeats, filters in zip(_VGG[depth], (64, 128, 256, 512, 512), strict=True):
        for _ in range(repeats):
            x = _conv(x, filters, 3)
        x = _pooled(x, 2)
    x = _layers().Flatten()(x)
    for _ in range(2):
        x = _layers().Dense(4096, activation="relu")(x)
    return _model(inputs, _layers().Dense(1000)(x))


def densenet161() -> Any:
    """DenseNet-161 (Huang et al. 2017): growth 48, 96 filters first."""
    layers = _layers()
    inputs = _input(224, 224, 3)
    x = _pooled(_conv(inputs, 96, 7, 2), padding="same")

    def normalized(x: Any) -> Any:
        return layers.ReLU()(layers.BatchNormalization()(x))

    for block, repeats in enumerate((6, 12, 36, 24)):
        for _ in range(repeats):
            grown = _conv(normalized(x), 192, 1)
            grown = layers.Conv2D(48, 3, padding="same")(grown)
            x = layers.Concatenate()([x, grown])
        if block < 3:
            x = layers.Conv2D(x.shape[-1] // 2, 1)(normalized(x))
            x = layers.AveragePooling2D(2)(x)
    return _model(inputs, _headed(normalized(x)))


def regnetx(size: str) -> Any:
    """RegNetX: bottlenecks of ratio 1 with grouped convolutions."""
    depths, widths, group = _REGNETX[size]
    inputs = _input(224, 224, 3)
    x = _conv(inputs, 32, 3, 2)
    for depth, width in zip(depths, widths, strict=True):
        for index in range(depth):
            stride = 1 if index else 2
            inner = _conv(_conv(x, width, 1), width, 3, stride, groups=width // group)
            inner = _layers().Conv2D(width, 1)(inner)
            shortcut = x if index else _layers().Conv2D(width, 1, 2)(x)
            x = _layers().ReLU()(_layers().Add()([shortcut, inner]))
    return _model(inputs, _headed(x))


def repvgg_a2() -> Any:
    """RepVGG-A2 as it is deployed (Ding et al. 2021): 3x3 convolutions only."""
    inputs = _input(224, 224, 3)
    x = _conv(inputs, 64, 3, 2)
    for depth, width in zip((2, 4, 14, 1), (96, 192, 384, 1408), strict=True):
        for index in range(depth):
            x = _conv(x, width, 3, 1 if index else 2)
    return _model(inputs, _headed(x))


def resnet(depth: str, variant: str) -> Any:
    """ResNet of bottlenecks (He et al. 2016), which publishers stride at different places.

    torchvision's has the stride in the 3x3 convolution of a stage's first block (4.1 billion
    multiply-accumulates in ResNet-50), TensorFlow-Slim's in the 3x3 one of a stage's last block
    (3.5 billion); keras.applications has it in the first 1x1 one (3.9 billion).
    """
    slim = variant == "slim"
    layers = _layers()
    inputs = _input(224, 224, 3)
    x = _pooled(_conv(inputs, 64, 7, 2), padding="same")
    for stage, repeats in enumerate(_BOTTLENECKS[depth]):
        width = 64 * 2**stage
        for index in range(repeats):
            last = slim and stage < 3 and index == repeats - 1
            first = not slim and stage > 0 and index == 0
            stride = 2 if last or first else 1
            inner = _conv(_conv(x, width, 1), width, 3, stride)
            inner = layers.Conv2D(4 * width, 1)(inner)
            if index == 0:
                x = layers.Conv2D(4 * width, 1, stride)(x)
            elif stride > 1:
                x = _pooled(x, 1)
            x = layers.ReLU()(layers.Add()([x, inner]))
    return _model(inputs, _headed(x))


def efficientnet_edgetpu(size: str) -> Any:
    """EfficientNet-EdgeTPU (Gupta and Tan 2019): the first stages expand by full convolutions.

    Those have their stride in the projection, as in the authors' code.
    """
    layers = _layers()
    width, depth, pixels = {"s": (1.0, 1.0, 224), "m": (1.0, 1.1, 240), "l": (1.2, 1.4, 300)}[size]
    stages = [  # repeats, kernel, stride, expansion, channels, whether by a full convolution
        (1, 3, 1, 4, 24, True), (2, 3, 2, 8, 32, True), (4, 3, 2, 8, 48, True),
        (5, 5, 2, 8, 96, False), (4, 5, 1, 8, 144, False), (2, 5, 2, 8, 192, False),
    ]  # fmt: skip

    def wide(channels: int) -> int:
        return int(channels * width + 4) // 8 * 8

    inputs = _input(pixels, pixels, 3)
    x = _conv(inputs, wide(32), 3, 2)
    for stage, (repeats, kernel, first, expansion, channels, full) in enumerate(stages):
        for index in range(math.ceil(repeats * depth)):
            stride, before = 1 if index else first, x
            inner = expansion * (x.shape[-1] if stage else wide(24))
            if full:
                x = _conv(x, inner, kernel)
            else:
                x = _conv(x, inner, 1)
                x = layers.DepthwiseConv2D(kernel, stride, "same", activation="relu")(x)
            x = layers.Conv2D(wide(channels), 1, stride if full else 1)(x)
            if stage and stride == 1 and before.shape[-1] == x.shape[-1]:
                x = layers.Add()([before, x])
    return _model(inputs, layers.Softmax()(_headed(_conv(x, wide(1280), 1))))


def mobilenet_st(version: str, alpha: str, size: str, classes: str) -> Any:
    """MobileNets of ST's model zoo: keras.applications' with a dense layer for other classes."""
    import keras

    build = keras.applications.MobileNet if version == "1" else keras.applications.MobileNetV2
    body = build(
        input_shape=(int(size), int(size), 3), alpha=float(alpha), include_top=False, weights=None,
        pooling="avg",
    )  # fmt: skip
    outputs = _layers().Dense(int(classes), activation="softmax")(body.output)
    return _model(body.input, outputs)


def yamnet() -> Any:
    """YAMNet (Plakal and Ellis 2020): MobileNetV1 on a 96 x 64 log-mel patch, 521 classes."""
    layers = _layers()
    inputs = _input(96, 64, 1)
    x = _conv(inputs, 32, 3, 2)
    strides = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
    for index, stride in enumerate(strides):
        width = min(1024, 64 * 2 ** sum(s == 2 for s in strides[: index + 1]))
        x = layers.DepthwiseConv2D(3, stride, "same", activation="relu")(x)
        x = _conv(x, width, 1)
    return _model(inputs, layers.Activation("sigmoid")(_headed(x, 521)))
