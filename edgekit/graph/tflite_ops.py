"""What TFLite's operators are: their class and their multiply-accumulate count."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

from edgekit.graph import macs
from edgekit.graph.types import OpClass, Tensor

_KINDS: dict[OpClass, str] = {
    "conv": "CONV_3D CONV_3D_TRANSPOSE TRANSPOSE_CONV STABLEHLO_CONVOLUTION",
    "depthwise": "DEPTHWISE_CONV_2D",
    "matmul": "BATCH_MATMUL STABLEHLO_DOT_GENERAL",
    "recurrent": "LSTM RNN SVDF BIDIRECTIONAL_SEQUENCE_LSTM BIDIRECTIONAL_SEQUENCE_RNN "
    "UNIDIRECTIONAL_SEQUENCE_LSTM UNIDIRECTIONAL_SEQUENCE_RNN",
    "pool": "AVERAGE_POOL_2D L2_POOL_2D MAX_POOL_2D REDUCE_WINDOW STABLEHLO_REDUCE_WINDOW",
    "reduce": "ARG_MAX ARG_MIN CUMSUM MEAN REDUCE_ALL REDUCE_ANY REDUCE_MAX REDUCE_MIN REDUCE_PROD "
    "SEGMENT_SUM STABLEHLO_REDUCE SUM TOPK_V2 UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_MIN "
    "UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_SUM",
    "elementwise": "ABS ADD ADD_N ATAN2 BITWISE_XOR CEIL COMPLEX_ABS COS DIV EQUAL EXP FLOOR "
    "FLOOR_DIV FLOOR_MOD GREATER GREATER_EQUAL IMAG LESS LESS_EQUAL LOG LOGICAL_AND LOGICAL_NOT "
    "LOGICAL_OR MAXIMUM MINIMUM MUL NEG NOT_EQUAL POW REAL RIGHT_SHIFT ROUND RSQRT SELECT "
    "SELECT_V2 SIGN SIN SQRT SQUARE SQUARED_DIFFERENCE SUB STABLEHLO_ABS STABLEHLO_ADD "
    "STABLEHLO_AND STABLEHLO_CBRT STABLEHLO_CLAMP STABLEHLO_COMPARE STABLEHLO_COSINE "
    "STABLEHLO_DIVIDE STABLEHLO_EXPONENTIAL STABLEHLO_FLOOR STABLEHLO_LOG STABLEHLO_MAXIMUM "
    "STABLEHLO_MINIMUM STABLEHLO_MULTIPLY STABLEHLO_NEGATE STABLEHLO_OR STABLEHLO_POWER "
    "STABLEHLO_REMAINDER STABLEHLO_RSQRT STABLEHLO_SELECT STABLEHLO_SHIFT_LEFT STABLEHLO_SUBTRACT",
    "activation": "ELU GELU HARD_SWISH LEAKY_RELU LOGISTIC LOG_SOFTMAX PRELU RELU RELU6 "
    "RELU_0_TO_1 RELU_N1_TO_1 SOFTMAX STABLEHLO_LOGISTIC STABLEHLO_TANH TANH",
    "normalization": "L2_NORMALIZATION LOCAL_RESPONSE_NORMALIZATION",
    "data": "BATCH_TO_SPACE_ND BITCAST BROADCAST_ARGS BROADCAST_TO CONCATENATION CONCAT_EMBEDDINGS "
    "DENSIFY DEPTH_TO_SPACE DILATE DYNAMIC_UPDATE_SLICE EMBEDDING_LOOKUP EMBEDDING_LOOKUP_SPARSE "
    "EXPAND_DIMS FILL GATHER GATHER_ND HASHTABLE_LOOKUP MATRIX_DIAG MATRIX_SET_DIAG MIRROR_PAD "
    "ONE_HOT PACK PAD PADV2 RANGE RANK RESHAPE REVERSE_SEQUENCE REVERSE_V2 SCATTER_ND SHAPE SLICE "
    "SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPARSE_TO_DENSE SPLIT SPLIT_V SQUEEZE "
    "STABLEHLO_BROADCAST_IN_DIM STABLEHLO_CONCATENATE STABLEHLO_DYNAMIC_SLICE "
    "STABLEHLO_DYNAMIC_UPDATE_SLICE STABLEHLO_GATHER STABLEHLO_IOTA STABLEHLO_PAD "
    "STABLEHLO_RESHAPE STABLEHLO_SCATTER STABLEHLO_SLICE STABLEHLO_TRANSPOSE STRIDED_SLICE TILE "
    "TRANSPOSE UNPACK ZEROS_LIKE",
    "resize": "RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR",
    "quantize": "CAST DEQUANTIZE FAKE_QUANT QUANTIZE STABLEHLO_CONVERT",
    "control": "CALL CALL_ONCE IF STABLEHLO_COMPOSITE STABLEHLO_WHILE WHILE",
    "custom": "CUSTOM DELEGATE STABLEHLO_CUSTOM_CALL",
}
KINDS: dict[str, OpClass] = {name: kind for kind, names in _KINDS.items() for name in names.split()}


def classify(name: str, inputs: Sequence[Tensor], fixed: Set[int]) -> OpClass:
    """The class of an operator.

    Args:
        name: builtin operator name.
        inputs: its tensors, absent ones left out.
        fixed: indices of tensors that do not depend on the graph's inputs.
    """
    if name == "CONV_2D" and len(inputs) > 1 and len(inputs[1].shape) == 4:
        channels = inputs[0].shape[-1] if inputs[0].shape else None
        per_group = inputs[1].shape[3] or 1
        return macs.conv_class(
            inputs[1].shape[1:3],
            groups=(channels or per_group) // per_group,
            channels_per_group=per_group,
        )
    if name == "FULLY_CONNECTED":
        return "dense" if len(inputs) > 1 and inputs[1].index in fixed else "matmul"
    return KINDS.get(name, "other")


def count_macs(
    name: str,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    attributes: Mapping[str, Any],
    fixed: Set[int],
) -> int:
    """Multiply-accumulate operations of an operator; 0 where it has too few or shapeless inputs."""
    formula = _FORMULAS.get(name)
    if KINDS.get(name) == "recurrent" and inputs:
        return macs.recurrent(inputs[0], _matrices(inputs[1:], fixed))
    if formula is None or not outputs:
        return 0
    try:
        return formula(inputs, outputs[0], attributes)
    except IndexError:  # fewer inputs or dimensions than the operator has: a file of no runtime
        return 0


def _matrices(inputs: Sequence[Tensor], fixed: Set[int]) -> list[Tensor]:
    return [tensor for tensor in inputs if tensor.index in fixed and len(tensor.shape) == 2]


def _size(tensor: Tensor, axis: int) -> int:
    return tensor.shape[axis] or 1


_Formula = Callable[[Sequence[Tensor], Tensor, Mapping[str, Any]], int]

# Weight layouts: CONV_2D OHWI, DEPTHWISE_CONV_2D 1HWO, TRANSPOSE_CONV OHWI, CONV_3D DHWIO,
# CONV_3D_TRANSPOSE DHWOI, FULLY_CONNECTED OI; the first input of a transposed one is its shape.
_FORMULAS: dict[str, _Formula] = {
    "CONV_2D": lambda i, o, _a: macs.conv(o, i[1], _size(i[1], 0)),
    "DEPTHWISE_CONV_2D": lambda i, o, _a: macs.conv(o, i[1], _size(i[1], 3)),
    "CONV_3D": lambda i, o, _a: macs.conv(o, i[1], _size(i[1], 4)),
    "TRANSPOSE_CONV": lambda i, _o, _a: macs.transposed_conv(i[2], i[1], _size(i[1], 3)),
    "CONV_3D_TRANSPOSE": lambda i, _o, _a: macs.transposed_conv(i[2], i[1], _size(i[1], 4)),
    "FULLY_CONNECTED": lambda i, o, _a: macs.matmul(o, _size(i[1], 1)),
    "BATCH_MATMUL": lambda i, o, a: macs.matmul(o, _size(i[0], -2 if a.get("adj_x") else -1)),
    "STABLEHLO_DOT_GENERAL": lambda i, o, a: macs.matmul(
        o, math.prod(_size(i[0], axis) for axis in a.get("lhs_contracting_dimensions", ()))
    ),
    "STABLEHLO_CONVOLUTION": lambda i, o, a: macs.conv(
        o, i[1], _size(i[1], a.get("kernel_output_feature_dimension", 0))
    ),
}
