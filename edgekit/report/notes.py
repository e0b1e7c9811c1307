"""What stands below a table: why a figure is missing, and what to know about the others.

Each reason is told once, with all that it holds for.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath

from edgekit.schema.results import Profile


def missing_notes(profiles: Iterable[Profile]) -> list[str]:
    """Why figures are missing: one line a reason, with the places that it holds for."""
    places: dict[tuple[str, str], dict[str, None]] = {}
    for profile in profiles:
        told: set[str] = set()
        for what, figure in (
            ("latency", profile.latency_ms),
            ("energy", profile.energy_mj),
            ("memory", profile.peak_memory_bytes),
        ):
            if figure.value is None and figure.reason and figure.reason not in told:
                told.add(figure.reason)
                places.setdefault((what, figure.reason), {})[profile.place] = None
    return [f"no {what} ({', '.join(names)}): {why}" for (what, why), names in places.items()]


def warning_notes(profiles: Iterable[Profile]) -> list[str]:
    """Warnings: one line each, with the artifacts and places that it holds for."""
    holds: dict[str, dict[str, dict[str, None]]] = {}
    for profile in profiles:
        for warning in profile.warnings:
            artifacts = holds.setdefault(warning, {}).setdefault(profile.place, {})
            artifacts[PurePath(profile.artifact).name] = None
    return [
        f"{place} ({', '.join(artifacts)}): {warning}"
        for warning, by_place in holds.items()
        for place, artifacts in by_place.items()
    ]


def short_warning_notes(profiles: Iterable[Profile]) -> list[str]:
    """Warnings that decide, and in how many estimates there is something to know.

    Those about measurements decide, and those about memories that are too small.
    """
    known = list(profiles)
    lines = warning_notes(map(_deciding, known))
    doubtful = sum(profile != _deciding(profile) for profile in known)
    if doubtful:
        lines.append(
            f"estimates beyond what was measured on their target: {doubtful}; "
            "edgekit report and report.html say how"
        )
    return lines


def _deciding(profile: Profile) -> Profile:
    """A measurement as it is; an estimate with its warnings of memories only."""
    if profile.target is None:
        return profile
    return profile.model_copy(update={"warnings": profile.shortages})
