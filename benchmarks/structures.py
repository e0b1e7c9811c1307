"""Networks by the names that measurement tables use, as graphs without weights.

Keras models are converted shape by shape to the operators that the TFLite converter would write:
batch normalization and activations fold into the convolution before them, and padding that a
strided convolution of the original TensorFlow-Slim network did itself folds into it too.
"""

from __future__ import annotations

import gc
import hashlib
import inspect
import math
import os
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from edgekit.base.files import write_bytes
from edgekit.graph.types import Graph, Op, OpClass, Port, Tensor
from edgekit.schema.names import Precision

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

_FUSED = {"linear", "relu", "relu6"}
_SKIPPED = {
    "InputLayer", "Dropout", "SpatialDropout2D", "Rescaling", "Normalization", "GaussianNoise",
}  # fmt: skip
_ELEMENTWISE = {
    "Add": "ADD",
    "Multiply": "MUL",
    "Subtract": "SUB",
    "Average": "ADD",
    "CustomScaleLayer": "ADD",
}
_KERNEL_OUTPUT = {"Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Dense"}


def structure(name: str, precision: Precision, folder: Path | None = None) -> Graph | None:
    """The graph of a network named as in the table, or None if its structure is not known.

    Args:
        name: of the network.
        precision: of its weights and activations.
        folder: where structures are kept from run to run, because building one takes Keras.
    """
    for pattern, build in _FAMILIES:
        match = re.fullmatch(pattern, name, re.IGNORECASE)
        if match:
            found = tuple(sorted((k, v) for k, v in match.groupdict().items() if v))
            return retyped(_kept(pattern, build, found, folder), precision)
    return None


@cache
def _kept(
    pattern: str, build: Callable[..., Any], found: tuple[tuple[str, str], ...], folder: Path | None
) -> Graph:
    if folder is None:
        return _built(build, found)
    code = (Path(__file__).read_text(encoding="utf-8"), inspect.getsource(build))
    key = hashlib.sha256(repr((pattern, found, *code)).encode()).hexdigest()[:16]
    path = folder / f"{key}.pickle"
    if path.is_file():
        graph = pickle.loads(path.read_bytes())
        assert isinstance(graph, Graph)
        return graph
    graph = _built(build, found)
    write_bytes(path, pickle.dumps(graph))
    return graph


def _built(build: Callable[..., Any], found: tuple[tuple[str, str], ...]) -> Graph:
    import keras

    graph = convert(build(**dict(found)))
    keras.backend.clear_session()
    gc.collect()
    return graph


def retyped(graph: Graph, precision: Precision) -> Graph:
    """The graph with weights and activations of another precision."""

    def dtype(tensor: Tensor) -> str:
        if precision == "int8":
            return "int32" if tensor.constant and len(tensor.shape) == 1 else "int8"
        return "float16" if precision == "fp16" and tensor.constant else "float32"

    return replace(graph, tensors=tuple(replace(t, dtype=dtype(t)) for t in graph.tensors))


class _Writer:
    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.ops: list[Op] = []

    def tensor(self, shape: tuple[int, ...], *, constant: bool = False) -> int:
        index = len(self.tensors)
        self.tensors.append(Tensor(index, f"t{index}", shape, "float32", None, constant))
        return index

    def op(
        self,
        name: str,
        kind: OpClass,
        layer: str,
        inputs: list[int],
        shape: tuple[int, ...],
        weights: tuple[tuple[int, ...], ...] = (),
        macs: int = 0,
    ) -> int:
        constants = [self.tensor(w, constant=True) for w in weights]
        output = self.tensor(shape)
        self.ops.append(
            Op(len(self.ops), name, kind, layer, (*inputs, *constants), (output,), {}, macs)
        )
        return output


def convert(model: Any) -> Graph:
    """A functional Keras model as the graph of the fp32 .tflite file that it would become."""
    writer = _Writer()
    made: dict[int, int] = {}  # id of a Keras tensor to a tensor index
    kernel_made: set[int] = set()  # tensors that a fused activation or batch norm may follow
    inputs = []
    for tensor in model.inputs:
        made[id(tensor)] = writer.tensor(_shape(tensor))
        inputs.append(Port(tensor.name, made[id(tensor)]))
    for layer in _in_order(model):
        kind = type(layer).__name__
        node = layer._inbound_nodes[0]
        sources = [made[id(tensor)] for tensor in node.input_tensors]
        target = node.outputs[0]
        shape = _shape(target)
        if kind in _SKIPPED:
            made[id(target)] = sources[0] if sources else made[id(target)]
            continue
        result = _layer(writer, layer, kind, sources, shape, kernel_made)
        made[id(target)] = result
    outputs = tuple(Port(t.name, made[id(t)]) for t in model.outputs)
    size = sum(t.bytes for t in writer.tensors if t.constant)
    return Graph(
        "tflite", model.name, tuple(writer.tensors), tuple(writer.ops), tuple(inputs), outputs, size
    )


def _in_order(model: Any) -> list[Any]:
    layers = []
    for depth in sorted(model._nodes_by_depth, reverse=True):
        layers += [node.operation for node in model._nodes_by_depth[depth]]
    return layers


def _shape(tensor: Any) -> tuple[int, ...]:
    return tuple(1 if size is None else int(size) for size in tensor.shape)


def _layer(
    w: _Writer, layer: Any, kind: str, sources: list[int], shape: tuple[int, ...], fusable: set[int]
) -> int:
    name = layer.name
    source = tuple(size or 1 for size in w.tensors[sources[0]].shape)
    outputs = math.prod(shape)
    if kind == "ZeroPadding2D":  # TensorFlow-Slim's SAME padding does it inside the convolution
        return sources[0]
    if kind in ("Conv2D", "SeparableConv2D"):
        if kind == "SeparableConv2D":
            middle = (*shape[:3], source[-1] * layer.depth_multiplier)
            taps = math.prod(layer.kernel_size)
            inner = w.op("DEPTHWISE_CONV_2D", "depthwise", name, sources, middle,
                         ((1, *layer.kernel_size, middle[-1]), (middle[-1],)),
                         math.prod(middle) * taps)  # fmt: skip
            sources, source, size = [inner], middle, (1, 1)
        else:
            size = layer.kernel_size
        per_group = source[-1] // getattr(layer, "groups", 1)
        taps = math.prod(size) * per_group
        result = w.op("CONV_2D", "pointwise" if max(size) == 1 else "conv", name, sources, shape,
                      ((shape[-1], *size, per_group), (shape[-1],)), outputs * taps)  # fmt: skip
    elif kind == "DepthwiseConv2D":
        result = w.op("DEPTHWISE_CONV_2D", "depthwise", name, sources, shape,
                      ((1, *layer.kernel_size, shape[-1]), (shape[-1],)),
                      outputs * math.prod(layer.kernel_size))  # fmt: skip
    elif kind == "Dense":
        result = w.op("FULLY_CONNECTED", "dense", name, sources, shape,
                      ((shape[-1], source[-1]), (shape[-1],)), outputs * source[-1])  # fmt: skip
    elif kind == "BatchNormalization":
        if sources[0] in fusable:
            return sources[0]
        scaled = w.op("MUL", "elementwise", name, sources, shape, ((shape[-1],),))
        result = w.op("ADD", "elementwise", name, [scaled], shape, ((shape[-1],),))
    elif kind in _ELEMENTWISE:
        result = sources[0]
        for other in sources[1:]:
            result = w.op(_ELEMENTWISE[kind], "elementwise", name, [result, other], shape)
    elif kind in ("Activation", "ReLU", "Softmax"):
        return _activation(w, layer, kind, sources, shape, fusable)
    else:
        return _data_layer(w, kind, name, sources, shape)
    fusable.add(result)
    activation = getattr(getattr(layer, "activation", None), "__name__", "linear")
    if activation not in _FUSED:
        return w.op(activation.upper(), "activation", name, [result], shape)
    return result


def _activation(
    w: _Writer, layer: Any, kind: str, sources: list[int], shape: tuple[int, ...], fusable: set[int]
) -> int:
    function = kind.lower() if kind != "Activation" else layer.activation.__name__
    if function in _FUSED and sources[0] in fusable:
        return sources[0]
    if function in ("silu", "swish"):
        gate = w.op("LOGISTIC", "activation", layer.name, sources, shape)
        return w.op("MUL", "elementwise", layer.name, [sources[0], gate], shape)
    return w.op(function.upper(), "activation", layer.name, sources, shape)


def _data_layer(
    w: _Writer, kind: str, name: str, sources: list[int], shape: tuple[int, ...]
) -> int:
    ops: dict[str, tuple[str, OpClass]] = {
        "MaxPooling2D": ("MAX_POOL_2D", "pool"),
        "AveragePooling2D": ("AVERAGE_POOL_2D", "pool"),
        "GlobalAveragePooling2D": ("MEAN", "reduce"),
        "GlobalMaxPooling2D": ("REDUCE_MAX", "reduce"),
        "Concatenate": ("CONCATENATION", "data"),
        "Flatten": ("RESHAPE", "data"),
        "Reshape": ("RESHAPE", "data"),
        "Cropping2D": ("STRIDED_SLICE", "data"),
        "UpSampling2D": ("RESIZE_NEAREST_NEIGHBOR", "resize"),
    }
    if kind not in ops:
        raise ValueError(f"no conversion for Keras layer {kind}")
    return w.op(*ops[kind], name, sources, shape)


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


def _application(attribute: str, size: int) -> Callable[[], Any]:
    def build() -> Any:
        return getattr(_applications(), attribute)(input_shape=(size, size, 3), weights=None)

    return build


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


_SIZE = r"[-_](?P<size>\d+)"
_ALPHA = r"[-_](?P<alpha>[\d.]+)"
_QUANT = r"(?:[-_](?:non-)?quant(?:ized)?)?"

_FAMILIES: list[tuple[str, Callable[..., Any]]] = [
    (rf"mobilenet[-_ ]v1{_ALPHA}{_SIZE}{_QUANT}", _mobilenet_v1),
    (r"mobilenet[-_ ]v1", _mobilenet_v1),
    (rf"mobilenet[-_ ]v2{_ALPHA}{_SIZE}{_QUANT}", _mobilenet_v2),
    (r"mobilenet[-_ ]v2", _mobilenet_v2),
    (rf"mobilenet-v3-(?P<kind>large|small)(?P<minimal>-minimalistic)?_224{_ALPHA}_(?:float|uint8)",
     _mobilenet_v3),
    (r"mobilenetv3-(?P<kind>large|small) minimalistic(?P<minimal>)", _mobilenet_v3),
    (rf"efficientnet-lite(?P<number>\d){_QUANT}", _efficientnet_lite),
    (rf"mnasnet{_ALPHA}{_SIZE}", _mnasnet),
    (r"inception[-_ ]v1(?:_224)?(?:_quant)?(?:_edgetpu\.tflite)?", _inception_v1),
    (r"inception[-_ ]v3(?:_299)?", _application("InceptionV3", 299)),
    (r"inception[-_]resnet[-_ ]v2(?:_299)?", _application("InceptionResNetV2", 299)),
    (r"resnet_v2_101_299", _application("ResNet101V2", 299)),
    (r"resnet-50 v1", _application("ResNet50", 299)),
    (r"resnet-50 v2", _application("ResNet50V2", 299)),
    (r"resnet50", _application("ResNet50", 224)),
    (r"densenet(?:_224)?", _application("DenseNet121", 224)),
    (r"nasnet_mobile(?:_224)?", _application("NASNetMobile", 224)),
    (r"vgg16", _application("VGG16", 224)),
    (r"vgg19", _application("VGG19", 224)),
]  # fmt: skip
