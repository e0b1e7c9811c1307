"""What one part of a target file says against another: each fault at the key that is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from edgekit.schema.yamlfile import Location

if TYPE_CHECKING:
    from edgekit.schema.target import Target

Fault = tuple[Location, str, Any]


def refuse_faults(target: Target) -> None:
    """Refuses a target whose parts do not fit each other.

    Raises:
        ValidationError: with the location of every fault.
    """
    faults = [
        InitErrorDetails(type=PydanticCustomError("value_error", "{text}", {"text": text}),
                         loc=location, input=found)
        for location, text, found in (*_sources(target), *_processors(target), *_costs(target))
    ]  # fmt: skip
    if faults:
        raise ValidationError.from_exception_data("Target", faults)


def _sources(target: Target) -> Iterator[Fault]:
    known = [source.id for source in target.sources]
    for place, part in _sourced(target):
        if part is not None and part.source is not None and part.source not in known:
            text = f"is not in 'sources' ({', '.join(known)})"
            yield (*place, "source"), text, part.source


def _sourced(target: Target) -> Iterator[tuple[Location, Any]]:
    yield ("memory",), target.memory
    yield ("power",), target.power
    yield ("vehicle",), target.vehicle
    yield from ((("fit", n), one) for n, one in enumerate(target.fit))
    yield from ((("measurements", n), one) for n, one in enumerate(target.measurements))
    for n, processor in enumerate(target.processors):
        yield ("processors", n, "link"), processor.link
        for precision, costs in processor.costs.items():
            yield ("processors", n, "costs", precision), costs
    for n, variant in enumerate(target.variants):
        for precision, costs in variant.costs.items():
            yield ("variants", n, "costs", precision), costs
    for name, known in (target.power.operators if target.power else {}).items():
        yield from ((("power", "operators", name, p), own) for p, own in known.items())


def _processors(target: Target) -> Iterator[Fault]:
    names = [processor.name for processor in target.processors]
    for n, name in enumerate(names):
        if name in names[:n]:
            yield ("processors", n, "name"), "is the name of another processor too", name
    for n, spec in enumerate(target.fit):
        if spec.processor not in names:
            yield ("fit", n, "processor"), "is the name of no processor", spec.processor
    if target.power is None:
        return
    if set(target.power.active_w) != set(names):
        found = sorted(target.power.active_w)
        yield ("power", "active_w"), f"must name each processor: {', '.join(names)}", found
    for name in target.power.operators:
        if name not in names:
            yield ("power", "operators", name), "is the name of no processor", name


def _costs(target: Target) -> Iterator[Fault]:
    costed = {precision for processor in target.processors for precision in processor.costs}
    for precision, charged in target.precisions.items():
        if charged is not None and charged not in costed:
            yield ("precisions", precision), "is charged as no processor has costs for", charged
