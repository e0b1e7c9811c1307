"""Qualcomm's Hexagon Tensor Processor through ONNX Runtime's QNN execution provider (1.18 on).

The list is that of its page, and Reshape, which that forgets. What data types each operator takes
is in the QNN SDK's own tables, which are not in these rules.
"""

from __future__ import annotations

from edgekit.profiling.rules.base import OpView, RuleSet, rule, shape_text

_TAKES = """
Abs Add And ArgMax ArgMin Asin Atan AveragePool BatchNormalization Cast Clip Concat Conv
ConvTranspose Cos DepthToSpace DequantizeLinear Div Elu Equal Exp Expand Flatten Floor Gather Gelu
Gemm GlobalAveragePool Greater GreaterOrEqual GridSample HardSwish InstanceNormalization
LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization LRN MatMul Max MaxPool
Min Mul Neg Not Or Pad Pow PRelu QuantizeLinear ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
Relu Reshape Resize Round Sigmoid Sign Sin Slice Softmax SpaceToDepth Split Sqrt Squeeze Sub Tanh
Tile TopK Transpose Unsqueeze Where
"""


@rule(fix="fix the input shape, batch included, before the export")
def static_shapes(op: OpView) -> str | None:
    """Dynamic shapes are not supported, nor is a dynamic batch."""
    free = [t for t in (*op.inputs, *op.outputs) if None in t.shape]
    return f"{free[0].name} has shape {shape_text(free[0])}" if free else None


@rule(fix="export with --precision int8", severity="slow")
def quantized(op: OpView) -> str | None:
    """The processor's fast path is 8-bit and 16-bit integers: float models run in fp16."""
    precision = op.view.op_precision(op.op)
    return f"computes in {precision}" if precision in ("fp32", "fp16") else None


@rule("LpNormalization", fix="use the L2 norm")
def euclidean(op: OpView) -> str | None:
    """P is 2."""
    order = op.attribute("p", 2)
    return None if order == 2 else f"p {order}"


RULES = RuleSet(
    name="qnn-htp",
    title="the QNN execution provider",
    formats=("onnx",),
    fallback="onnxruntime-cpu",
    rules=(static_shapes, quantized, euclidean),
    source="https://onnxruntime.ai/docs/execution-providers/QNN-ExecutionProvider.html",
    takes=frozenset(_TAKES.split()),
    about=__doc__ or "",
)
