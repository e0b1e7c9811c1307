"""LiteRT on a CPU, with its built-in kernels."""

from __future__ import annotations

from edgekit.profiling.rules.base import OpView, RuleSet, broken_dimensions, rule

# Custom operators that the standard interpreter registers.
_REGISTERED = frozenset(
    {"TFLite_Detection_PostProcess", "NumericVerify", "Mfcc", "AudioSpectrogram"}
)


@rule(fix="convert without SELECT_TF_OPS: replace the layer by one that LiteRT has a kernel for")
def flex(op: OpView) -> str | None:
    """Operators are LiteRT's own: TensorFlow operators (Flex) need a runtime with TensorFlow."""
    return op.op.name if op.op.kind == "custom" and op.op.name.startswith("Flex") else None


@rule(fix="link the operator's implementation into the runtime, or replace the layer")
def custom(op: OpView) -> str | None:
    """Custom operators are those that the standard interpreter registers."""
    name = op.op.name
    if op.op.kind != "custom" or name.startswith("Flex") or name in _REGISTERED:
        return None
    return f"custom operator {name}"


@rule(fix="unroll the loop (unroll=True in Keras) or fix the shapes")
def control_shapes(op: OpView) -> str | None:
    """Loops and branches work on tensors whose shapes are known, the batch excepted."""
    return broken_dimensions(op.outputs) if op.op.kind == "control" else None


RULES = RuleSet(
    name="litert-cpu",
    title="LiteRT's CPU kernels",
    formats=("tflite",),
    rules=(flex, custom, control_shapes),
    source="https://ai.google.dev/edge/litert/models/ops_compatibility",
)
