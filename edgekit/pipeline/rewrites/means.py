"""Means over height and width that are too large for a target."""

from __future__ import annotations

from typing import Any

from edgekit.base.extras import require
from edgekit.pipeline.rewrites.base import Draft, called
from edgekit.profiling.rewrites import Change, RefusedError, Site
from edgekit.profiling.rewrites.base import rewrite
from edgekit.profiling.rewrites.means import even_parts


@rewrite("small_mean", ops="MEAN")
def split_mean(site: Site[Draft]) -> Change:
    """Puts an average pool over equal parts before a global average pool: the mean of means."""
    calls = called(site.model, site.finding.layer, "GlobalAveragePooling2D")
    if not calls:
        raise RefusedError("it is not of a GlobalAveragePooling2D layer")
    layer, shape = calls[0].layer, calls[0].shapes[0]
    if len(calls) > 1 or layer.data_format != "channels_last" or None in shape[1:3]:
        raise RefusedError(f"{layer.name} is shared, has its channels first, or takes any size")
    height, width = (int(size or 1) for size in shape[1:3])
    tall, wide = even_parts(height, width)

    def form(one: Any, x: Any) -> Any:
        layers = require("keras", purpose="to rewrite models").layers
        return one(layers.AveragePooling2D((tall, wide), name=f"{layer.name}_parts")(x))

    site.model.replace({id(layer): form})
    return Change(
        f"the mean of {height // tall}x{width // wide} means over {tall}x{wide}", "rounding"
    )
