"""What ONNX operators are: their class and their multiply-accumulate count."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from typing import Any

from edgekit.graph import macs
from edgekit.graph.types import OpClass, Tensor

_KINDS: dict[OpClass, str] = {
    "conv": "Conv ConvInteger ConvTranspose DeformConv QLinearConv",
    "matmul": "Gemm MatMul MatMulInteger QLinearMatMul QGemm Attention Einsum FusedMatMul",
    "recurrent": "GRU LSTM RNN",
    "pool": "AveragePool GlobalAveragePool GlobalLpPool GlobalMaxPool LpPool MaxPool MaxRoiPool "
    "QLinearAveragePool QLinearGlobalAveragePool RoiAlign",
    "reduce": "ArgMax ArgMin CumSum ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax "
    "ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare TopK",
    "elementwise": "Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot "
    "BitwiseOr BitwiseXor Ceil Cos Cosh Div Equal Erf Exp Floor Greater GreaterOrEqual IsInf IsNaN "
    "Less LessOrEqual Log Max Mean Min Mod Mul Neg Not Or Pow QLinearAdd QLinearMul Reciprocal "
    "Round Sign Sin Sinh Sqrt Sub Sum Tan Where Xor",
    "activation": "Celu Clip Elu Gelu HardSigmoid HardSwish LeakyRelu LogSoftmax Mish PRelu "
    "QLinearSigmoid QLinearSoftmax Relu Selu Sigmoid Softmax Softplus Softsign Swish Tanh "
    "ThresholdedRelu",
    "normalization": "BatchNormalization GroupNormalization InstanceNormalization "
    "LayerNormalization LRN LpNormalization MeanVarianceNormalization RMSNormalization "
    "SkipLayerNormalization",
    "data": "CenterCropPad Concat Constant ConstantOfShape DepthToSpace Dropout Expand EyeLike "
    "Flatten Gather GatherElements GatherND Identity NonZero OneHot Pad QLinearConcat Range "
    "Reshape ReverseSequence ScatterElements ScatterND Shape Size Slice SpaceToDepth Split Squeeze "
    "Tile Transpose Trilu Unsqueeze",
    "resize": "AffineGrid GridSample Resize Upsample",
    "quantize": "Cast CastLike DequantizeLinear DynamicQuantizeLinear QuantizeLinear",
    "control": "If Loop Scan",
}
KINDS: dict[str, OpClass] = {name: kind for kind, names in _KINDS.items() for name in names.split()}

QONNX = ("BipolarQuant", "FloatQuant", "IntQuant", "Quant", "Trunc")
KINDS |= dict.fromkeys(QONNX, "quantize")

STANDARD_DOMAINS = ("", "ai.onnx", "com.microsoft")
QONNX_DOMAINS = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general")

# Inputs: the data and the weights; quantized forms interleave scales and zero points.
_DATA_AND_WEIGHTS = {"QLinearConv": (0, 3), "QLinearMatMul": (0, 3), "QGemm": (0, 3)}


def classify(
    name: str, inputs: Sequence[Tensor | None], attributes: Mapping[str, Any], fixed: Set[int]
) -> OpClass:
    """The class of an operator.

    Args:
        name: operator type of a standard domain.
        inputs: its tensors by position, None where one is absent.
        attributes: of the operator.
        fixed: indices of tensors that do not depend on the graph's inputs.
    """
    kind = KINDS.get(name, "other")
    data, weights = _data_and_weights(name, inputs)
    if kind == "conv" and weights is not None and name != "ConvTranspose":
        return macs.conv_class(
            weights.shape[2:],
            groups=int(attributes.get("group", 1)),
            channels_per_group=weights.shape[1] or 1 if len(weights.shape) > 1 else 1,
        )
    if kind == "matmul":
        sides = [side for side in (data, weights) if side is not None]
        return "dense" if any(side.index in fixed for side in sides) else "matmul"
    return kind


def count_macs(
    name: str,
    inputs: Sequence[Tensor | None],
    outputs: Sequence[Tensor],
    attributes: Mapping[str, Any],
) -> int:
    """Multiply-accumulate operations of an operator; 0 where it has none or its shapes are unknown.

    Weight layouts: Conv (O, I/groups, ...), ConvTranspose (I, O/groups, ...), LSTM, GRU and RNN
    (directions, gates x hidden, features) after data of (steps, batch, features).
    """
    kind = KINDS.get(name)
    data, weights = _data_and_weights(name, inputs)
    if data is None or weights is None or not outputs or not weights.shape or not data.shape:
        return 0
    if name == "ConvTranspose":
        return macs.transposed_conv(data, weights, weights.shape[0] or 1)
    if kind == "conv":
        return macs.conv(outputs[0], weights, weights.shape[0] or 1)
    if kind == "recurrent":
        matrices = [tensor for tensor in inputs[1:3] if tensor is not None]
        return macs.recurrent(data, matrices)
    if name == "Einsum":
        return _einsum(str(attributes.get("equation", "")), [data, weights])
    if kind == "matmul" and name != "Attention":
        transposed = attributes.get("transA") and len(data.shape) > 1
        return macs.matmul(outputs[0], data.shape[-2 if transposed else -1] or 1)
    return 0


def _data_and_weights(
    name: str, inputs: Sequence[Tensor | None]
) -> tuple[Tensor | None, Tensor | None]:
    positions = _DATA_AND_WEIGHTS.get(name, (0, 1))
    data, weights = (inputs[i] if i < len(inputs) else None for i in positions)
    return data, weights


def _einsum(equation: str, operands: Sequence[Tensor]) -> int:
    """The product of all axes of an einsum of two operands, without ellipsis."""
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, tensor in zip(terms, operands, strict=False):
        if len(term) != len(tensor.shape):
            return 0
        sizes.update(zip(term, (size or 1 for size in tensor.shape), strict=True))
    return math.prod(sizes.values())
