"""What OpenVINO operators are: their class and their multiply-accumulate count."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from typing import Any

from edgekit.graph import macs
from edgekit.graph.types import OpClass, Tensor

_KINDS: dict[OpClass, str] = {
    "conv": "BinaryConvolution Convolution ConvolutionBackpropData DeformableConvolution "
    "GroupConvolution GroupConvolutionBackpropData",
    "matmul": "Einsum MatMul ScaledDotProductAttention",
    "recurrent": "GRUCell GRUSequence LSTMCell LSTMSequence RNNCell RNNSequence",
    "pool": "AdaptiveAvgPool AdaptiveMaxPool AvgPool MaxPool ROIAlign ROIPooling",
    "reduce": "CumSum ReduceL1 ReduceL2 ReduceLogicalAnd ReduceLogicalOr ReduceMax ReduceMean "
    "ReduceMin ReduceProd ReduceSum TopK",
    "elementwise": "Abs Acos Acosh Add Asin Asinh Atan Atanh Ceiling Cos Cosh Divide Equal Erf Exp "
    "Floor FloorMod Greater GreaterEqual IsFinite IsInf IsNaN Less LessEqual Log LogicalAnd "
    "LogicalNot LogicalOr LogicalXor Maximum Minimum Mod Multiply Negative NotEqual Power Round "
    "Select Sign Sin Sinh Sqrt SquaredDifference Subtract Tan",
    "activation": "Clamp Elu Gelu HSigmoid HSwish HardSigmoid LogSoftmax Mish PRelu Relu Selu "
    "Sigmoid SoftPlus SoftSign Softmax Swish Tanh",
    "normalization": "BatchNormInference GRN GroupNormalization LRN MVN NormalizeL2 RMS",
    "data": "Assign BatchToSpace Broadcast Bucketize Concat DepthToSpace EmbeddingBagOffsetsSum "
    "EmbeddingBagPackedSum EmbeddingSegmentsSum Eye Gather GatherElements GatherND Identity "
    "NonZero OneHot Pad Range ReadValue Reshape Reverse ReverseSequence Roll ScatterElementsUpdate "
    "ScatterNDUpdate ScatterUpdate ShapeOf ShuffleChannels Slice SpaceToBatch SpaceToDepth Split "
    "Squeeze StridedSlice Tile Transpose Unsqueeze VariadicSplit",
    "resize": "GridSample Interpolate",
    "quantize": "Convert ConvertLike FakeConvert FakeQuantize",
    "control": "If Loop TensorIterator",
}
KINDS: dict[str, OpClass] = {name: kind for kind, names in _KINDS.items() for name in names.split()}

# Positions of the input and recurrent matrices.
_RECURRENT = {
    "LSTMSequence": (4, 5), "LSTMCell": (3, 4), "GRUSequence": (3, 4), "RNNSequence": (3, 4),
    "GRUCell": (2, 3), "RNNCell": (2, 3),
}  # fmt: skip


def classify(name: str, inputs: Sequence[Tensor], fixed: Set[int]) -> OpClass:
    """The class of an operator.

    Args:
        name: type name.
        inputs: its tensors.
        fixed: indices of tensors that do not depend on the graph's inputs.
    """
    kind = KINDS.get(name, "other")
    if kind == "matmul":
        return "dense" if any(tensor.index in fixed for tensor in inputs[:2]) else "matmul"
    if name in ("Convolution", "GroupConvolution") and len(inputs) > 1:
        shape = inputs[1].shape
        if name == "Convolution":
            return macs.conv_class(shape[2:], groups=1, channels_per_group=1)
        groups, per_group = (shape[0] or 1, shape[2] or 1) if len(shape) > 2 else (1, 1)
        return macs.conv_class(shape[3:], groups=groups, channels_per_group=per_group)
    return kind


def count_macs(
    name: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor], attributes: Mapping[str, Any]
) -> int:
    """Multiply-accumulate operations of an operator; loops and branches count none.

    Weight layouts: Convolution (O, I, ...), its transposed form (I, O, ...), the grouped ones the
    same behind an axis of groups.
    """
    if len(inputs) < 2 or not outputs or not inputs[0].shape or not inputs[1].shape:
        return 0
    data, weights, output = inputs[0], inputs[1], outputs[0]
    channels = math.prod(size or 1 for size in weights.shape[: 2 if "Group" in name else 1])
    if name in ("ConvolutionBackpropData", "GroupConvolutionBackpropData"):
        return macs.transposed_conv(data, weights, channels)
    if KINDS.get(name) == "conv":
        return macs.conv(output, weights, channels)
    if name == "MatMul":
        transposed = attributes.get("transpose_a") and len(data.shape) > 1
        return macs.matmul(output, data.shape[-2 if transposed else -1] or 1)
    if name in _RECURRENT:
        matrices = [inputs[i] for i in _RECURRENT[name] if i < len(inputs)]
        return macs.recurrent(data, matrices)
    return 0
