"""Qualcomm's Hexagon DSP through TensorFlow Lite's Hexagon delegate (Hexagon 680 to 690).

By the delegate's own test, `IsNodeSupportedByHexagon` and `CheckOpVersion` in its utils.cc. Its
README says more: that filters of depthwise convolutions are 3 wide, and their multiplier 1; the
test asks for neither, and the builder has a form for 5x5. The paddings of a PAD, which must be of
zeros, are values and not looked at. The delegate is deprecated; its code stands.
"""

from __future__ import annotations

from dataclasses import replace

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
_SECOND = """
ADD ARG_MAX ARG_MIN AVERAGE_POOL_2D CONCATENATION L2_NORMALIZATION LOGISTIC MAXIMUM MAX_POOL_2D MEAN
MINIMUM MIRROR_PAD MUL PACK PAD QUANTIZE RELU RELU6 RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR SLICE
SOFTMAX SPACE_TO_DEPTH SPLIT STRIDED_SLICE SUB TANH TRANSPOSE TRANSPOSE_CONV
"""
_NEWEST = dict.fromkeys(_SECOND.split(), 2) | {
    "CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4,
}  # fmt: skip
_FOLDER = "https://github.com/tensorflow/tensorflow/blob/master/tensorflow/lite/delegates/hexagon/"


@rule(fix="export with --precision int8: full integer quantization")
def quantized(op: OpView) -> str | None:
    """Only quantized operators are supported: activations are int8 or uint8."""
    maps = op.activations if op.op.name in ("ARG_MAX", "ARG_MIN") else op.maps
    return first_of(maps, ("int8", "uint8"))


@rule(fix="convert with an older TensorFlow (2.5)")
def known_version(op: OpView) -> str | None:
    """Versions of operators are at most 2; of convolutions 3, of FULLY_CONNECTED 4.

    Those without a second version are of the first: DEPTH_TO_SPACE, HARD_SWISH, NEG and RESHAPE.
    """
    version = int(op.attribute("version", 1))
    return f"version {version}" if version > _NEWEST.get(op.op.name, 1) else None


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


@rule("CONV_2D", fix="leave the dilation out, or use a depthwise convolution")
def no_dilation(op: OpView) -> str | None:
    """A convolution has dilation 1, unless it is depthwise."""
    found = geometry(op)
    return None if found is None or max(found.dilation) == 1 else f"dilation {max(found.dilation)}"


@rule("DEPTHWISE_CONV_2D", fix="use depth_multiplier=1")
def one_multiplier(op: OpView) -> str | None:
    """The depth multiplier is 1, unless there is one input channel and no dilation."""
    found = geometry(op)
    if found is None or found.channels[0] == found.channels[1]:
        return None
    if found.channels[0] == 1 and max(found.dilation) == 1:
        return None
    return f"{found.channels[0]} channels become {found.channels[1]}"


@rule("DEPTHWISE_CONV_2D", fix="dilate or stride, not both")
def dilation_or_stride(op: OpView) -> str | None:
    """A dilated depthwise convolution has stride 1."""
    found = geometry(op)
    both = found is not None and max(found.dilation) > 1 and max(found.stride) > 1
    return f"dilation {max(found.dilation)}, stride {max(found.stride)}" if both and found else None


@rule("AVERAGE_POOL_2D", "L2_NORMALIZATION", "MAX_POOL_2D", fix="make the activation its own layer")
def no_fused_activation(op: OpView) -> str | None:
    """Pools and L2 normalization have no fused activation."""
    function = op.attribute("fused_activation_function", "NONE")
    return None if function == "NONE" else f"fused {function}"


@rule("ADD", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "MUL", "SUB",
      fix="use relu, relu6 or no activation")  # fmt: skip
def fused_relu(op: OpView) -> str | None:
    """Fused activations are those of the ReLU family."""
    function = op.attribute("fused_activation_function", "NONE")
    return None if function == "NONE" or function.startswith("RELU") else f"fused {function}"


@rule("FULLY_CONNECTED", fix="flatten before the dense layer, and bake its bias into the model")
def dense_form(op: OpView) -> str | None:
    """A dense layer has a constant bias or none, default weights, and keeps no dimensions."""
    layout = op.attribute("weights_format", "DEFAULT")
    if layout != "DEFAULT":
        return f"weights in format {layout}"
    if op.attribute("keep_num_dims"):
        return "keep_num_dims is set"
    return "the bias is computed" if any(t in op.activations for t in op.inputs[2:]) else None


@rule("MEAN", "MIRROR_PAD", "PAD", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "SLICE", "SPLIT",
      "STRIDED_SLICE", fix="bake axes, sizes and paddings into the model")  # fmt: skip
def constant_parameters(op: OpView) -> str | None:
    """Axes, sizes, begins and paddings are constant."""
    return "they are computed" if len(op.activations) > 1 else None


@rule("STRIDED_SLICE", fix="slice without new axes or ellipsis")
def plain_slice(op: OpView) -> str | None:
    """The slice has no ellipsis mask and no new-axis mask."""
    masks = [name for name in ("ellipsis_mask", "new_axis_mask") if op.attribute(name, 0)]
    return ", ".join(masks) or None


@rule("RESIZE_BILINEAR", fix="resize to at most 65x65, or by nearest neighbour")
def small_resize(op: OpView) -> str | None:
    """The requested size is at most 65."""
    sizes = [size or 1 for size in op.outputs[0].shape[1:3]]
    return f"to {shape_text(op.outputs[0])}" if max(sizes, default=1) > _MOST_RESIZED else None


# A range of the weights is made of the first scale alone (ComputeMinAndMaxQuantValues).
_DENSE = replace(dense_one_scale, source=_FOLDER + "builders/op_builder.h")

RULES = RuleSet(
    name="hexagon",
    title="the Hexagon delegate",
    formats=("tflite",),
    fallback="litert-cpu",
    rules=(
        quantized, known_version, four_dimensions, small_strides, no_dilation, one_multiplier,
        dilation_or_stride, no_fused_activation, fused_relu, dense_form, constant_parameters,
        plain_slice, small_resize, _DENSE,
    ),
    source=_FOLDER + "utils.cc",
    takes=frozenset(_TAKES.split()),
    about=__doc__ or "",
)  # fmt: skip
