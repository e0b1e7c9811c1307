"""An int8 systolic matrix engine with a vector unit, as built on FPGAs."""

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
    name="systolic",
    title="the systolic engine",
    rules=(int8_only, static_shapes),
    source="https://arxiv.org/abs/1811.02883",
    kinds=frozenset(
        {
            "conv",
            "pointwise",
            "depthwise",
            "dense",
            "pool",
            "reduce",
            "elementwise",
            "activation",
            "data",
            "resize",
            "quantize",
        }
    ),
)
