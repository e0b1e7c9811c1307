"""Channels of zeros, for an accelerator that computes several at a time."""

from __future__ import annotations

from edgekit.compress.network import trace
from edgekit.compress.surgery import Padding, with_channels
from edgekit.pipeline.rewrites.base import Draft, called
from edgekit.profiling.rewrites import Change, RefusedError, Site
from edgekit.profiling.rewrites.base import rewrite


@rewrite({"full_lanes": {"multiple": 16}})
def pad_channels(site: Site[Draft]) -> Change:
    """Pads a convolution's channels with zeros to the multiple that a target computes at a time.

    The layers behind have weights of zero for the new channels.
    """
    model = site.model.model
    network = trace(model)
    ids = {wired.label: ids for wired, _, ids in network.made()}
    makers = [call.label for call in called(site.model, site.finding.layer) if call.label in ids]
    label = next(iter(makers), None)
    groups = [one for one in network.groups() if label in [maker for maker, _ in one.makers]]
    if label is None or len(groups) != 1:
        raise RefusedError("its channels are an output of the model, or what follows mixes them")
    roots = groups[0].roots
    extra = -len(roots) % site.arguments["multiple"]
    if not extra:
        raise RefusedError("its channels fill the lanes")
    if any(weight.averaged is not None for one in network.layers for weight in one.wiring.weights):
        raise RefusedError("an attention would divide by another number of channels")
    last = next(root for root in network.coupling.roots(ids[label])[::-1] if root in roots)
    wider = with_channels(model, network, Padding(network.coupling, {int(last): extra}))
    site.model.model = wider
    count = len(roots)
    return Change(f"{count + extra} channels for {count}, the new ones zero", "rounding")
