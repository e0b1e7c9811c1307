"""A dataflow design made by hls4ml: each layer is hardware of its own, weights on the chip.

By hls4ml's documentation (1.x) and its maintainers' answers. Whether all layers fit is a matter of
the FPGA's size and of bit widths, which a rule about one layer cannot say. That the limit of 4096
holds for the values of a map in io_parallel too is as remembered (Vivado HLS 2020.1).
"""

from __future__ import annotations

import math

from edgekit.profiling.rules.base import OpView, RuleSet, broken_dimensions, ceil_div, rule

_MOST_UNROLLED = 4096
_ISSUE = "https://github.com/fastmachinelearning/hls4ml/issues/1013"
_IO = "https://fastmachinelearning.org/hls4ml/details.html"


@rule(fix="fix the input shape before the export")
def static_shapes(op: OpView) -> str | None:
    """Shapes are known when the hardware is made, the batch excepted."""
    return broken_dimensions([*op.inputs, *op.outputs])


@rule(
    fix="set the layer's ReuseFactor and Strategy: Resource, or prune",
    severity="slow",
    source=_ISSUE,
)
def unrolled_multiplications(op: OpView) -> str | None:
    """At most 4096 multiplications of a layer are done in parallel: so far Vivado HLS unrolls.

    Larger layers need a reuse factor, and take as many cycles for each value.
    """
    if op.op.kind not in ("conv", "pointwise", "dense") or not op.constants:
        return None
    weights = max(math.prod(size or 1 for size in tensor.shape) for tensor in op.constants)
    reuse = ceil_div(weights, _MOST_UNROLLED)
    return f"{weights} multiplications: reuse factor of at least {reuse}" if reuse > 1 else None


@rule(fix="use io_type io_stream", severity="slow", source=_IO)
def parallel_maps(op: OpView) -> str | None:
    """io_parallel is for feature maps of at most 4096 values: larger ones are streamed."""
    wide = [tensor for tensor in op.outputs if tensor.elements > _MOST_UNROLLED]
    return f"{wide[0].name} has {wide[0].elements} values" if wide else None


RULES = RuleSet(
    name="hls4ml",
    title="hls4ml",
    rules=(static_shapes, unrolled_multiplications, parallel_maps),
    source="https://fastmachinelearning.org/hls4ml/intro/status.html",
    kinds=frozenset(
        {"conv", "pointwise", "depthwise", "dense", "recurrent", "pool", "reduce", "elementwise",
         "activation", "normalization", "data", "resize", "quantize"}
    ),
    about=__doc__ or "",
)  # fmt: skip
