"""NVIDIA TensorRT (Jetson), reading ONNX: the parser's list of TensorRT 8.4 (JetPack 5).

Quantized values are signed int8, and symmetric, by the guides of 8.4 and 10.11 ("Working with
Quantized Types"); that zero points are 0 is in the parser's list too. That activations have one
scale a tensor is from the guide of 8.4 as remembered.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgekit.graph.types import Tensor
from edgekit.profiling.rules.base import OpView, RuleSet, rule, shape_text

_TAKES = """
Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast Ceil
Celu Clip Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DepthToSpace
DequantizeLinear Div Dropout Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor Gather
GatherElements GatherND Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GRU
HardSigmoid Identity If ImageScaler InstanceNormalization IsNaN LeakyRelu Less LessOrEqual Log
LogSoftmax Loop LRN LSTM LpNormalization LpPool MatMul Max MaxPool Mean Min Mul Neg
NonMaxSuppression Not Or Pad ParametricSoftplus Pow PRelu QuantizeLinear RandomUniform
RandomUniformLike Range ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean
ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence RNN Round
ScaledTanh Scan Scatter ScatterElements ScatterND Selu Shape Sigmoid Sign Sin Size Slice Softmax
Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK
Transpose Unsqueeze Upsample Where Xor
"""
_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
_RANKS = (4, 5)
_GUIDE = (
    "https://docs.nvidia.com/deeplearning/tensorrt/archives/tensorrt-840-ea/developer-guide/"
    "index.html#working-with-int8"
)
_SYMMETRIC = "quantize symmetrically: int8 with zero point 0 for weights and activations"


@rule(fix=_SYMMETRIC, source=_GUIDE)
def symmetric(op: OpView) -> str | None:
    """INT8 is symmetric: zero points are 0, of weights and of activations."""
    for tensor in _quantized(op):
        if tensor.quantization and any(tensor.quantization.zero_point):
            return f"{tensor.name} has zero point {_first_zero_point(tensor)}"
    return None


@rule(fix=_SYMMETRIC, source=_GUIDE)
def signed(op: OpView) -> str | None:
    """Quantized tensors are int8: uint8 is not a type of TensorRT's quantization."""
    wrong = [t for t in _quantized(op) if t.dtype not in ("int8", "float32", "float16")]
    return f"{wrong[0].name} is {wrong[0].dtype}" if wrong else None


@rule(fix="quantize activations with one scale a tensor", source=_GUIDE)
def tensor_scales(op: OpView) -> str | None:
    """Activations have one scale a tensor; only weights may have one a channel."""
    for tensor in _quantized(op):
        constant = tensor.index in op.view.constants
        if not constant and tensor.quantization and tensor.quantization.per_channel:
            return f"{tensor.name} has {len(tensor.quantization.scale)} scales"
    return None


@rule("Conv", "ConvTranspose", "AveragePool", "MaxPool", fix="add an axis of one: use the 2D layer")
def two_or_three_dimensions(op: OpView) -> str | None:
    """Convolutions and pools are 2D or 3D."""
    wrong = [t for t in op.maps if t.shape and len(t.shape) not in _RANKS]
    return f"{wrong[0].name} has shape {shape_text(wrong[0])}" if wrong else None


@rule("Conv", "ConvTranspose", fix="bake the weights into the model")
def constant_weights(op: OpView) -> str | None:
    """Weights are initializers."""
    return "weights are computed" if len(op.activations) > 1 else None


@rule("MaxPool", fix="leave the indices out")
def no_indices(op: OpView) -> str | None:
    """The output of MaxPool's indices is not supported."""
    return "two outputs" if len(op.outputs) > 1 else None


@rule("Resize", fix="resize by nearest neighbour or linearly")
def resize_mode(op: OpView) -> str | None:
    """Resize modes are nearest and linear."""
    mode = op.attribute("mode", "nearest")
    return None if mode in ("nearest", "linear") else f"mode {mode}"


@rule("InstanceNormalization", fix="reshape to three to five dimensions")
def normalized_rank(op: OpView) -> str | None:
    """The rank of an instance normalization's input is 3 to 5."""
    rank = len(op.inputs[0].shape)
    return None if 3 <= rank <= 5 else f"{rank} dimensions"


def _quantized(op: OpView) -> Iterator[Tensor]:
    """The tensors that an operator's values were quantized in."""
    tensors = [*op.inputs, *op.outputs]
    for tensor in op.inputs:
        maker = op.view.producers.get(tensor.index)
        if maker is not None and maker.name in _QUANTIZERS:
            tensors += op.view.tensors((*maker.inputs[:1], *maker.outputs))
    return (tensor for tensor in tensors if tensor.quantization is not None)


def _first_zero_point(tensor: Tensor) -> int:
    points = tensor.quantization.zero_point if tensor.quantization else ()
    return next((point for point in points if point), 0)


RULES = RuleSet(
    name="tensorrt",
    title="TensorRT",
    formats=("onnx",),
    fallback="onnxruntime-cpu",
    rules=(
        symmetric, signed, tensor_scales, two_or_three_dimensions, constant_weights, no_indices,
        resize_mode, normalized_rank,
    ),
    source="https://github.com/onnx/onnx-tensorrt/blob/release/8.4-GA/docs/operators.md",
    takes=frozenset(_TAKES.split()),
    about=__doc__ or "",
)  # fmt: skip
