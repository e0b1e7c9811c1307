"""The Coral Edge TPU compiler: https://coral.ai/docs/edgetpu/models-intro and its successor tables.

The compiler makes one subgraph: what comes after the first operator that it cannot map stays on
the CPU.
"""

from __future__ import annotations

import math

from edgekit.graph.types import Tensor
from edgekit.profiling.rules.base import OpView, RuleSet, broken_dimensions, rule

_TAKES = """
ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D EXPAND_DIMS FULLY_CONNECTED
L2_NORMALIZATION LOGISTIC MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL PACK PAD PRELU QUANTIZE REDUCE_MAX
REDUCE_MIN RELU RELU6 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR SLICE SOFTMAX
SPACE_TO_DEPTH SPLIT SQUEEZE STRIDED_SLICE SUB SUM TANH TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM
"""
_REDUCTIONS = ("MEAN", "REDUCE_MAX", "REDUCE_MIN", "SUM")
_MOST_SOFTMAX = 16_000
_MOST_UPSCALING = 8  # not published; the compiler maps 2x and leaves 33x on the CPU
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


@rule("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", fix="bake the weights into the model")
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


@rule("FULLY_CONNECTED", fix="flatten before the dense layer and use a batch of one")
def dense_one_dimension(op: OpView) -> str | None:
    """Weights are in the default format and the output has one dimension."""
    layout = op.attribute("weights_format", "DEFAULT")
    if layout != "DEFAULT":
        return f"weights in format {layout}"
    wide = [t for t in op.outputs if math.prod(size or 1 for size in t.shape[:-1]) > 1]
    return f"output of shape {_shape(wide[0])}" if wide else None


@rule(*_REDUCTIONS, fix="reduce over height and width only, or pad channels to a multiple of 4")
def reduction_axes(op: OpView) -> str | None:
    """No reduction over the batch; over the channels only if they are a multiple of 4."""
    if not op.activations or not op.outputs:
        return None
    source, result = op.activations[0], op.outputs[0]
    axes = _reduced(source.shape, result.shape)
    if 0 in axes and (source.shape[0] or 1) > 1:
        return "reduces over the batch"
    last = len(source.shape) - 1
    channels = source.shape[-1] or 1
    return f"reduces over {channels} channels" if last in axes and channels % 4 else None


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


@rule("PAD", "PACK", "SPLIT", fix="work on a batch of one")
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


@rule("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", fix="resize in steps of 2, or on the host")
def small_resize(op: OpView) -> str | None:
    """Input and output have three dimensions and the scaling is small (precision would suffer)."""
    if not op.activations or not op.outputs:
        return None
    before, after = op.activations[0].shape, op.outputs[0].shape
    if len(before) != 4 or len(after) != 4:
        return f"input of shape {_shape(op.activations[0])}"
    scale = max((after[i] or 1) / (before[i] or 1) for i in (1, 2))
    sizes = f"{_shape(op.activations[0])} to {_shape(op.outputs[0])}"
    return sizes if scale > _MOST_UPSCALING else None


@rule("SOFTMAX", fix="apply the softmax on the host")
def small_softmax(op: OpView) -> str | None:
    """The input has one dimension of at most 16,000 elements."""
    for tensor in op.activations:
        if tensor.elements != (tensor.shape[-1] or 1) or tensor.elements > _MOST_SOFTMAX:
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
    rules=(
        eight_bit,
        static_shapes,
        three_dimensions,
        constant_weights,
        equal_dilation,
        no_fused_activation,
        constant_concatenation,
        dense_one_dimension,
        reduction_axes,
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
