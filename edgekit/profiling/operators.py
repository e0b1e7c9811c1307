"""Lines of a report about operators, whether estimated or compiled."""

from __future__ import annotations

from collections.abc import Iterable

from edgekit.profiling.work import Work
from edgekit.schema.figure import Figure
from edgekit.schema.results import LayerProfile

_MOST_NAMED = 8


def layer_profile(work: Work, where: str | None, latency: Figure) -> LayerProfile:
    """One operator with what it asks, the processor that runs it, and its latency in ms."""
    return LayerProfile(
        index=work.op.index,
        op=work.op.name,
        layer=work.op.layer,
        macs=work.macs,
        bytes=work.bytes,
        where=where,
        latency_ms=latency,
    )


def by_reason(said: Iterable[tuple[str, int]]) -> list[str]:
    """One line a reason, in the order of its first operator: the reason and operators' indices."""
    indices: dict[str, list[int]] = {}
    for reason, index in said:
        indices.setdefault(reason, []).append(index)
    return [f"{reason} (operators {_listed(found)})" for reason, found in indices.items()]


def _listed(indices: list[int]) -> str:
    more = ", ..." if len(indices) > _MOST_NAMED else ""
    return ", ".join(map(str, indices[:_MOST_NAMED])) + more
