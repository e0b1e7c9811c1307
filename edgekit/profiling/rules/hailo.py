"""Hailo's accelerators through the Dataflow Compiler, which reads ONNX and TFLite.

Its list of operators is not public; these are the classes that the networks of Hailo's Model Zoo
have, which run on the accelerator whole: attention and layer normalization among them.
"""

from __future__ import annotations

from edgekit.profiling.rules.base import OpView, RuleSet, broken_dimensions, rule


@rule(fix="export with --precision int8")
def int8_only(op: OpView) -> str | None:
    """Operators compute in int8: weights and activations are 8-bit integers."""
    precision = op.view.op_precision(op.op)
    return None if precision == "int8" else f"{op.op.name} computes in {precision}"


@rule(fix="fix the input shape before the export")
def static_shapes(op: OpView) -> str | None:
    """Shapes are known when the network is compiled, the batch excepted."""
    return broken_dimensions([*op.inputs, *op.outputs])


RULES = RuleSet(
    name="hailo",
    title="Hailo's compiler",
    rules=(int8_only, static_shapes),
    source="https://github.com/hailo-ai/hailo_model_zoo",
    kinds=frozenset(
        {
            "conv", "pointwise", "depthwise", "dense", "matmul", "pool", "reduce", "elementwise",
            "activation", "normalization", "data", "resize", "quantize",
        }
    ),
    about=__doc__ or "",
)  # fmt: skip
