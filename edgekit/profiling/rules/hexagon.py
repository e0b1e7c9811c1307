"""Qualcomm's Hexagon DSP through TensorFlow Lite's Hexagon delegate (Hexagon 680 to 690).

The paddings of a PAD, which must be of zeros, are values and not looked at.
"""

from __future__ import annotations

from edgekit.profiling.rules.base import OpView, RuleSet, first_of, geometry, rule, shape_text
from edgekit.profiling.rules.edgetpu import dense_one_scale

_TAKES = """
ADD ARG_MAX ARG_MIN AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTH_TO_SPACE DEPTHWISE_CONV_2D
FULLY_CONNECTED HARD_SWISH L2_NORMALIZATION LOGISTIC MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL
NEG PACK PAD QUANTIZE RELU RELU6 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR SLICE SOFTMAX
SPACE_TO_DEPTH SPLIT STRIDED_SLICE SUB TANH TRANSPOSE TRANSPOSE_CONV
"""
_MOST_STRIDE = 3
_MOST_RESIZED = 65
_MOST_RANK = 4
_DEPTHWISE_WIDTH = 3


@rule(fix="export with --precision int8: full integer quantization")
def quantized(op: OpView) -> str | None:
    """Only quantized operators are supported: activations are int8 or uint8."""
    maps = op.activations if op.op.name in ("ARG_MAX", "ARG_MIN") else op.maps
    return first_of(maps, ("int8", "uint8"))


@rule(fix="merge axes before the layer")
def four_dimensions(op: OpView) -> str | None:
    """Inputs and outputs have at most 4 dimensions."""
    wrong = [t for t in op.maps if len(t.shape) > _MOST_RANK]
    return f"{wrong[0].name} has shape {shape_text(wrong[0])}" if wrong else None


@rule("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", fix="use strides of at most 3")
def small_strides(op: OpView) -> str | None:
    """Strides of convolutions are at most 3."""
    found = geometry(op)
    if found is None or max(found.stride) <= _MOST_STRIDE:
        return None
    return f"{found.stride[0]}x{found.stride[1]}"


@rule("DEPTHWISE_CONV_2D", fix="use kernels of 3x3")
def depthwise_width(op: OpView) -> str | None:
    """The filter of a depthwise convolution is 3 wide."""
    found = geometry(op)
    if found is None or found.kernel[1] == _DEPTHWISE_WIDTH:
        return None
    return f"{found.kernel[0]}x{found.kernel[1]}"


@rule("DEPTHWISE_CONV_2D", fix="use depth_multiplier=1")
def one_multiplier(op: OpView) -> str | None:
    """The depth multiplier is 1."""
    found = geometry(op)
    if found is None or found.channels[0] == found.channels[1]:
        return None
    return f"{found.channels[0]} channels become {found.channels[1]}"


@rule("DEPTHWISE_CONV_2D", fix="dilate or stride, not both")
def dilation_or_stride(op: OpView) -> str | None:
    """A dilated depthwise convolution has stride 1."""
    found = geometry(op)
    both = found is not None and max(found.dilation) > 1 and max(found.stride) > 1
    return f"dilation {max(found.dilation)}, stride {max(found.stride)}" if both and found else None


@rule("TRANSPOSE_CONV", fix="leave the dilation out")
def no_dilated_transpose(op: OpView) -> str | None:
    """A transposed convolution has dilation 1."""
    found = geometry(op)
    return None if found is None or max(found.dilation) == 1 else f"dilation {max(found.dilation)}"


@rule("AVERAGE_POOL_2D", "L2_NORMALIZATION", "MAX_POOL_2D", fix="make the activation its own layer")
def no_fused_activation(op: OpView) -> str | None:
    """Pools and L2 normalization have no fused activation."""
    function = op.attribute("fused_activation_function", "NONE")
    return None if function == "NONE" else f"fused {function}"


@rule("ADD", "MUL", "SUB", fix="use relu, relu6 or no activation")
def fused_relu(op: OpView) -> str | None:
    """Fused activations of ADD, MUL and SUB are those of the ReLU family."""
    function = op.attribute("fused_activation_function", "NONE")
    return None if function == "NONE" or function.startswith("RELU") else f"fused {function}"


@rule("RESIZE_BILINEAR", fix="resize to at most 65x65, or by nearest neighbour")
def small_resize(op: OpView) -> str | None:
    """The requested size is at most 65."""
    sizes = [size or 1 for size in op.outputs[0].shape[1:3]]
    return f"to {shape_text(op.outputs[0])}" if max(sizes, default=1) > _MOST_RESIZED else None


RULES = RuleSet(
    name="hexagon",
    title="the Hexagon delegate",
    formats=("tflite",),
    fallback="litert-cpu",
    rules=(
        quantized, four_dimensions, small_strides, depthwise_width, one_multiplier,
        dilation_or_stride, no_dilated_transpose, no_fused_activation, fused_relu, small_resize,
        dense_one_scale,
    ),
    source=(
        "https://github.com/tensorflow/tensorflow/blob/master/tensorflow/lite/delegates/hexagon/"
        "README.md"
    ),
    takes=frozenset(_TAKES.split()),
    about=__doc__ or "",
)  # fmt: skip
