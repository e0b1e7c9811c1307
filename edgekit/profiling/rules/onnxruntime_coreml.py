"""Apple's Core ML through ONNX Runtime's CoreML execution provider, by its page.

The provider's older NeuralNetwork format. What it takes may still run on Core ML's CPU kernels
rather than on the Neural Engine.
"""

from __future__ import annotations

from edgekit.profiling.rules.base import OpView, RuleSet, first_of, rule, shape_text

_TAKES = """
Add ArgMax AveragePool BatchNormalization Cast Clip Concat Conv DepthToSpace Div Flatten Gemm
GlobalAveragePool GlobalMaxPool LeakyRelu LRN MatMul MaxPool Mul PRelu Pad Pow Reciprocal ReduceSum
Relu Reshape Resize Sigmoid Sqrt Squeeze Sub Tanh Transpose
"""
_POOLS = ("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool")
_FLOATS = ("float32", "int32", "int64", "bool")


@rule(*_POOLS, fix="add an axis of one and use the 2D layer")
def two_dimensional_pools(op: OpView) -> str | None:
    """Only 2D pools are supported."""
    wrong = [t for t in op.maps if t.shape and len(t.shape) != 4]
    return f"{wrong[0].name} has shape {shape_text(wrong[0])}" if wrong else None


@rule("Conv", fix="use the 1D or 2D layer")
def flat_convolutions(op: OpView) -> str | None:
    """Only 1D and 2D convolutions are supported."""
    wrong = [t for t in op.maps if t.shape and len(t.shape) not in (3, 4)]
    return f"{wrong[0].name} has shape {shape_text(wrong[0])}" if wrong else None


@rule("Conv", "Gemm", "MatMul", "PRelu", fix="bake the weights into the model")
def constant_weights(op: OpView) -> str | None:
    """Weights, biases, the second matrix and slopes are constant."""
    return "weights are computed" if len(op.activations) > 1 else None


@rule("DepthToSpace", fix="use DCR: depth, column, row")
def depth_first(op: OpView) -> str | None:
    """Only DCR mode is supported."""
    mode = op.attribute("mode", "DCR")
    return None if mode == "DCR" else f"mode {mode}"


@rule("Pow", fix="export with --precision fp32")
def float_powers(op: OpView) -> str | None:
    """Both inputs of Pow are float32."""
    return first_of(op.inputs, ("float32",))


@rule(fix="export with --precision fp32")
def floats(op: OpView) -> str | None:
    """Quantized models are not taken: tensors are float32, or whole numbers of shapes."""
    if op.view.explicit_quantization:
        return "the file is quantized"
    return first_of(op.maps, _FLOATS)


RULES = RuleSet(
    name="onnxruntime-coreml",
    title="the CoreML execution provider",
    formats=("onnx",),
    fallback="onnxruntime-cpu",
    rules=(
        two_dimensional_pools, flat_convolutions, constant_weights, depth_first, float_powers,
        floats,
    ),
    source="https://onnxruntime.ai/docs/execution-providers/CoreML-ExecutionProvider.html",
    takes=frozenset(_TAKES.split()),
    about=__doc__ or "",
)  # fmt: skip
