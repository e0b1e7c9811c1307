"""LiteRT's GPU delegate (OpenCL, OpenGL ES 3.1, Metal).

The list is the delegate's own test of compatibility. It computes in 16-bit or 32-bit floating
point; 8-bit models run in float with their values rounded to the quantized grid. Values of
constants (axes, paddings) are not looked at.
"""

from __future__ import annotations

from edgekit.profiling.rules.base import OpView, RuleSet, broken_dimensions, first_of, rule
from edgekit.profiling.rules.base import shape_text as text

_TAKES = """
ABS ADD ADD_N ATAN2 AVERAGE_POOL_2D BATCH_MATMUL CAST CEIL CONCATENATION CONV_2D COS CUMSUM DENSIFY
DEPTH_TO_SPACE DEPTHWISE_CONV_2D DEQUANTIZE DIV DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP EQUAL EXP
FLOOR FLOOR_DIV FLOOR_MOD FULLY_CONNECTED GATHER GELU GREATER GREATER_EQUAL HARD_SWISH LEAKY_RELU
LESS LESS_EQUAL LOG LOGICAL_AND LOGISTIC LSTM MAX_POOL_2D MAXIMUM MEAN MINIMUM MIRROR_PAD MUL NEG
NOT_EQUAL ONE_HOT PACK PAD PADV2 POW PRELU QUANTIZE REDUCE_MAX REDUCE_MIN REDUCE_PROD RELU
RELU_N1_TO_1 RELU6 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SELECT SELECT_V2 SIGN SIN
SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE STRIDED_SLICE SUB SUM TANH
TILE TRANSPOSE TRANSPOSE_CONV
"""
_NUMBERS = ("float32", "float16", "int8", "uint8", "int32", "bool")
_CASTS = {
    ("bool", "float16"), ("bool", "float32"), ("float16", "bool"), ("float32", "bool"),
    ("float32", "float32"), ("float32", "int32"), ("int32", "float32"), ("int32", "int32"),
}  # fmt: skip


@rule(fix="export with --precision fp32, fp16 or int8")
def floats_or_eight_bit(op: OpView) -> str | None:
    """Tensors are float32 or float16, or 8-bit quantized, which is computed in float."""
    return first_of(op.maps, _NUMBERS)


@rule(fix="fix the input shape before the export")
def static_shapes(op: OpView) -> str | None:
    """Shapes are known when the delegate is made, the batch excepted."""
    return broken_dimensions([*op.inputs, *op.outputs])


@rule(fix="make the activation its own layer")
def fused_activation(op: OpView) -> str | None:
    """Fused activations are NONE, RELU, RELU_N1_TO_1, RELU6, TANH and SIGMOID, not SIGN_BIT."""
    function = op.attribute("fused_activation_function", "NONE")
    return "fused SIGN_BIT" if function == "SIGN_BIT" else None


@rule("DEPTHWISE_CONV_2D", fix="use depth_multiplier=1, or an ordinary convolution")
def depth_multiplier(op: OpView) -> str | None:
    """The depth multiplier is 1, unless the input has one channel."""
    depth = op.inputs[0].shape[-1] or 1
    result = op.outputs[0].shape[-1] or 1
    return f"{depth} channels become {result}" if depth not in (1, result) else None


@rule("FULLY_CONNECTED", fix="convert without shuffled weights; flatten before the layer")
def dense_form(op: OpView) -> str | None:
    """Weights are in the default format; with keep_num_dims, input and output have equal rank."""
    layout = op.attribute("weights_format", "DEFAULT")
    if layout != "DEFAULT":
        return f"weights in format {layout}"
    before, after = op.inputs[0], op.outputs[0]
    uneven = op.attribute("keep_num_dims") and len(before.shape) != len(after.shape)
    return f"{text(before)} to {text(after)}" if uneven else None


@rule("ADD", "MUL", fix="reshape the smaller tensor first so that its shape broadcasts")
def broadcast(op: OpView) -> str | None:
    """There are two inputs, and one of them is not smaller than the other in any dimension."""
    if len(op.inputs) != 2:
        return f"{len(op.inputs)} inputs"
    first, second = (tensor.shape for tensor in op.inputs)
    if op.op.name != "MUL" or len(first) != len(second):
        return None
    pairs = [(a or 1, b or 1) for a, b in zip(first, second, strict=True)]
    crossed = any(a < b for a, b in pairs) and any(a > b for a, b in pairs)
    return f"{text(op.inputs[0])} and {text(op.inputs[1])}" if crossed else None


@rule("CAST", fix="keep masks and indices on the host")
def casts(op: OpView) -> str | None:
    """Casts are between float and bool, and between float32 and int32."""
    pair = (op.inputs[0].dtype, op.outputs[0].dtype)
    return None if pair in _CASTS else f"{pair[0]} to {pair[1]}"


@rule("SLICE", "STRIDED_SLICE", fix="reshape to four dimensions before it")
def slice_rank(op: OpView) -> str | None:
    """Slices are of tensors of 3 or 4 dimensions."""
    return None if len(op.inputs[0].shape) in (3, 4) else text(op.inputs[0])


@rule("STRIDED_SLICE", fix="slice without ellipsis, new axes and single indices; reshape after it")
def plain_slice(op: OpView) -> str | None:
    """There is no ellipsis mask, new axis mask or shrink axis mask."""
    masks = ("ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
    return ", ".join(name for name in masks if op.attribute(name, 0)) or None


@rule("SOFTMAX", fix="multiply by beta in a layer before it")
def plain_softmax(op: OpView) -> str | None:
    """Beta is 1."""
    beta = op.attribute("beta", 1.0)
    return None if beta == 1.0 else f"beta {beta:g}"


@rule("PAD", "PADV2", "MIRROR_PAD", fix="reshape to four dimensions before it")
def pad_rank(op: OpView) -> str | None:
    """Padded tensors have 3 or 4 dimensions."""
    return None if len(op.inputs[0].shape) in (3, 4) else text(op.inputs[0])


@rule("DEPTH_TO_SPACE", "SPACE_TO_DEPTH", fix="leave the layer out: it moves nothing")
def block_size(op: OpView) -> str | None:
    """The block size is greater than 1."""
    size = op.attribute("block_size", 2)
    return None if size > 1 else f"block size {size}"


@rule("RESIZE_BILINEAR", fix="use one of the two")
def one_alignment(op: OpView) -> str | None:
    """align_corners is false where half_pixel_centers is true."""
    both = op.attribute("align_corners") and op.attribute("half_pixel_centers")
    return "both are set" if both else None


@rule("MEAN", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "SUM", fix="bake the axes into the model")
def constant_axes(op: OpView) -> str | None:
    """Axes are constants of int32."""
    if len(op.activations) > 1:
        return "axes are computed"
    return first_of(op.constants[:1], ("int32",))


@rule("DEQUANTIZE", fix="export with --precision int8")
def dequantized_types(op: OpView) -> str | None:
    """int16 is not dequantized."""
    return "from int16" if op.inputs[0].dtype == "int16" else None


RULES = RuleSet(
    name="litert-gpu",
    title="LiteRT's GPU delegate",
    formats=("tflite",),
    fallback="litert-cpu",
    rules=(
        floats_or_eight_bit, static_shapes, fused_activation, depth_multiplier, dense_form,
        broadcast, casts, slice_rank, plain_slice, plain_softmax, pad_rank, block_size,
        one_alignment, constant_axes, dequantized_types,
    ),
    source=(
        "https://github.com/tensorflow/tensorflow/blob/master/tensorflow/lite/tools/versioning/"
        "gpu_compatibility.cc"
    ),
    takes=frozenset(_TAKES.split()),
    about=__doc__ or "",
)  # fmt: skip
