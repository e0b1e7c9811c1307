"""Normalizations that stayed operators of their own."""

from __future__ import annotations

from edgekit.compress.folding_onward import fold_all
from edgekit.pipeline.rewrites.base import Draft
from edgekit.profiling.rewrites import Change, RefusedError, Site
from edgekit.profiling.rewrites.base import rewrite


@rewrite(
    "no_broadcast", "broadcast", "operator", "scale_ratio", "optimized_operator", "fused_relu",
    ops="ADD DIV MUL RSQRT SUB",
)  # fmt: skip
def fold_scale(site: Site[Draft]) -> Change:
    """Folds batch normalization into the layers before it, or else into those behind it."""
    model = site.model.model
    folded, report = fold_all(model, skip=())
    if folded is model:
        reasons = "; ".join(f"{row['layer']}: {row['reason']}" for row in report["untreated"])
        raise RefusedError(reasons or "there is no batch normalization")
    site.model.model = folded
    return Change("batch normalization is in the layers beside it", "rounding")
