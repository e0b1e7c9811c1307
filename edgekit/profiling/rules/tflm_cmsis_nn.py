"""TensorFlow Lite for Microcontrollers on Cortex-M with the kernels of CMSIS-NN.

What TFLM implements and CMSIS-NN does not runs on TFLM's reference kernels. Operators that only
move or convert values are not accused. Dtypes are those of CMSIS-NN's table; for the newer
BATCH_MATMUL, MAXIMUM, MINIMUM, PAD and TRANSPOSE, and for broadcasting, they are those of TFLM's
kernels as remembered.
"""

from __future__ import annotations

from edgekit.profiling.rules import tflm
from edgekit.profiling.rules.base import OpView, RuleSet, rule, shape_text

_INT8_ONLY = (
    "MAXIMUM", "MINIMUM", "PAD", "PADV2", "SVDF", "TRANSPOSE", "TRANSPOSE_CONV",
    "UNIDIRECTIONAL_SEQUENCE_LSTM",
)  # fmt: skip
_INT8_INT16 = (
    "ADD", "AVERAGE_POOL_2D", "BATCH_MATMUL", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED",
    "MAX_POOL_2D", "MUL", "SOFTMAX",
)  # fmt: skip
_CHEAP = ("data", "quantize", "control")
_TABLE = "https://github.com/ARM-software/CMSIS-NN/blob/main/README.md#current-operator-support"
_KERNELS = (
    "https://github.com/tensorflow/tflite-micro/tree/main/tensorflow/lite/micro/kernels/cmsis_nn"
)


@rule(
    fix="use a layer that CMSIS-NN has a kernel for (ReLU rather than tanh, pooling rather than "
    "MEAN)",
    severity="slow",
    source=_KERNELS,
)
def optimized_operator(op: OpView) -> str | None:
    """Operators that compute have a kernel in CMSIS-NN; others run on TFLM's reference kernels.

    It has them for ADD, AVERAGE_POOL_2D, BATCH_MATMUL, CONV_2D, DEPTHWISE_CONV_2D,
    FULLY_CONNECTED, MAXIMUM, MAX_POOL_2D, MINIMUM, MUL, PAD, SOFTMAX, SVDF, TRANSPOSE,
    TRANSPOSE_CONV and UNIDIRECTIONAL_SEQUENCE_LSTM.
    """
    known = op.op.name in _INT8_ONLY or op.op.name in _INT8_INT16
    return None if known or op.op.kind in _CHEAP else f"{op.op.name} has a reference kernel only"


@rule(*_INT8_ONLY, fix="export with --precision int8", severity="slow")
def int8_kernel(op: OpView) -> str | None:
    """CMSIS-NN's kernel is for int8 activations only."""
    return _other_dtype(op, ("int8",))


@rule(*_INT8_INT16, fix="export with --precision int8", severity="slow")
def int8_or_int16_kernel(op: OpView) -> str | None:
    """CMSIS-NN's kernels are for int8 and int16 activations; float runs on reference kernels."""
    return _other_dtype(op, ("int8", "int16"))


@rule("DEPTHWISE_CONV_2D", fix="use depth_multiplier=1", severity="slow", source=_KERNELS)
def one_multiplier(op: OpView) -> str | None:
    """The optimized depthwise convolution has as many output as input channels."""
    before, after = op.inputs[0].shape[-1] or 1, op.outputs[0].shape[-1] or 1
    return None if before == after else f"{before} channels become {after}"


@rule("ADD", "MUL", fix="add or multiply tensors of one shape", severity="slow", source=_KERNELS)
def no_broadcast(op: OpView) -> str | None:
    """Inputs of ADD and MUL have the same shape: broadcasting runs on the reference kernel."""
    shapes = {shape_text(tensor) for tensor in op.inputs}
    return None if len(shapes) == 1 else " and ".join(sorted(shapes))


def _other_dtype(op: OpView, taken: tuple[str, ...]) -> str | None:
    wrong = next((t for t in op.activations[:1] if t.dtype not in taken), None)
    return f"{wrong.name} is {wrong.dtype}" if wrong else None


RULES = RuleSet(
    name="tflm-cmsis-nn",
    title="TensorFlow Lite for Microcontrollers with CMSIS-NN",
    formats=("tflite",),
    rules=(
        *tflm.RULES.rules, optimized_operator, int8_kernel, int8_or_int16_kernel, one_multiplier,
        no_broadcast,
    ),
    source=_TABLE,
    takes=tflm.RULES.takes,
    about=__doc__ or "",
)  # fmt: skip
