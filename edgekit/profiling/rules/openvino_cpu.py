"""OpenVINO's CPU plugin, which implements all operation sets of the IR."""

from __future__ import annotations

from edgekit.profiling.rules.base import OpView, RuleSet, rule


@rule(fix="convert without extensions, or load the extension's library")
def operation_set(op: OpView) -> str | None:
    """Operations are in OpenVINO's operation sets: others need an extension library."""
    return f"custom operation {op.op.name}" if op.op.kind == "custom" else None


RULES = RuleSet(
    name="openvino-cpu",
    title="OpenVINO's CPU plugin",
    formats=("openvino",),
    rules=(operation_set,),
    source="https://docs.openvino.ai/2026/documentation/openvino-ir-format/operation-sets.html",
)
