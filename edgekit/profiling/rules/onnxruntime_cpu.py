"""ONNX Runtime's CPU execution provider, which implements the whole standard."""

from __future__ import annotations

from edgekit.graph.onnx_ops import QONNX
from edgekit.profiling.rules.base import OpView, RuleSet, rule


@rule(fix="export without custom domains, or register the operator's library in the session")
def standard_domain(op: OpView) -> str | None:
    """Operators are in the ONNX standard or in com.microsoft, which the runtime brings."""
    custom = op.op.kind == "custom" or op.op.name in QONNX
    return f"custom operator {op.op.name}" if custom else None


RULES = RuleSet(
    name="onnxruntime-cpu",
    title="ONNX Runtime's CPU kernels",
    formats=("onnx",),
    rules=(standard_domain,),
    source="https://onnxruntime.ai/docs/reference/operators/",
)
