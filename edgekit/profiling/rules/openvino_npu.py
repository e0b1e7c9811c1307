"""OpenVINO's NPU plugin (Intel Core Ultra), by its page.

Intel publishes no list of the operations that the driver's compiler takes, only these limits.
"""

from __future__ import annotations

from edgekit.profiling.rules.base import OpView, RuleSet, rule, shape_text
from edgekit.profiling.rules.openvino_cpu import operation_set


@rule(fix="fix the input shape, batch included, before the export")
def static_shapes(op: OpView) -> str | None:
    """Only models with static shapes are supported: the batch is fixed too."""
    free = [t for t in (*op.inputs, *op.outputs) if None in t.shape]
    return f"{free[0].name} has shape {shape_text(free[0])}" if free else None


@rule(fix="export with --precision fp16 or int8")
def computed_types(op: OpView) -> str | None:
    """Inference precisions are F32, F16 (what the hardware computes in) and quantized 8 bits."""
    precision = op.view.op_precision(op.op)
    return None if precision in ("fp32", "fp16", "int8") else f"computes in {precision}"


RULES = RuleSet(
    name="openvino-npu",
    title="OpenVINO's NPU plugin",
    formats=("openvino",),
    rules=(operation_set, static_shapes, computed_types),
    source=(
        "https://docs.openvino.ai/2025/openvino-workflow/running-inference/"
        "inference-devices-and-modes/npu-device.html"
    ),
    about=__doc__ or "",
)
