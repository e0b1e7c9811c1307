"""Android's NNAPI through ONNX Runtime's NNAPI execution provider, by its page.

Which chip runs an operator is the phone's driver's choice; drivers differ and publish nothing.
"""

from __future__ import annotations

from edgekit.profiling.rules.base import OpView, RuleSet, rule, shape_text

_TAKES = """
Abs Add AveragePool Cast Clip Concat Conv DequantizeLinear Div Elu Exp Flatten Floor Gemm
GlobalAveragePool GlobalMaxPool Identity Log MatMul Max MaxPool Min Mul Neg Pow QLinearAdd
QLinearAveragePool QLinearConv QLinearMatMul QLinearSigmoid QuantizeLinear Relu Reshape Resize
Sigmoid Sin Slice Softmax Sqrt Squeeze Sub Tanh Transpose
"""
_PLANAR = (
    "AveragePool", "Conv", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "QLinearAveragePool",
    "QLinearConv", "Resize",
)  # fmt: skip


@rule(*_PLANAR, fix="add an axis of one and use the 2D layer")
def two_dimensional(op: OpView) -> str | None:
    """Only 2D convolutions, pools and resizes are supported."""
    wrong = [t for t in op.maps if t.shape and len(t.shape) != 4]
    return f"{wrong[0].name} has shape {shape_text(wrong[0])}" if wrong else None


@rule("Conv", "QLinearConv", fix="bake the weights into the model")
def constant_weights(op: OpView) -> str | None:
    """Weights and bias are constant."""
    return "weights are computed" if len(op.activations) > 1 else None


@rule("Gemm", fix="transpose the second matrix")
def transposed_matrix(op: OpView) -> str | None:
    """A second matrix that is not constant is transposed (transB is 1)."""
    plain = not op.attribute("transB", 0) and len(op.activations) > 1
    return "transB is 0" if plain else None


RULES = RuleSet(
    name="onnxruntime-nnapi",
    title="the NNAPI execution provider",
    formats=("onnx",),
    fallback="onnxruntime-cpu",
    rules=(two_dimensional, constant_weights, transposed_matrix),
    source="https://onnxruntime.ai/docs/execution-providers/NNAPI-ExecutionProvider.html",
    takes=frozenset(_TAKES.split()),
    about=__doc__ or "",
)
