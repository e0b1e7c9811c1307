"""TensorFlow Lite for Microcontrollers."""

from __future__ import annotations

from edgekit.profiling.rules.base import OpView, RuleSet, broken_dimensions, rule

_TAKES = """
ABS ADD ADD_N ARG_MAX ARG_MIN ASSIGN_VARIABLE AVERAGE_POOL_2D BATCH_MATMUL BATCH_TO_SPACE_ND
BROADCAST_ARGS BROADCAST_TO CALL_ONCE CAST CEIL CONCATENATION CONV_2D COS CUMSUM DEPTH_TO_SPACE
DEPTHWISE_CONV_2D DEQUANTIZE DIV ELU EMBEDDING_LOOKUP EQUAL EXP EXPAND_DIMS FILL FLOOR FLOOR_DIV
FLOOR_MOD FULLY_CONNECTED GATHER GATHER_ND GREATER GREATER_EQUAL HARD_SWISH IF L2_NORMALIZATION
L2_POOL_2D LEAKY_RELU LESS LESS_EQUAL LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC LOG_SOFTMAX
MAX_POOL_2D MAXIMUM MEAN MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL PACK PAD PADV2 PRELU QUANTIZE
READ_VARIABLE REDUCE_MAX REDUCE_MIN RELU RELU6 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR
REVERSE_V2 ROUND RSQRT SELECT_V2 SHAPE SIN SLICE SOFTMAX SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPLIT
SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM SVDF TANH TRANSPOSE
TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK VAR_HANDLE WHILE ZEROS_LIKE
"""


@rule(fix="fix the input shape before the export")
def static_shapes(op: OpView) -> str | None:
    """Shapes are fixed, the batch of one excepted: the arena is planned before the first run."""
    return broken_dimensions([*op.inputs, *op.outputs])


@rule(fix="export with --precision int8 (or fp32): float weights behind int8 are not implemented")
def no_hybrid(op: OpView) -> str | None:
    """Weights and activations are both int8, both float, or int8 weights with int16 activations."""
    precision = op.view.op_precision(op.op)
    hybrid = precision in ("int8-dynamic", "fp16", "int4-weight")
    return f"{op.op.name} computes in {precision}" if hybrid else None


RULES = RuleSet(
    name="tflm",
    title="TensorFlow Lite for Microcontrollers",
    rules=(static_shapes, no_hybrid),
    source="https://github.com/tensorflow/tflite-micro/blob/main/tensorflow/lite/micro/micro_mutable_op_resolver.h",
    takes=frozenset(_TAKES.split()),
)
