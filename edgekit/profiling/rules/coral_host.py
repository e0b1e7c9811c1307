"""The computer that an Edge TPU is plugged into: LiteRT with the custom operators of libcoral."""

from __future__ import annotations

from edgekit.profiling.rules import litert_cpu
from edgekit.profiling.rules.base import OpView, RuleSet, rule

_LIBCORAL = frozenset({"PosenetDecoderOp"})


@rule(fix="link the operator's implementation into the runtime, or replace the layer")
def custom(op: OpView) -> str | None:
    """Custom operators are those that the standard interpreter or libcoral registers."""
    return None if op.op.name in _LIBCORAL else litert_cpu.custom.check(op)


RULES = RuleSet(
    name="coral-host",
    title="LiteRT's CPU kernels with libcoral",
    formats=("tflite",),
    rules=(litert_cpu.flex, custom, litert_cpu.control_shapes),
    source="https://github.com/google-coral/libcoral",
)
