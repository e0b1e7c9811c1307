"""OpenVINO's GPU plugin (Intel integrated and discrete graphics).

That dynamic shapes are supported partially is in OpenVINO's table of devices (2025); the dtypes are
from the plugin's page as remembered.
"""

from __future__ import annotations

from edgekit.profiling.rules.base import OpView, RuleSet, broken_dimensions, first_of, rule
from edgekit.profiling.rules.openvino_cpu import operation_set

_DTYPES = (
    "float32", "float16", "int8", "uint8", "int4", "uint4", "int32", "int64", "bool", "float64",
    "int16", "uint16", "uint32",
)  # fmt: skip


@rule(fix="fix the input shape before the export", severity="slow")
def static_shapes(op: OpView) -> str | None:
    """Dynamic shapes are supported partially: a new shape compiles kernels anew at run time."""
    return broken_dimensions([*op.inputs, *op.outputs])


@rule(fix="export with --precision fp16 or int8")
def computed_types(op: OpView) -> str | None:
    """Primitives compute in f32, f16, u8 or i8; integers of shapes and indices are taken too."""
    return first_of(op.maps, _DTYPES)


RULES = RuleSet(
    name="openvino-gpu",
    title="OpenVINO's GPU plugin",
    formats=("openvino",),
    rules=(operation_set, static_shapes, computed_types),
    source=(
        "https://docs.openvino.ai/2025/openvino-workflow/running-inference/"
        "inference-devices-and-modes/gpu-device.html"
    ),
    about=__doc__ or "",
)
