"""Arm Ethos-U55, U65 and U85: what Vela places on the NPU, by its own list of constraints.

The list is that of Vela 5.2 (`vela --supported-ops-report`); U55 and U65 share one, U85 has its
own. Where Vela places more than the list says (a mean of 4096, 65536 rows of a softmax, strides
above 3 with padding SAME that adds nothing), the rules are as Vela does it. Constraints on the
values of constants (sum of a filter's absolute weights, 64-bit biases, strides of a STRIDED_SLICE)
are not checked here, for rules see no values: the compiler does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from edgekit.graph.types import Tensor
from edgekit.profiling.rules.base import OpView, Rule, RuleSet, broken_dimensions, rule, shape_text

_BOTH = """
ABS ADD ARG_MAX AVERAGE_POOL_2D BATCH_MATMUL CONCATENATION CONV_2D DEPTHWISE_CONV_2D ELU EXP
EXPAND_DIMS FULLY_CONNECTED GELU HARD_SWISH LEAKY_RELU LOG LOGISTIC MAXIMUM MAX_POOL_2D MEAN MINIMUM
MIRROR_PAD MUL NEG PACK PAD PADV2 PRELU QUANTIZE REDUCE_MAX REDUCE_MIN RELU RELU6 RELU_0_TO_1
RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_V2 RSQRT SLICE SOFTMAX SPLIT
SPLIT_V SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM TANH TILE TRANSPOSE TRANSPOSE_CONV
UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK
"""
_U85_ONLY = """
ASSIGN_VARIABLE CAST DIV EQUAL GATHER GREATER GREATER_EQUAL LESS LESS_EQUAL LOGICAL_AND LOGICAL_NOT
LOGICAL_OR NOT_EQUAL READ_VARIABLE REDUCE_ALL REDUCE_ANY SCATTER_ND SELECT SELECT_V2
"""
_INTEGERS = ("int8", "uint8", "int16", "int32", "int64")
_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
_WIDE = frozenset(
    {"ADD", "ARG_MAX", "BATCH_MATMUL", "EXPAND_DIMS", "FULLY_CONNECTED", "MIRROR_PAD", "MUL", "NEG",
     "RESHAPE", "SQUEEZE", "SUB", "SUM", "TRANSPOSE"}
)  # fmt: skip
_UNSCALED = frozenset(
    {"ARG_MAX", "EXPAND_DIMS", "MIRROR_PAD", "PAD", "PADV2", "QUANTIZE", "TRANSPOSE"}
)
_MOST_REDUCED = {"int8": 1 << 24, "uint8": 1 << 23, "int16": 1 << 16}
_LSTM_INPUTS = 15  # input, 4 x (input weights, recurrent weights, bias), 2 states
_QUANTIZE = "export with --precision int8: full integer quantization"
_SMALLER = "use a smaller window, or a strided convolution"


def _nhwc(tensor: Tensor) -> tuple[int, int, int, int]:
    """Batch, height, width and depth, missing axes counted as 1."""
    sizes = [1 if size is None else size for size in tensor.shape]
    padded = [1] * (4 - len(sizes)) + sizes
    return math.prod(padded[:-3]), padded[-3], padded[-2], padded[-1]


def _maps(op: OpView) -> list[Tensor]:
    return [*op.activations, *op.outputs]


def _first(tensors: Iterable[Tensor], words: str) -> str | None:
    return next((f"{tensor.name} {words.format(t=tensor)}" for tensor in tensors), None)


@rule(fix="fix the input shape before the export")
def static_shapes(op: OpView) -> str | None:
    """Only the first dimension of tensors can be dynamic."""
    return broken_dimensions([*op.inputs, *op.outputs])


@rule(fix=_QUANTIZE)
def integer_maps(op: OpView) -> str | None:
    """Feature maps are int8, uint8, int16, int32 or int64."""
    return _first((t for t in _maps(op) if t.dtype not in _INTEGERS), "is {t.dtype}")


@rule(fix=_QUANTIZE)
def integer_or_bool_maps(op: OpView) -> str | None:
    """Feature maps are bool, int8, uint8, int16, int32 or int64."""
    allowed = (*_INTEGERS, "bool", "resource")
    return _first((t for t in _maps(op) if t.dtype not in allowed), "is {t.dtype}")


@rule(fix=_QUANTIZE)
def quantized(op: OpView) -> str | None:
    """Inputs, outputs and weights have quantization parameters, with scales above 0."""
    if op.op.name in _UNSCALED:
        return None
    narrow = [t for t in _maps(op) if t.dtype in ("int8", "uint8", "int16")]
    for tensor in narrow:
        if tensor.quantization is None:
            return f"{tensor.name} has no scale"
        if min(tensor.quantization.scale) <= 0:
            return f"{tensor.name} has scale {min(tensor.quantization.scale):g}"
    return None


@rule(fix="quantize activations with one scale a tensor")
def per_tensor(op: OpView) -> str | None:
    """Quantization along an axis is for the weights of convolutions and dense layers."""
    tensors = [*op.outputs, *(op.activations if op.op.name in _CONVOLUTIONS else op.inputs)]
    several = (t for t in tensors if t.quantization is not None and t.quantization.per_channel)
    return _first(several, "has a scale a channel")


@rule(fix="quantize to int8")
def no_64_bit(op: OpView) -> str | None:
    """64-bit feature maps are not supported."""
    if op.op.name == "ARG_MAX":
        return None
    return _first((t for t in _maps(op) if t.dtype == "int64"), "is {t.dtype}")


@rule(fix="quantize to int8 or int16")
def no_32_bit(op: OpView) -> str | None:
    """32-bit feature maps are for ADD, SUB, MUL, SUM, TRANSPOSE and reshapes only."""
    if op.op.name in _WIDE:
        return None
    return _first((t for t in _maps(op) if t.dtype == "int32"), "is {t.dtype}")


@rule(*_CONVOLUTIONS, fix="export with --precision int8, which stores 8-bit weights and int32 bias")
def weights_and_bias(op: OpView) -> str | None:
    """Weights are 8-bit; biases are constant, int32 or int64."""
    weights = op.view.weights_in(op.op)
    if op.op.name != "TRANSPOSE_CONV":  # whose output shape is a constant too
        for tensor in op.inputs[2:]:
            if tensor not in weights:
                return f"the bias {tensor.name} is computed"
    heavy = [t for t in weights if len(t.shape) > 1]
    found = _first((t for t in heavy if t.dtype not in ("int8", "uint8")), "is {t.dtype}")
    biases = (t for t in weights if len(t.shape) == 1 and t.dtype not in ("int32", "int64"))
    return found or _first(biases, "is {t.dtype}")


@rule("BATCH_MATMUL", "FULLY_CONNECTED", fix="quantize to int8")
def int8_matmul(op: OpView) -> str | None:
    """A product of two computed matrices is int8; depth and reduced axis are at most 2^16."""
    if len(op.activations) < 2:
        return None
    found = _first((t for t in op.activations if t.dtype != "int8"), "is {t.dtype}")
    deep = (t for t in _maps(op) if max(_nhwc(t)) > 1 << 16)
    return found or _first(deep, "is too deep")


def _strides(op: OpView) -> tuple[int, int]:
    return int(op.attribute("stride_h", 1)), int(op.attribute("stride_w", 1))


@rule("AVERAGE_POOL_2D", "CONV_2D", "MAX_POOL_2D", fix="use strides up to 3, or padding='valid'")
def long_strides(op: OpView) -> str | None:
    """Strides above 3 need a dilation of 1 and a map that is not padded."""
    height, width = _strides(op)
    dilation = max(op.attribute("dilation_h_factor", 1), op.attribute("dilation_w_factor", 1))
    if max(height, width) <= 3 or (dilation <= 1 and not _padded(op)):
        return None
    return f"strides {height}x{width}, dilation {dilation}, padding {op.attribute('padding')}"


def _padded(op: OpView) -> bool:
    """Whether padding SAME adds anything."""
    if op.attribute("padding") == "VALID":
        return False
    kernel = _window(op) if op.op.kind == "pool" else _nhwc(op.inputs[1])[1:3]
    before, after = _nhwc(op.inputs[0])[1:3], _nhwc(op.outputs[0])[1:3]
    sides = zip(before, after, kernel, _strides(op), strict=True)
    return any((out - 1) * stride + size > given for given, out, size, stride in sides)


@rule("DEPTHWISE_CONV_2D", fix="use strides up to 3")
def short_strides(op: OpView) -> str | None:
    """Strides of a depthwise convolution are 1 to 3."""
    height, width = _strides(op)
    return None if max(height, width) <= 3 else f"strides {height}x{width}"


def _window(op: OpView) -> tuple[int, int]:
    return int(op.attribute("filter_height", 1)), int(op.attribute("filter_width", 1))


@rule("AVERAGE_POOL_2D", fix=_SMALLER)
def average_window(op: OpView) -> str | None:
    """An average pool's window is at most 8x8, or with padding VALID 256 high and 256*256 large."""
    height, width = _window(op)
    if op.attribute("padding") == "VALID":
        fits = height <= 256 and height * width <= 256 * 256
    else:
        fits = max(height, width) <= 8
    return None if fits else f"{height}x{width}, padding {op.attribute('padding')}"


@rule("MAX_POOL_2D", fix=_SMALLER)
def max_window(op: OpView) -> str | None:
    """A max pool's window is at most 256 high and 256*256 large."""
    height, width = _window(op)
    return None if height <= 256 and height * width <= 256 * 256 else f"{height}x{width}"


def _same_type(op: OpView, allowed: tuple[str, ...]) -> str | None:
    source, result = op.inputs[0], op.outputs[0]
    if source.shape != result.shape:
        return f"from {shape_text(source)} to {shape_text(result)}"
    if source.dtype != result.dtype or source.dtype not in allowed:
        return f"from {source.dtype} to {result.dtype}"
    return None


@rule("ELU", fix="quantize to int8, or use ReLU")
def elu_type(op: OpView) -> str | None:
    """Input and output of ELU are int8, of one shape."""
    return _same_type(op, ("int8",))


@rule("GELU", fix="quantize to int8, or use ReLU")
def gelu_type(op: OpView) -> str | None:
    """Input and output of GELU are both int8 or both uint8, of one shape."""
    return _same_type(op, ("int8", "uint8"))


@rule("LOG", "RSQRT", fix="quantize to int8 or int16")
def log_type(op: OpView) -> str | None:
    """Input and output of LOG and RSQRT are both int8 or both int16, of one shape."""
    return _same_type(op, ("int8", "int16"))


@rule(
    "MAXIMUM", "MINIMUM", fix="use one range for both inputs and the output, or ReLU for clipping"
)
def one_scale(op: OpView) -> str | None:
    """Both inputs have the quantization parameters of the output."""
    result = op.outputs[0].quantization
    return _first((t for t in op.inputs if t.quantization != result), "has another scale")


@rule("MEAN", fix="average with GlobalAveragePooling2D, in two steps where the map is large")
def small_mean(op: OpView) -> str | None:
    """MEAN has a batch of 1, reduces up to 4096 values an axis and 2^24 in all, of 8 or 16 bits.

    (2^23 in all for uint8, 2^16 for int16.)
    """
    source, result = op.inputs[0], op.outputs[0]
    sizes = _nhwc(source)
    if source.dtype not in _MOST_REDUCED:
        return f"{source.name} is {source.dtype}"
    if sizes[0] != 1:
        return f"batch {sizes[0]}"
    reduced = source.elements // max(result.elements, 1)
    if reduced > _MOST_REDUCED[source.dtype]:
        return f"{reduced:,} values are averaged"
    axes = _reduced_axes(source, result)
    if axes and max(sizes[axis] for axis in axes) > 4096:
        return f"{shape_text(source)} is averaged along an axis of more than 4096"
    return None


@rule("MEAN", fix="average over height and width only")
def mean_over_depth(op: OpView) -> str | None:
    """A mean over the depth needs a height, a width or a depth of 1."""
    source, result = op.inputs[0], op.outputs[0]
    axes, sizes = _reduced_axes(source, result), _nhwc(source)
    return shape_text(source) if axes and 3 in axes and 1 not in sizes[1:] else None


def _reduced_axes(source: Tensor, result: Tensor) -> set[int] | None:
    """The axes of NHWC that a reduction takes away, by the shapes; None where they do not tell."""
    before = [1 if size is None else size for size in source.shape]
    after = [1 if size is None else size for size in result.shape]
    shift = 4 - len(before)
    if len(after) == len(before):
        return {n + shift for n, size in enumerate(before) if after[n] != size}
    kept, axes = 0, set()
    for n, size in enumerate(before):
        if kept < len(after) and after[kept] == size:
            kept += 1
        else:
            axes.add(n + shift)
    return axes if kept == len(after) else None


@rule("MEAN", "MIRROR_PAD", "PAD", "PADV2", "SLICE", "STRIDED_SLICE", "TRANSPOSE",
      fix="use constant axes, sizes and paddings")  # fmt: skip
def constant_parameters(op: OpView) -> str | None:
    """Axes, sizes, paddings and permutations are constant."""
    return _first(op.activations[1:], "is computed")


def _scales(op: OpView) -> tuple[float, float]:
    _, height, width, _ = _nhwc(op.inputs[0])
    _, tall, wide, _ = _nhwc(op.outputs[0])
    less = 1 if op.attribute("align_corners") else 0
    return (
        (tall - less) / max(height - less, 1) if tall != height else 1.0,
        (wide - less) / max(width - less, 1) if wide != width else 1.0,
    )


@rule("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", fix="resize by 2, in several steps for 4 and 8")
def resize_by_two(op: OpView) -> str | None:
    """Resizing is by 2, 4 or 8 both ways (half pixel centers, bilinear: by 2), or from 1x1."""
    source, result = _nhwc(op.inputs[0]), _nhwc(op.outputs[0])
    if source[1:3] == (1, 1) or source[1:3] == result[1:3]:
        return None
    tall, wide = _scales(op)
    half = op.attribute("half_pixel_centers") and op.op.name == "RESIZE_BILINEAR"
    allowed = (2,) if half else (2, 4, 8)
    flat = (result[1] == 1 and tall == 1) or (result[2] == 1 and wide == 1)
    if (tall == wide or flat) and max(tall, wide) in allowed:
        return None
    return f"{shape_text(op.inputs[0])} to {shape_text(op.outputs[0])}"


@rule("RESIZE_BILINEAR", fix="resize by a power of two")
def resize_by_power(op: OpView) -> str | None:
    """Bilinear resizing is by a power of two."""
    whole = all(scale >= 1 and math.log2(scale).is_integer() for scale in _scales(op))
    return None if whole else f"{shape_text(op.inputs[0])} to {shape_text(op.outputs[0])}"


@rule("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", fix="use one of the two")
def one_alignment(op: OpView) -> str | None:
    """align_corners and half_pixel_centers are mutually exclusive."""
    both = op.attribute("align_corners") and op.attribute("half_pixel_centers")
    return "both are set" if both else None


@rule("SOFTMAX", fix="take the softmax of fewer rows")
def small_softmax(op: OpView) -> str | None:
    """The product of width and height of a softmax is at most 65536."""
    _, height, width, _ = _nhwc(op.inputs[0])
    return None if height * width <= 1 << 16 else shape_text(op.inputs[0])


@rule("ARG_MAX", fix="take the arg max on the host")
def arg_max_depth(op: OpView) -> str | None:
    """ARG_MAX is along a depth of at most 127."""
    source, result = op.inputs[0], op.outputs[0]
    if _nhwc(source)[3] <= 127 and result.shape == source.shape[:-1]:
        return None
    return f"{shape_text(source)} to {shape_text(result)}"


@rule("TRANSPOSE", fix="merge axes before the transpose")
def transpose_rank(op: OpView) -> str | None:
    """TRANSPOSE takes up to 8 axes, of int32 up to 4."""
    most = 4 if op.inputs[0].dtype == "int32" else 8
    return None if len(op.inputs[0].shape) <= most else shape_text(op.inputs[0])


@rule("TRANSPOSE_CONV", fix="use strides of 1 or 2, or UpSampling2D and a convolution")
def transpose_strides(op: OpView) -> str | None:
    """Strides of a transposed convolution are 1x1 or 2x2, or 2 along the only axis."""
    height, width = _strides(op)
    kernel, source = _nhwc(op.inputs[1]), _nhwc(op.activations[0])
    flat = (height, width, source[1], kernel[1]) == (1, 2, 1, 1)
    thin = (height, width, source[2], kernel[2]) == (2, 1, 1, 1)
    return None if (height, width) in ((1, 1), (2, 2)) or flat or thin else f"{height}x{width}"


@rule("UNIDIRECTIONAL_SEQUENCE_LSTM", fix="use a plain LSTM layer")
def plain_lstm(op: OpView) -> str | None:
    """An LSTM has no peepholes, projection, normalization or implicit gates."""
    count = len(op.inputs)
    return None if count == _LSTM_INPUTS else f"{count} inputs, a plain one has {_LSTM_INPUTS}"


@rule("GATHER", fix="gather along the first axis")
def gather_axis(op: OpView) -> str | None:
    """GATHER's axis equals its batch_dims."""
    axis, batch = op.attribute("axis", 0), op.attribute("batch_dims", 0)
    return None if axis == batch else f"axis {axis}, batch_dims {batch}"


_SHARED: tuple[Rule, ...] = (
    static_shapes, quantized, per_tensor, weights_and_bias, average_window, max_window, elu_type,
    gelu_type, log_type, one_scale, small_mean, mean_over_depth, constant_parameters, small_softmax,
    transpose_rank, plain_lstm,
)  # fmt: skip
_SOURCE = "https://gitlab.arm.com/artificial-intelligence/ethos-u/ethos-u-vela"

U55 = RuleSet(
    name="ethos-u55",
    title="Ethos-U55 and U65 (Vela)",
    formats=("tflite",),
    fallback="tflm",
    rules=(
        integer_maps, *_SHARED, no_64_bit, no_32_bit, int8_matmul, long_strides, short_strides,
        resize_by_two, arg_max_depth, transpose_strides,
    ),
    source=_SOURCE,
    takes=frozenset(_BOTH.split()),
)  # fmt: skip

U85 = RuleSet(
    name="ethos-u85",
    title="Ethos-U85 (Vela)",
    formats=("tflite",),
    fallback="tflm",
    rules=(integer_or_bool_maps, *_SHARED, resize_by_power, one_alignment, gather_axis),
    source=_SOURCE,
    takes=frozenset((_BOTH + _U85_ONLY).split()),
)
