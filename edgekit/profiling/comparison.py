"""One file against another on a target: how much faster, and for a drone how much lighter."""

from __future__ import annotations

from edgekit.profiling.flight import worth_g
from edgekit.schema.figure import Figure
from edgekit.schema.results import Comparison, FlightProfile, Profile
from edgekit.schema.target import Target


def compare(baseline: Profile, other: Profile, target: Target) -> Comparison:
    """Ratios of two profiles on one target, and what a drone gains in flight.

    A ratio has no interval: predictions of two files on one target are off in the same direction,
    by how much nobody has measured.

    Args:
        baseline: of the file that is compared with.
        other: of the other file.
        target: where both run.
    """
    gains: dict[str, Figure] = {}
    if target.vehicle is not None and baseline.flight and other.flight:
        gains = _gains(baseline.flight, other.flight, target)
    return Comparison(
        target=target.name,
        artifact=other.artifact,
        baseline=baseline.artifact,
        latency_ratio=_ratio(other.latency_ms, baseline.latency_ms),
        energy_ratio=_ratio(other.energy_mj, baseline.energy_mj),
        memory_ratio=_ratio(other.peak_memory_bytes, baseline.peak_memory_bytes),
        **gains,
    )


def _gains(before: FlightProfile, after: FlightProfile, target: Target) -> dict[str, Figure]:
    longer = _difference(after.flight_min, before.flight_min, "s", "hovering time", scale=60)
    saved = _difference(before.inference_w, after.inference_w, "W", "power")
    lighter = saved
    if saved.value is not None and target.vehicle is not None:
        try:
            grams = worth_g(target.vehicle, saved.value)
        except ValueError as error:
            lighter = Figure.missing(str(error))
        else:
            lighter = _figure(
                grams, "g", f"mass whose hovering takes the {saved.value:.3g} W that are saved"
            )
    return {
        "faster_m_s": _difference(
            after.max_speed_m_s, before.max_speed_m_s, "m/s", "speed at which it still stops"
        ),
        "longer_s": longer,
        "lighter_g": lighter,
    }


def _ratio(one: Figure, base: Figure) -> Figure:
    if one.value is None or not base.value:
        return Figure.missing(one.reason or base.reason or "the baseline is zero")
    return _figure(one.value / base.value, "", "one estimate over the other")


def _difference(more: Figure, less: Figure, unit: str, what: str, *, scale: float = 1.0) -> Figure:
    if more.value is None or less.value is None:
        return Figure.missing(more.reason or less.reason or "not known")
    return _figure((more.value - less.value) * scale, unit, f"difference of {what}")


def _figure(value: float, unit: str, method: str) -> Figure:
    return Figure(
        value=value, unit=unit or None, origin="estimated",
        method=f"{method}; no interval: both are off alike",
    )  # fmt: skip
