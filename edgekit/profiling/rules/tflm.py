"""TensorFlow Lite for Microcontrollers.

Of September 2024 or newer: from then on dense layers may have a scale an output, as converters
write them since that year (its pull requests 2602 and 2673). Older ones refuse them, or read one
scale alone: `check --fix` for a Coral target makes such layers convolutions.
"""

from __future__ import annotations

from edgekit.profiling.rules.base import OpView, RuleSet, broken_dimensions, first_of, rule

_TAKES = """
ABS ADD ADD_N ARG_MAX ARG_MIN ASSIGN_VARIABLE AVERAGE_POOL_2D BATCH_MATMUL BATCH_TO_SPACE_ND
BROADCAST_ARGS BROADCAST_TO CALL_ONCE CAST CEIL CONCATENATION CONV_2D COS CUMSUM DEPTH_TO_SPACE
DEPTHWISE_CONV_2D DEQUANTIZE DIV DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP EQUAL EXP EXPAND_DIMS
FILL FLOOR FLOOR_DIV
FLOOR_MOD FULLY_CONNECTED GATHER GATHER_ND GREATER GREATER_EQUAL HARD_SWISH IF L2_NORMALIZATION
L2_POOL_2D LEAKY_RELU LESS LESS_EQUAL LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC LOG_SOFTMAX
MAX_POOL_2D MAXIMUM MEAN MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL PACK PAD PADV2 PRELU QUANTIZE
READ_VARIABLE REDUCE_MAX REDUCE_MIN RELU RELU6 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR
REVERSE_V2 ROUND RSQRT SELECT_V2 SHAPE SIN SLICE SOFTMAX SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPLIT
SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM SVDF TANH TRANSPOSE
TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK VAR_HANDLE WHILE ZEROS_LIKE
TFLite_Detection_PostProcess
"""
_COMPUTING = (
    "ADD", "AVERAGE_POOL_2D", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "LOGISTIC",
    "MAX_POOL_2D", "MEAN", "MUL", "SOFTMAX", "SUB", "SVDF", "TANH", "TRANSPOSE_CONV",
)  # fmt: skip


@rule(fix="fix the input shape before the export")
def static_shapes(op: OpView) -> str | None:
    """Shapes are fixed, the batch of one excepted: the arena is planned before the first run."""
    return broken_dimensions([*op.inputs, *op.outputs])


@rule(
    fix="export with --precision int8 (or fp32): float weights behind int8 are not implemented",
    source="https://github.com/tensorflow/tflite-micro/blob/main/tensorflow/lite/micro/kernels/"
    "fully_connected.cc",
)
def no_hybrid(op: OpView) -> str | None:
    """Weights and activations are both int8, both float, or int8 weights with int16 activations."""
    precision = op.view.op_precision(op.op)
    hybrid = precision in ("int8-dynamic", "fp16", "int4-weight")
    return f"{op.op.name} computes in {precision}" if hybrid else None


@rule(
    *_COMPUTING,
    fix="convert again to int8: uint8 is the quantization of TensorFlow 1",
    source="https://github.com/tensorflow/tflite-micro/pull/428",
)
def signed_kernels(op: OpView) -> str | None:
    """Kernels that compute are for float32, int8 and int16: those for uint8 went in August 2021."""
    return first_of(op.maps, ("float32", "int8", "int16", "int32", "int64", "bool"))


RULES = RuleSet(
    name="tflm",
    title="TensorFlow Lite for Microcontrollers",
    formats=("tflite",),
    rules=(static_shapes, no_hybrid, signed_kernels),
    source="https://github.com/tensorflow/tflite-micro/blob/main/tensorflow/lite/micro/micro_mutable_op_resolver.h",
    takes=frozenset(_TAKES.split()),
    about=__doc__ or "",
)
