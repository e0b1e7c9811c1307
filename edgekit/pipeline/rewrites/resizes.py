"""Upsampling in operators, modes and steps that a target takes."""

from __future__ import annotations

from typing import Any

from edgekit.base.extras import require
from edgekit.models.calls import Call
from edgekit.pipeline.rewrites.base import Draft, called
from edgekit.profiling.rewrites import Change, RefusedError, Site
from edgekit.profiling.rewrites.base import rewrite
from edgekit.profiling.rewrites.resizes import RULES, power_factors

_MOST = 8  # in one step


@rewrite(
    "operator", "three_dimensions", "four_dimensions", "optimized_operator", "float_only", *RULES,
    ops="RESHAPE RESIZE_NEAREST_NEIGHBOR TILE",
)  # fmt: skip
def resize_nearest(site: Site[Draft]) -> Change:
    """Upsamples by nearest neighbour with a resize for what Keras repeats, in steps of up to 8."""
    call = _upsampling(site, "nearest")
    down, across = call.layer.size
    height, width = (int(size or 0) for size in call.shapes[0][1:3])
    steps = [(down, across)]
    if max(down, across) > _MOST:
        if down != across:
            raise RefusedError(f"{call.label} does not upsample by one number")
        steps = [(factor, factor) for factor in power_factors(down)]
    sizes = []
    for tall, wide in steps:
        height, width = height * tall, width * wide
        sizes.append((height, width))

    def form(layer: Any, x: Any) -> Any:
        layers = require("keras", purpose="to rewrite models").layers
        for number, (tall, wide) in enumerate(sizes):
            name = layer.name + (f"_{number}" if number else "")
            x = layers.Resizing(tall, wide, interpolation="nearest", name=name)(x)
        return x

    site.model.replace({id(call.layer): form})
    times = f" in {len(sizes)} steps" if len(sizes) > 1 else ""
    return Change(f"a resize to {sizes[-1][0]}x{sizes[-1][1]}{times}", "bits")


@rewrite(*RULES, "resize_mode", ops="RESIZE_BILINEAR")
def resize_mode(site: Site[Draft]) -> Change:
    """Resizes by nearest neighbour where a target does not resize bilinearly to this size."""
    call = _upsampling(site, "bilinear")

    def nearest(layer: Any) -> Any:
        return type(layer).from_config(layer.get_config() | {"interpolation": "nearest"})

    site.model.replace({id(call.layer): lambda layer, x: layer(x)}, nearest)
    return Change("nearest neighbour for bilinear", "approximate")


@rewrite(*RULES, ops="RESIZE_BILINEAR")
def resize_doubling(site: Site[Draft]) -> Change:
    """Resizes bilinearly by 4 and more in steps of 2, which is near, not equal."""
    call = _upsampling(site, "bilinear")
    down, across = getattr(call.layer, "size", (0, 0))
    count = int(down).bit_length() - 1
    if down != across or count < 2 or 1 << count != down:
        raise RefusedError(f"{call.label} does not upsample by 4, 8 or so")

    def form(layer: Any, x: Any) -> Any:
        layers = require("keras", purpose="to rewrite models").layers
        for number in range(count):
            name = layer.name + (f"_{number}" if number else "")
            x = layers.UpSampling2D(2, interpolation="bilinear", name=name)(x)
        return x

    site.model.replace({id(call.layer): form})
    return Change(f"{count} bilinear steps of 2", "approximate")


def _upsampling(site: Site[Draft], how: str) -> Call:
    """The call of the upsampling layer that a finding is about.

    Raises:
        RefusedError: there is none, or not of one known size.
    """
    kinds = ("UpSampling2D",) if how == "nearest" else ("UpSampling2D", "Resizing")
    found = called(site.model, site.finding.layer, *kinds)
    calls = [call for call in found if call.layer.interpolation == how]
    if not calls:
        raise RefusedError(f"it is not of a layer that upsamples: {how}")
    one = calls[0]
    if len(calls) > 1 or one.layer.data_format != "channels_last" or None in one.shapes[0][1:3]:
        raise RefusedError(f"{one.label} is shared, has its channels first, or takes any size")
    return one
