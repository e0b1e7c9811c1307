"""The operators that the TensorFlow Lite converter makes of Keras layers.

A rule reads shapes from its site, never from the arguments of the layer: so the same rules tell
what a layer with fewer channels would become.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgekit.models.graph_site import Rule, Site, Tensors
from edgekit.models.graph_writer import Shape
from edgekit.models.inspect import macs


def _pair(value: Any, rank: int) -> tuple[int, int]:
    """A setting of one or two spatial axes for an operator of two: rows, then columns."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * rank
    return (1, values[0]) if rank == 1 else (values[0], values[1])


def _window(layer: Any, rank: int) -> dict[str, Any]:
    rows, columns = _pair(layer.strides, rank)
    padding = "SAME" if layer.padding == "same" else "VALID"
    return {"padding": padding, "stride_h": rows, "stride_w": columns}


def _flat(site: Site, rule: Callable[[Site, int, Shape], int], rank: int) -> int:
    """Calls a rule for images; a sequence becomes an image of one row and back."""
    x, shape = site.inputs[0], site.shapes[0]
    given = site.writer.shape(x)
    if rank == 1:
        x = site.reshaped(x, (given[0], 1, *given[1:]))
        y = rule(site, x, (shape[0], 1, *shape[1:]))
        return site.reshaped(y, shape)
    return rule(site, x, shape)


def _convolution(site: Site) -> int:
    layer = site.layer
    *places, taken, made = site.size(layer.kernel)
    if len(places) == 3:
        kernel, bias = site.weights(layer.kernel), site.bias(layer.bias, made)
        return site.op("CONV_3D", (site.inputs[0], kernel, bias), site.shapes[0])

    def write(site: Site, x: int, shape: Shape) -> int:
        if layer.padding == "causal":
            given = site.writer.shape(x)
            more = (int(places[0] or 1) - 1) * int(layer.dilation_rate[0])
            wide = (*given[:2], None if given[2] is None else given[2] + more, given[3])
            x = site.op("PAD", (x, site.writer.numbers(8)), wide)
        kernel = site.weights(layer.kernel, (made, *(1, *places)[-2:], taken))
        rows, columns = _pair(layer.dilation_rate, layer.rank)
        return site.op(
            "CONV_2D",
            (x, kernel, site.bias(layer.bias, made)),
            shape,
            dilation_h_factor=rows,
            dilation_w_factor=columns,
            **_window(layer, layer.rank),
        )

    return site.activated(_flat(site, write, layer.rank), layer.activation)


def _transposed(site: Site) -> int:
    layer = site.layer
    *places, made, taken = site.size(layer.kernel)
    if len(places) == 3:
        kernel, sizes = site.weights(layer.kernel), site.writer.numbers(5)
        return site.op("CONV_3D_TRANSPOSE", (sizes, kernel, site.inputs[0]), site.shapes[0])

    def write(site: Site, x: int, shape: Shape) -> int:
        kernel = site.weights(layer.kernel, (made, *(1, *places)[-2:], taken))
        inputs: tuple[int, ...] = (site.writer.numbers(4), kernel, x)
        if layer.bias is not None:
            inputs += (site.bias(layer.bias, made),)
        return site.op("TRANSPOSE_CONV", inputs, shape, **_window(layer, layer.rank))

    return site.activated(_flat(site, write, layer.rank), layer.activation)


def _depthwise(site: Site, kernel: Any = None, bias: Any = None, shape: Shape | None = None) -> int:
    layer = site.layer
    kernel = layer.kernel if kernel is None else kernel
    *places, taken, multiplier = site.size(kernel)
    made = (taken or 1) * (multiplier or 1)

    def write(site: Site, x: int, shape: Shape) -> int:
        rows, columns = _pair(layer.dilation_rate, layer.rank)
        weights = site.weights(kernel, (1, *(1, *places)[-2:], made))
        return site.op(
            "DEPTHWISE_CONV_2D",
            (x, weights, site.bias(bias, made)),
            shape,
            depth_multiplier=multiplier,
            dilation_h_factor=rows,
            dilation_w_factor=columns,
            **_window(layer, layer.rank),
        )

    return _flat(replace(site, shapes=(shape or site.shapes[0],)), write, layer.rank)


def _only_depthwise(site: Site) -> int:
    return site.activated(_depthwise(site, bias=site.layer.bias), site.layer.activation)


def _separable(site: Site) -> int:
    layer, shape = site.layer, site.shapes[0]
    *_, between, made = site.size(layer.pointwise_kernel)
    y = _depthwise(site, kernel=layer.depthwise_kernel, shape=(*shape[:-1], between))

    def write(site: Site, x: int, shape: Shape) -> int:
        kernel = site.weights(layer.pointwise_kernel, (made, 1, 1, between))
        inputs = (x, kernel, site.bias(layer.bias, made))
        return site.op("CONV_2D", inputs, shape, padding="VALID", stride_h=1, stride_w=1)

    return site.activated(_flat(replace(site, inputs=(y,)), write, layer.rank), layer.activation)


def _product(
    site: Site, x: int, shape: Shape, kernel: Any, sizes: tuple[Any, Any], bias: Any = None
) -> int:
    """A product with a matrix of weights of `sizes` (inputs, outputs)."""
    inputs: tuple[int, ...] = (x, site.weights(kernel, (sizes[1], sizes[0])))
    if bias is not None:
        inputs += (site.bias(bias, sizes[1]),)
    return site.op("FULLY_CONNECTED", inputs, shape, keep_num_dims=len(shape) > 2)


def _dense(site: Site) -> int:
    layer = site.layer
    taken, made = site.size(layer.kernel)
    y = _product(site, site.inputs[0], site.shapes[0], layer.kernel, (taken, made), layer.bias)
    return site.activated(y, layer.activation)


def _einsum(site: Site) -> int:
    """A product where the equation is one; its axes are joined and taken apart by reshapes."""
    layer, shape = site.layer, site.shapes[0]
    left, _, result = layer.equation.replace("...", "").partition("->")
    given, letters = left.split(",")
    sizes = dict(zip(letters, site.size(layer.kernel), strict=True))
    summed = [letter for letter in letters if letter not in result]
    made = [letter for letter in letters if letter in result]
    if any(letter in given for letter in made):  # one product for each index of a shared letter
        kernel = site.weights(layer.kernel)
        return _biased(
            site, site.op("BATCH_MATMUL", (site.inputs[0], kernel), shape, macs=macs(layer))
        )
    taken, units = (math.prod(sizes[one] or 1 for one in part) for part in (summed, made))
    x = site.inputs[0]
    before = site.writer.shape(x)
    rest = before[: len(before) - len(summed)]
    y = site.reshaped(x, (*rest, taken))
    one_axis = layer.bias is not None and len(site.size(layer.bias)) == len(made)
    bias = layer.bias if one_axis else None
    y = _product(site, y, (*rest, units), layer.kernel, (taken, units), bias)
    y = site.reshaped(y, shape)
    return site.activated(y, layer.activation) if one_axis else _biased(site, y)


def _biased(site: Site, y: int) -> int:
    layer = site.layer
    if layer.bias is not None:
        y = site.op("ADD", (y, site.weights(layer.bias)), site.shapes[0])
    return site.activated(y, layer.activation)


def _batch_norm(site: Site) -> int:
    x = site.inputs[0]
    if site.alone and site.writer.scale(x):
        return x
    wide = site.weights(site.layer.moving_mean)
    y = site.op("MUL", (x, wide), site.shapes[0])
    return site.op("ADD", (y, wide), site.shapes[0])


def _layer_norm(site: Site) -> int:
    layer, x, shape = site.layer, site.inputs[0], site.shapes[0]
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else (layer.axis,)
    reduced = {axis % len(shape) for axis in axes}
    one = tuple(1 if axis in reduced else size for axis, size in enumerate(shape))
    number = site.writer.numbers(len(reduced))
    mean = site.op("MEAN", (x, number), one, keep_dims=True)
    square = site.op("SQUARED_DIFFERENCE", (x, mean), shape)
    variance = site.op("MEAN", (square, number), one, keep_dims=True)
    added = site.op("ADD", (variance, site.writer.numbers(1)), one)
    scale = site.op("RSQRT", (added,), one)
    if layer.gamma is not None:
        scale = site.op("MUL", (scale, site.weights(layer.gamma)), shape)
    offset = site.op("MUL", (mean, scale), site.writer.shape(scale))
    if layer.beta is not None:
        offset = site.op("SUB", (site.weights(layer.beta), offset), shape)
    name = "ADD" if layer.beta is not None else "SUB"
    return site.op(name, (site.op("MUL", (x, scale), shape), offset), shape)


def _activation(site: Site) -> int:
    return site.activated(site.inputs[0], site.layer.activation, alone=site.alone)


def _named(function: str) -> Rule:
    """A layer or operation that is one activation function."""

    def rule(site: Site) -> int:
        return site.activated(site.inputs[0], _Named(function), alone=site.alone)

    return rule


@dataclass(frozen=True)
class _Named:
    __name__: str


def _relu(site: Site) -> int:
    layer = site.layer
    slope, most = getattr(layer, "negative_slope", 0), getattr(layer, "max_value", None)
    word = "leaky_relu" if slope else "relu6" if most == 6 else "relu"
    return site.activated(site.inputs[0], _Named(word), alone=site.alone)


def _prelu(site: Site) -> int:
    return site.op("PRELU", (site.inputs[0], site.weights(site.layer.alpha)), site.shapes[0])


def _merge(name: str) -> Rule:
    def rule(site: Site) -> int:
        y = site.inputs[0]
        others = site.inputs[1:] or (site.writer.constant(f"{site.label}/other", (1,), "int8"),)
        for other in others:
            y = site.op(name, (y, other), site.shapes[0])
        return y

    return rule


def _concatenate(site: Site) -> int:
    return site.op("CONCATENATION", site.inputs, site.shapes[0], axis=site.layer.axis)


def _pool(name: str) -> Rule:
    def rule(site: Site) -> int:
        layer = site.layer
        rank = len(site.shapes[0]) - 2

        def write(site: Site, x: int, shape: Shape) -> int:
            rows, columns = _pair(layer.pool_size, rank)
            filters = {"filter_height": rows, "filter_width": columns}
            return site.op(name, (x,), shape, **filters, **_window(layer, rank))

        return _flat(site, write, rank)

    return rule


def _reduce(name: str) -> Rule:
    def rule(site: Site) -> int:
        keep = bool(getattr(site.layer, "keepdims", False))
        fewer = len(site.writer.shape(site.inputs[0])) - len(site.shapes[0])
        numbers = site.writer.numbers(max(1, fewer))
        return site.op(name, (site.inputs[0], numbers), site.shapes[0], keep_dims=keep)

    return rule


def _reshape(site: Site) -> int:
    return site.reshaped(site.inputs[0], site.shapes[0])


def _moved(name: str) -> Rule:
    """An operator that takes numbers besides its input, and moves values."""

    def rule(site: Site) -> int:
        numbers = site.writer.numbers(len(site.shapes[0]))
        return site.op(name, (site.inputs[0], numbers), site.shapes[0])

    return rule


def _upsample(site: Site) -> int:
    nearest = getattr(site.layer, "interpolation", "nearest") == "nearest"
    name = "RESIZE_NEAREST_NEIGHBOR" if nearest else "RESIZE_BILINEAR"
    return site.op(name, (site.inputs[0], site.writer.numbers(2)), site.shapes[0])


def _rescaling(site: Site) -> int:
    scale = site.writer.weights(site.label, ())
    y = site.op("MUL", (site.inputs[0], scale), site.shapes[0])
    return site.op("ADD", (y, scale), site.shapes[0]) if site.layer.offset else y


def _embedding(site: Site) -> int:
    return site.op("GATHER", (site.weights(site.layer.embeddings), *site.inputs), site.shapes[0])


def _same(site: Site) -> int:
    return site.inputs[0]


def other(site: Site) -> Tensors:
    """A layer that no rule knows: one operator with all its weights."""
    variables = [site.weights(v) for v in getattr(site.layer, "weights", ()) if len(v.shape)]
    name = type(site.layer).__name__.upper()
    weighted = macs(site.layer)
    kind: Any = "dense" if weighted else None
    shapes = site.shapes if len(site.shapes) > 1 else site.shapes[0]
    first = site.op(name, (*site.inputs, *variables), shapes, kind=kind, macs=weighted)
    return tuple(range(first, first + len(site.shapes)))


def _each(ranks: str, rule: Rule) -> dict[str, Rule]:
    """The same rule for layers of one, two and three spatial axes."""
    return {name.replace("#", str(rank)): rule for name in ranks.split() for rank in (1, 2, 3)}


def _all(names: str, rule: Rule) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


RULES: Mapping[str, Rule] = {
    **_each("Conv#D", _convolution),
    **_each("Conv#DTranspose", _transposed),
    **_each("DepthwiseConv#D", _only_depthwise),
    **_each("SeparableConv#D", _separable),
    **_each("MaxPooling#D", _pool("MAX_POOL_2D")),
    **_each("AveragePooling#D", _pool("AVERAGE_POOL_2D")),
    **_each("GlobalAveragePooling#D", _reduce("MEAN")),
    **_each("GlobalMaxPooling#D", _reduce("REDUCE_MAX")),
    **_each("ZeroPadding#D", _moved("PAD")),
    **_each("Cropping#D", _moved("STRIDED_SLICE")),
    **_each("UpSampling#D", _upsample),
    **_each("SpatialDropout#D", _same),
    **_all("ActivityRegularization AlphaDropout Dropout GaussianDropout GaussianNoise", _same),
    **_all("Identity Masking StopGradient", _same),
    **_all("Add Average", _merge("ADD")),
    **_all("Divide TrueDivide", _merge("DIV")),
    **_all("ELU Elu", _named("elu")),
    **_all("LeakyReLU LeakyRelu", _named("leaky_relu")),
    **_all("Flatten Reshape", _reshape),
    **_all("Permute Transpose", _moved("TRANSPOSE")),
    "Activation": _activation,
    "BatchNormalization": _batch_norm,
    "Concatenate": _concatenate,
    "Dense": _dense,
    "EinsumDense": _einsum,
    "Embedding": _embedding,
    "Exp": _named("exponential"),
    "Gelu": _named("gelu"),
    "HardSilu": _named("hard_silu"),
    "LayerNormalization": _layer_norm,
    "LogSoftmax": _named("log_softmax"),
    "Matmul": _merge("BATCH_MATMUL"),
    "Max": _reduce("REDUCE_MAX"),
    "Maximum": _merge("MAXIMUM"),
    "Mean": _reduce("MEAN"),
    "Minimum": _merge("MINIMUM"),
    "Multiply": _merge("MUL"),
    "PReLU": _prelu,
    "Power": _merge("POW"),
    "ReLU": _relu,
    "Relu": _named("relu"),
    "Relu6": _named("relu6"),
    "Rescaling": _rescaling,
    "Sigmoid": _named("sigmoid"),
    "Silu": _named("silu"),
    "Softmax": _named("softmax"),
    "Subtract": _merge("SUB"),
    "Sum": _reduce("SUM"),
    "Tanh": _named("tanh"),
}
