"""Networks by the names that measurement tables use, as graphs without weights."""

from __future__ import annotations

import gc
import hashlib
import inspect
import math
import os
import pickle
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import structures
import zoo
from drawn import drawn
from structures import convert, retyped

from edgekit.base.files import write_bytes
from edgekit.graph.types import Graph
from edgekit.schema.names import Precision

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

Build = partial[Any]


def structure(name: str, precision: Precision, folder: Path | None = None) -> Graph | None:
    """The graph of a network named as in the table, or None if its structure is not known.

    Args:
        name: of the network.
        precision: of its weights and activations.
        folder: where structures are kept from run to run, because building one takes Keras.
    """
    if (known := drawn(name)) is not None:
        return retyped(known, precision)
    for pattern, build in _FAMILIES:
        match = re.fullmatch(pattern, name, re.IGNORECASE)
        if match:
            found = {k: v.lower().strip(" -") for k, v in match.groupdict().items() if v}
            return retyped(_kept(_with(build, found), folder), precision)
    return None


def _with(build: Callable[..., Any], found: dict[str, str]) -> Build:
    known = build if isinstance(build, partial) else partial(build)
    return partial(known.func, **{**known.keywords, **found})


def _kept(build: Build, folder: Path | None) -> Graph:
    bound = inspect.signature(build.func).bind(**build.keywords)
    bound.apply_defaults()
    code = inspect.getsource(structures) + inspect.getsource(build.func)
    words = repr((sorted(bound.arguments.items()), code))
    key = hashlib.sha256(words.encode()).hexdigest()[:16]
    path = folder / f"{key}.pickle" if folder else None
    if path and path.is_file():
        graph = pickle.loads(path.read_bytes())
        assert isinstance(graph, Graph)
        return graph
    graph = _built(build)
    if path:
        write_bytes(path, pickle.dumps(graph))
    return graph


def _built(build: Build) -> Graph:
    import keras

    graph = convert(build())
    keras.backend.clear_session()
    gc.collect()
    return graph


def _applications() -> Any:
    import keras

    return keras.applications


def _square(size: str | None, default: int = 224) -> tuple[int, int, int]:
    return (int(size or default), int(size or default), 3)


def _mobilenet_v1(alpha: str = "1.0", size: str = "224") -> Any:
    return _applications().MobileNet(alpha=float(alpha), input_shape=_square(size), weights=None)


def _mobilenet_v2(alpha: str = "1.0", size: str = "224") -> Any:
    return _applications().MobileNetV2(alpha=float(alpha), input_shape=_square(size), weights=None)


def _mobilenet_v3(kind: str, alpha: str = "1.0", minimal: str = "") -> Any:
    apps = _applications()
    build = apps.MobileNetV3Large if kind.lower() == "large" else apps.MobileNetV3Small
    return build(
        alpha=float(alpha), minimalistic=bool(minimal), input_shape=(224, 224, 3), weights=None,
        include_preprocessing=False,
    )  # fmt: skip


def _application(attribute: str, size: int | str) -> Any:
    return getattr(_applications(), attribute)(input_shape=_square(str(size)), weights=None)


def _efficientnet_lite(number: str) -> Any:
    """EfficientNet-Lite (tensorflow/tpu): no squeeze-and-excite, ReLU6, fixed stem and head."""
    width, depth, size = {
        "0": (1.0, 1.0, 224), "1": (1.0, 1.1, 240), "2": (1.1, 1.2, 260),
        "3": (1.2, 1.4, 280), "4": (1.4, 1.8, 300),
    }[number]  # fmt: skip
    blocks = [
        (3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 3, 6, 80, 2),
        (5, 3, 6, 112, 1), (5, 4, 6, 192, 2), (3, 1, 6, 320, 1),
    ]  # fmt: skip
    stages = [
        (kernel, repeats if index in (0, 6) else math.ceil(repeats * depth), expand,
         _round_channels(filters * width), stride)
        for index, (kernel, repeats, expand, filters, stride) in enumerate(blocks)
    ]  # fmt: skip
    return _inverted_residuals(size, 32, stages, 1280)


def _mnasnet(alpha: str = "1.0", size: str = "224") -> Any:
    """MnasNet-B1 (Tan et al. 2019)."""
    width = float(alpha)
    blocks = [
        (3, 1, 1, 16, 1), (3, 3, 3, 24, 2), (5, 3, 3, 40, 2), (5, 3, 6, 80, 2),
        (3, 2, 6, 96, 1), (5, 4, 6, 192, 2), (3, 1, 6, 320, 1),
    ]  # fmt: skip
    stages = [(k, n, e, _round_channels(f * width), s) for k, n, e, f, s in blocks]
    return _inverted_residuals(int(size), _round_channels(32 * width), stages, 1280)


def _round_channels(channels: float) -> int:
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _inverted_residuals(
    size: int, stem: int, stages: list[tuple[int, int, int, int, int]], head: int
) -> Any:
    import keras

    layers = keras.layers
    inputs = keras.Input((size, size, 3))

    def conv(x: Any, filters: int, kernel: int, stride: int = 1, act: str = "relu6") -> Any:
        return layers.Conv2D(filters, kernel, stride, "same", activation=act)(x)

    x = conv(inputs, stem, 3, 2)
    for kernel, repeats, expand, filters, first_stride in stages:
        for repeat in range(repeats):
            stride, before = (first_stride if repeat == 0 else 1), x
            if expand > 1:
                x = conv(x, x.shape[-1] * expand, 1)
            x = layers.DepthwiseConv2D(kernel, stride, "same", activation="relu6")(x)
            x = conv(x, filters, 1, act="linear")
            if stride == 1 and before.shape[-1] == filters:
                x = layers.Add()([before, x])
    x = layers.GlobalAveragePooling2D()(conv(x, head, 1))
    return keras.Model(inputs, layers.Dense(1000, activation="softmax")(x))


def _inception_v1() -> Any:
    """GoogLeNet (Szegedy et al. 2015), without the auxiliary heads."""
    import keras

    layers = keras.layers

    def conv(x: Any, filters: int, kernel: int, stride: int = 1) -> Any:
        return layers.Conv2D(filters, kernel, stride, "same", activation="relu")(x)

    x = inputs = keras.Input((224, 224, 3))
    x = layers.MaxPooling2D(3, 2, "same")(conv(x, 64, 7, 2))
    x = layers.MaxPooling2D(3, 2, "same")(conv(conv(x, 64, 1), 192, 3))
    blocks: list[tuple[int, ...]] = [
        (64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64), (),
        (192, 96, 208, 16, 48, 64), (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64), (256, 160, 320, 32, 128, 128), (),
        (256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128),
    ]  # fmt: skip
    for block in blocks:
        if not block:
            x = layers.MaxPooling2D(3, 2, "same")(x)
            continue
        one, three_in, three, five_in, five, pool = block
        branches = [
            conv(x, one, 1),
            conv(conv(x, three_in, 1), three, 3),
            conv(conv(x, five_in, 1), five, 3),
            conv(layers.MaxPooling2D(3, 1, "same")(x), pool, 1),
        ]  # fmt: skip
        x = layers.Concatenate()(branches)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(1001, activation="softmax")(x))


def _inception_v4() -> Any:
    """Inception-v4 (Szegedy et al. 2016), figures 3 to 9."""
    import keras

    layers = keras.layers

    def conv(x: Any, filters: int, size: Any, stride: int = 1, padding: str = "same") -> Any:
        return layers.Conv2D(filters, size, stride, padding, activation="relu")(x)

    def chain(x: Any, *steps: tuple[int, Any]) -> Any:
        for filters, size in steps:
            x = conv(x, filters, size)
        return x

    def pooled(x: Any, filters: int) -> Any:
        return conv(layers.AveragePooling2D(3, 1, "same")(x), filters, 1)

    join = layers.Concatenate
    inputs = keras.Input((299, 299, 3))
    x = conv(conv(conv(inputs, 32, 3, 2, "valid"), 32, 3, 1, "valid"), 64, 3)
    x = join()([layers.MaxPooling2D(3, 2)(x), conv(x, 96, 3, 2, "valid")])
    long = chain(x, (64, 1), (64, (7, 1)), (64, (1, 7)))
    x = join()([conv(conv(x, 64, 1), 96, 3, 1, "valid"), conv(long, 96, 3, 1, "valid")])
    x = join()([conv(x, 192, 3, 2, "valid"), layers.MaxPooling2D(3, 2)(x)])
    for _ in range(4):
        x = join()([pooled(x, 96), conv(x, 96, 1), chain(x, (64, 1), (96, 3)),
                    chain(x, (64, 1), (96, 3), (96, 3))])  # fmt: skip
    x = join()([layers.MaxPooling2D(3, 2)(x), conv(x, 384, 3, 2, "valid"),
                conv(chain(x, (192, 1), (224, 3)), 256, 3, 2, "valid")])  # fmt: skip
    for _ in range(7):
        x = join()([
            pooled(x, 128), conv(x, 384, 1), chain(x, (192, 1), (224, (1, 7)), (256, (7, 1))),
            chain(x, (192, 1), (192, (1, 7)), (224, (7, 1)), (224, (1, 7)), (256, (7, 1))),
        ])  # fmt: skip
    x = join()([
        layers.MaxPooling2D(3, 2)(x), conv(chain(x, (192, 1)), 192, 3, 2, "valid"),
        conv(chain(x, (256, 1), (256, (1, 7)), (320, (7, 1))), 320, 3, 2, "valid"),
    ])  # fmt: skip
    for _ in range(3):
        middle, deep = conv(x, 384, 1), chain(x, (384, 1), (448, (1, 3)), (512, (3, 1)))
        x = join()([
            pooled(x, 256), conv(x, 256, 1), conv(middle, 256, (1, 3)), conv(middle, 256, (3, 1)),
            conv(deep, 256, (3, 1)), conv(deep, 256, (1, 3)),
        ])  # fmt: skip
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(1001, activation="softmax")(x))


_SIZE = r"[-_](?P<size>\d+)"
_ALPHA = r"[-_](?P<alpha>[\d.]+)"
_QUANT = r"(?:[-_](?:non-)?quant(?:ized)?)?(?:_edgetpu\.tflite)?"
_PRECISION = r"(?:-precision_(?:float|uint8))?"
_KIND = r"(?P<kind>large|small)(?P<minimal>[- ]minimalistic)?"

_TASK = "iris|wine|breast cancer|digits"

_FAMILIES: list[tuple[str, Callable[..., Any]]] = [
    (rf"mobilenet[-_ ]v1{_PRECISION}{_ALPHA}{_SIZE}{_QUANT}", _mobilenet_v1),
    (r"mobilenet_?v1[ _](?P<alpha>[\d.]+) (?P<size>\d+)", _mobilenet_v1),
    (r"mobilenet_v1_0p25_(?P<size>128)", partial(_mobilenet_v1, alpha="0.25")),
    (r"mobilenet_v1_0p5_(?P<size>160)", partial(_mobilenet_v1, alpha="0.5")),
    (r"mobilenet_v1_1p0_(?P<size>224)", _mobilenet_v1),
    (r"mobilenet[-_ ]v1 (?P<alpha>[\d.]+) imagenet", _mobilenet_v1),
    (r"mobilenet[-_ ]v1", _mobilenet_v1),
    (rf"mobilenet[-_ ]v2{_PRECISION}{_ALPHA}{_SIZE}{_QUANT}", _mobilenet_v2),
    (r"mobilenet v2 (?P<alpha>[\d.]+) (?P<size>\d+)", _mobilenet_v2),
    (r"mobilenet v2 (?P<alpha>[\d.]+) imagenet", _mobilenet_v2),
    (r"mobilenet[-_ ]v2", _mobilenet_v2),
    (r"mobilenet v(?P<version>[12]) (?P<alpha>[\d.]+) (?P<size>\d+) (?P<classes>\d+) classes",
     zoo.mobilenet_st),
    (rf"mobilenet-v3-{_KIND}_224{_ALPHA}_(?:float|uint8)", _mobilenet_v3),
    (rf"mobilenet-v3-precision_(?:float|uint8)-{_KIND}-224(?:-(?P<alpha>[\d.]+))?", _mobilenet_v3),
    (rf"mobilenetv3-{_KIND}(?: (?P<alpha>[\d.]+))?", _mobilenet_v3),
    (rf"mobilenet[ _]v3[ _]{_KIND}(?: 224)?", _mobilenet_v3),
    (rf"efficientnet(?:-fp32|-int8)?-lite(?P<number>\d){_QUANT}", _efficientnet_lite),
    (rf"mnasnet{_ALPHA}{_SIZE}", _mnasnet),
    (rf"inception[-_ ]v1(?:_224)?{_QUANT}", _inception_v1),
    (rf"inception[-_ ]v3(?:_299)?{_QUANT}",
     partial(_application, attribute="InceptionV3", size="299")),
    (rf"inception[-_ ]v4(?:_299)?{_QUANT}", _inception_v4),
    (r"inception[-_]resnet[-_ ]v2(?:_299)?",
     partial(_application, attribute="InceptionResNetV2", size="299")),
    (r"resnet_v2_101(?:_299)?", partial(_application, attribute="ResNet101V2", size="299")),
    (r"resnet-50 v1", partial(_application, attribute="ResNet50", size="299")),
    (r"resnet-50 v2", partial(_application, attribute="ResNet50V2", size="299")),
    (r"resnet(?:50)?|resnet_v1_50", partial(_application, attribute="ResNet50", size="224")),
    (r"resnet(?:_v1_)?101", partial(_application, attribute="ResNet101", size="224")),
    (r"resnet(?P<depth>50|101|152) (?P<variant>torchvision|slim)", zoo.resnet),
    (r"resnet_v1_152", partial(_application, attribute="ResNet152", size="224")),
    (r"densenet(?:121)?(?:_224)?", partial(_application, attribute="DenseNet121", size="224")),
    (r"densenet169", partial(_application, attribute="DenseNet169", size="224")),
    (r"densenet201", partial(_application, attribute="DenseNet201", size="224")),
    (r"densenet161", zoo.densenet161),
    (r"nasnet_mobile(?:_224)?", partial(_application, attribute="NASNetMobile", size="224")),
    (r"vgg(?P<depth>11|13)(?:_bn)?", zoo.vgg),
    (r"vgg16(?:_bn)?", partial(_application, attribute="VGG16", size="224")),
    (r"vgg19(?:_bn)?", partial(_application, attribute="VGG19", size="224")),
    (r"resnet_v2_152(?:_299)?", partial(_application, attribute="ResNet152V2", size="299")),
    (r"efficientnet_b4(?: (?P<size>\d+))?",
     partial(_application, attribute="EfficientNetB4", size="380")),
    (r"efficientnet_v2_s(?: (?P<size>\d+))?",
     partial(_application, attribute="EfficientNetV2S", size="384")),
    (r"efficientnet-edgetpu[- ]\(?(?P<size>[sml])\)?", zoo.efficientnet_edgetpu),
    (r"mnasnet05", partial(_mnasnet, alpha="0.5")),
    (r"alexnet", zoo.alexnet),
    (r"squeezenet(?P<version>1_[01])", zoo.squeezenet),
    (r"regnetx_800mf", partial(zoo.regnetx, size="800m")),
    (r"regnetx_1\.6gf", partial(zoo.regnetx, size="1.6g")),
    (r"repvgg_a2", zoo.repvgg_a2),
    (r"yamnet", zoo.yamnet),
    (rf"fc (?P<layers>\d+) x (?P<units>10) (?P<task>{_TASK})",
     partial(zoo.fully_connected, last="")),
    (rf"fc (?P<units>10)\+(?P<last>50) (?P<task>{_TASK})",
     partial(zoo.fully_connected, layers="")),
]  # fmt: skip
