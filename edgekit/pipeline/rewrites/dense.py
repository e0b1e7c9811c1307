"""Dense layers over several places, as convolutions."""

from __future__ import annotations

from typing import Any

from edgekit.base.extras import require
from edgekit.pipeline.rewrites.base import Draft, called
from edgekit.profiling.rewrites import Change, RefusedError, Site
from edgekit.profiling.rewrites.base import rewrite


@rewrite("dense_one_dimension", ops="FULLY_CONNECTED")
def dense_convolution(site: Site[Draft]) -> Change:
    """Makes a dense layer over several places a 1x1 convolution: the same products."""
    calls = called(site.model, site.finding.layer, "Dense")
    if not calls:
        raise RefusedError("it is not of a Dense layer")
    ranks = {len(call.shapes[0]) for call in calls}
    layer = calls[0].layer
    if len(ranks) > 1 or not ranks <= {3, 4} or layer.kernel_constraint or layer.lora_enabled:
        raise RefusedError(f"{layer.name} does not stand at one kind of map")
    kind = "Conv1D" if ranks == {3} else "Conv2D"

    def convolution(dense: Any) -> Any:
        layers = require("keras", purpose="to rewrite models").layers
        return getattr(layers, kind)(
            dense.units, 1, activation=dense.activation, use_bias=dense.use_bias, name=dense.name
        )

    def form(made: Any, x: Any) -> Any:
        y = made(x)
        kernel, *bias = layer.get_weights()
        made.set_weights([kernel.reshape(made.kernel.shape), *bias])
        return y

    site.model.replace({id(layer): form}, convolution)
    return Change(f"{kind} of 1 for Dense", "rounding")
