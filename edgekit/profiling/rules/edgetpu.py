"""The Coral Edge TPU compiler, version 16 (the last): what it maps, and what it leaves to the CPU.

Published are a list of operators and one line on each
(https://coral.ai/docs/edgetpu/models-intro/#supported-operations, and the same list of Axis for its
ARTPEC-7, which has an Edge TPU); TRANSPOSE is in neither, but mapped in the compiler's logs. Where
logs show limits that nobody published, the rule says "inferred" and the comment at its limit says
from what. Older versions take less: 15 does not map TRANSPOSE, strides in STRIDED_SLICE, or
version 3 of the resizes, and 16 does (YOLOv5s in logs of both, and google-coral/edgetpu issues
187, 242 and 420).

The compiler makes one subgraph (`edgekit.profiling.partition`).

It is of July 2021 and reads files with the TensorFlow Lite of that time. RSQRT and
SQUARED_DIFFERENCE, which Coral's page lists for newer runtimes as remembered, were seen mapped in
no log and are not counted on.
"""

from __future__ import annotations

import math

from edgekit.graph.types import Tensor
from edgekit.profiling.rules.base import OpView, RuleSet, broken_dimensions, rule

_TAKES = """
ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D EXPAND_DIMS FULLY_CONNECTED
L2_NORMALIZATION LOGISTIC MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL PACK PAD PRELU QUANTIZE REDUCE_MAX
REDUCE_MIN RELU RELU6 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR SLICE SOFTMAX
SPACE_TO_DEPTH SPLIT SQUEEZE STRIDED_SLICE SUB SUM TANH TRANSPOSE TRANSPOSE_CONV
UNIDIRECTIONAL_SEQUENCE_LSTM
"""
_REDUCTIONS = ("MEAN", "REDUCE_MAX", "REDUCE_MIN", "SUM")
_MOST_SOFTMAX = 16_000
# The limits below are inferred: between the largest size seen mapped and the smallest seen refused.
# Of resizes it is published that sizes that would lose precision are not mapped, of reshapes that
# certain large ones are not.
_MOST_UPSCALING = 8  # 2x is mapped; 33x in DeepLab (google-coral/test_data) is not
_MOST_RESIZED = 181 * 181  # 128x128 is mapped, 256x256 and 512x512 are not: issues 31 and 187
_MOST_MEAN = 128 * 128  # 64x128 values are mapped, 256x128 are not: issue 461
_MOST_TRANSPOSED = 100_000  # 196x3x85 is mapped, 784x3x85, the largest of three, is not: YOLOv5s
_MOST_RESHAPED = 3_400_000  # 40x40x810 is mapped, 80x80x546 is not: issues 356 and 490
# Newer versions of operators than TensorFlow Lite had in July 2021: refused by compiler 16 are the
# sixth of CONV_2D (issue 631), the fourth of TRANSPOSE_CONV (845) and the third of QUANTIZE (879).
# Of FULLY_CONNECTED TensorFlow's register.cc had nine until 2022, GELU's second version and
# DYNAMIC_UPDATE_SLICE among the others: the tenth is newer than the compiler in any case.
_NEWEST = {"CONV_2D": 5, "FULLY_CONNECTED": 9, "QUANTIZE": 2, "TRANSPOSE_CONV": 3}
_ISSUES = "https://github.com/google-coral/edgetpu/issues/"
_QUANTIZE = "export with --precision int8: full integer quantization"


def _shape(tensor: Tensor) -> str:
    return "x".join("?" if size is None else str(size) for size in tensor.shape)


@rule(fix=_QUANTIZE)
def eight_bit(op: OpView) -> str | None:
    """Activations and weights are 8-bit fixed point (int8 or uint8), biases 32-bit."""
    if op.op.kind == "recurrent":  # its cell state is int16 by the quantization specification
        return None
    for tensor in [*op.activations, *op.outputs, *op.view.weights_in(op.op)]:
        if tensor.dtype in ("int32", "int64") and tensor not in op.outputs:
            continue
        if tensor.dtype not in ("int8", "uint8"):
            return f"{tensor.name} is {tensor.dtype}"
    return None


@rule(fix="fix the input shape before the export")
def static_shapes(op: OpView) -> str | None:
    """Tensor sizes are constant at compile time."""
    return broken_dimensions([*op.inputs, *op.outputs])


@rule(fix="reshape to three dimensions, or use a batch of one")
def three_dimensions(op: OpView) -> str | None:
    """Only the three innermost dimensions of an activation are larger than one."""
    for tensor in [*op.activations, *op.outputs]:
        if any((size or 1) > 1 for size in tensor.shape[:-3]):
            return f"{tensor.name} has shape {_shape(tensor)}"
    return None


@rule("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV",
      fix="bake the weights into the model")  # fmt: skip
def constant_weights(op: OpView) -> str | None:
    """Weights and biases are constant at compile time."""
    return "weights are computed" if len(op.activations) > 1 else None


@rule("CONV_2D", "DEPTHWISE_CONV_2D", fix="use the same dilation in both directions")
def equal_dilation(op: OpView) -> str | None:
    """Dilation is the same in x and y."""
    across, down = op.attribute("dilation_w_factor", 1), op.attribute("dilation_h_factor", 1)
    return None if across == down else f"dilation {down}x{across}"


@rule("AVERAGE_POOL_2D", "MAX_POOL_2D", "CONCATENATION", fix="make the activation its own layer")
def no_fused_activation(op: OpView) -> str | None:
    """The operator has no fused activation function."""
    function = op.attribute("fused_activation_function", "NONE")
    return None if function == "NONE" else f"fused {function}"


@rule("CONCATENATION", fix="concatenate computed tensors only")
def constant_concatenation(op: OpView) -> str | None:
    """With a constant among its inputs (which must be zeros) there are exactly two inputs."""
    constants = len(op.inputs) - len(op.activations)
    return f"{len(op.inputs)} inputs" if constants and len(op.inputs) != 2 else None


@rule(
    "FULLY_CONNECTED",
    fix="make the dense layer a 1x1 convolution, which check --fix does bit for bit, or convert "
    "with one scale for all its weights",
    source="https://github.com/tensorflow/tflite-micro/pull/2602",
)
def dense_one_scale(op: OpView) -> str | None:
    """Weights of a dense layer have one scale.

    Converters write one an output since 2024; runtimes of before then read the first, or none.
    """
    for tensor in op.constants[:1]:
        if tensor.quantization is not None and tensor.quantization.per_channel:
            return f"{len(tensor.quantization.scale)} scales"
    return None


@rule(*_NEWEST, fix="convert with an older TensorFlow (2.5)", source=_ISSUES + "879")
def known_version(op: OpView) -> str | None:
    """Versions of operators are those of July 2021: a file with others is refused as a whole.

    CONV_2D has a version of at most 5, FULLY_CONNECTED of 9, QUANTIZE of 2, TRANSPOSE_CONV of 3.
    """
    version = int(op.attribute("version", 1))
    return f"version {version}" if version > _NEWEST[op.op.name] else None


@rule("FULLY_CONNECTED", fix="flatten before the dense layer and use a batch of one")
def dense_one_dimension(op: OpView) -> str | None:
    """Weights are in the default format and the output has one dimension."""
    layout = op.attribute("weights_format", "DEFAULT")
    if layout != "DEFAULT":
        return f"weights in format {layout}"
    wide = [t for t in op.outputs if math.prod(size or 1 for size in t.shape[:-1]) > 1]
    return f"output of shape {_shape(wide[0])}" if wide else None


@rule(*_REDUCTIONS, fix="reduce over height, width or channels of a batch of one")
def reduction_axes(op: OpView) -> str | None:
    """No reduction over the batch."""
    if not op.activations or not op.outputs:
        return None
    source = op.activations[0]
    batch = 0 in _reduced(source.shape, op.outputs[0].shape) and (source.shape[0] or 1) > 1
    return "reduces over the batch" if batch else None


@rule("MEAN", fix="pad the channels to a multiple of 4")
def mean_channels(op: OpView) -> str | None:
    """A mean over the channels has a multiple of 4 of them."""
    if not op.activations or not op.outputs or not op.activations[0].shape:
        return None
    shape = op.activations[0].shape
    last = len(shape) - 1
    channels = shape[-1] or 1
    reduced = last in _reduced(shape, op.outputs[0].shape)
    return f"reduces over {channels} channels" if reduced and channels % 4 else None


@rule(
    "MEAN",
    fix="split it: the mean of means over parts of equal size, or pool before it",
    source=_ISSUES + "461",
)
def small_mean(op: OpView) -> str | None:
    """A mean is over at most some 16,000 values (inferred)."""
    if not op.activations or not op.outputs or not op.outputs[0].elements:
        return None
    values = op.activations[0].elements // op.outputs[0].elements
    return f"mean over {values:,} values" if values > _MOST_MEAN else None


@rule("RESHAPE", fix="reshape on the host, or use a smaller input", source=_ISSUES + "356")
def small_reshape(op: OpView) -> str | None:
    """Large reshapes are not mapped: of more than some 3.4 million values (inferred)."""
    return _larger(op, _MOST_RESHAPED)


@rule(
    "TRANSPOSE",
    fix="keep the channels last throughout, or transpose on the host",
    source=_ISSUES + "512",
)
def small_transpose(op: OpView) -> str | None:
    """A transposed tensor has at most some 100,000 values (inferred)."""
    return _larger(op, _MOST_TRANSPOSED)


def _larger(op: OpView, most: int) -> str | None:
    large = next((tensor for tensor in op.outputs if tensor.elements > most), None)
    return None if large is None else f"{large.elements:,} values, {_shape(large)}"


def _reduced(before: tuple[int | None, ...], after: tuple[int | None, ...]) -> set[int]:
    """Axes that a reduction removed, or left with size one."""
    if len(before) == len(after):
        return {i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b}
    kept, axes = list(after), set()
    for axis, size in enumerate(before):
        if kept and kept[0] == size and len(before) - axis >= len(kept):
            kept.pop(0)
        else:
            axes.add(axis)
    return axes


@rule("PAD", "PACK", "SPLIT", "TRANSPOSE", fix="work on a batch of one")
def batch_untouched(op: OpView) -> str | None:
    """The batch dimension stays as it is."""
    if op.op.name == "PACK":
        return "packs the batch" if op.attribute("axis", 0) == 0 and _ranked(op) else None
    for source, result in zip(op.activations[:1], op.outputs[:1], strict=False):
        if source.shape and result.shape and (source.shape[0] or 1) != (result.shape[0] or 1):
            return f"batch {source.shape[0]} becomes {result.shape[0]}"
    return None


def _ranked(op: OpView) -> bool:
    return bool(op.activations) and len(op.activations[0].shape) > 3


@rule("PRELU", fix="share the slopes over height and width: shared_axes=[1, 2]")
def prelu_slopes(op: OpView) -> str | None:
    """The slopes have one dimension."""
    slopes = [t for t in op.inputs if t not in op.activations]
    wide = [t for t in slopes if math.prod(size or 1 for size in t.shape[:-1]) > 1]
    return f"slopes of shape {_shape(wide[0])}" if wide else None


@rule(
    "RESIZE_BILINEAR",
    "RESIZE_NEAREST_NEIGHBOR",
    fix="resize in steps of 2, or on the host",
    source=_ISSUES + "31",
)
def small_resize(op: OpView) -> str | None:
    """Three dimensions, at most 8 times as large, to at most some 180x180 (inferred)."""
    if not op.activations or not op.outputs:
        return None
    before, after = op.activations[0].shape, op.outputs[0].shape
    if len(before) != 4 or len(after) != 4:
        return f"input of shape {_shape(op.activations[0])}"
    scale = max((after[i] or 1) / (before[i] or 1) for i in (1, 2))
    large = (after[1] or 1) * (after[2] or 1) > _MOST_RESIZED
    sizes = f"{_shape(op.activations[0])} to {_shape(op.outputs[0])}"
    return sizes if scale > _MOST_UPSCALING or large else None


@rule("SOFTMAX", fix="apply the softmax on the host")
def small_softmax(op: OpView) -> str | None:
    """The input has one dimension of at most 16,000 elements."""
    for tensor in op.activations:
        rows = math.prod(size or 1 for size in tensor.shape[:-1])
        if rows > 1 or tensor.elements > _MOST_SOFTMAX:
            return f"input of shape {_shape(tensor)}"
    return None


@rule("SQUEEZE", fix="use a reshape")
def leading_squeeze(op: OpView) -> str | None:
    """Only leading dimensions of one are removed."""
    if not op.activations or not op.outputs:
        return None
    before, after = op.activations[0].shape, op.outputs[0].shape
    removed = before[: len(before) - len(after)]
    same = before[len(removed) :] == after and all((size or 1) == 1 for size in removed)
    return None if same else f"{_shape(op.activations[0])} to {_shape(op.outputs[0])}"


@rule("STRIDED_SLICE", fix="slice without new axes or ellipsis")
def plain_slice(op: OpView) -> str | None:
    """The slice has no ellipsis mask and no new-axis mask."""
    masks = [name for name in ("ellipsis_mask", "new_axis_mask") if op.attribute(name, 0)]
    return ", ".join(masks) or None


RULES = RuleSet(
    name="edgetpu",
    title="the Edge TPU",
    formats=("tflite",),
    fallback="coral-host",
    rules=(
        eight_bit,
        known_version,
        static_shapes,
        three_dimensions,
        constant_weights,
        equal_dilation,
        no_fused_activation,
        constant_concatenation,
        dense_one_scale,
        dense_one_dimension,
        reduction_axes,
        mean_channels,
        small_mean,
        small_reshape,
        small_transpose,
        batch_untouched,
        prelu_slopes,
        small_resize,
        small_softmax,
        leading_squeeze,
        plain_slice,
    ),
    source="https://coral.ai/docs/edgetpu/models-intro",
    takes=frozenset(_TAKES.split()),
    partition="single",
)
