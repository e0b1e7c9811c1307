"""Budgets of a profile: latency, energy, memory."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from edgekit.base.errors import InputError
from edgekit.schema.figure import Figure
from edgekit.schema.results import BudgetVerdict, Profile, Verdict

_KIB = 1024


@dataclass(frozen=True)
class Limits:
    """What an inference may cost; None: anything.

    Attributes:
        latency_ms: milliseconds.
        energy_mj: millijoules.
        memory_kib: peak memory in units of 1024 bytes.
    """

    latency_ms: float | None = None
    energy_mj: float | None = None
    memory_kib: float | None = None

    def __post_init__(self) -> None:
        """Refuses what no figure can be held against.

        Raises:
            InputError: a limit is not a number above zero.
        """
        for value in (self.latency_ms, self.energy_mj, self.memory_kib):
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"a budget is a number above zero, not {value:g}")

    @property
    def any(self) -> bool:
        """Whether there is a limit."""
        return any(x is not None for x in (self.latency_ms, self.energy_mj, self.memory_kib))


def judge(name: str, figure: Figure, limit: float, *, unit: float = 1.0) -> BudgetVerdict:
    """Holds a figure against its limit, by its central value as `edgekit gate` does.

    Args:
        name: of the budget.
        figure: the value, in its own unit.
        limit: at most.
        unit: of the limit, in units of the figure.
    """
    if figure.value is None:
        return BudgetVerdict(
            budget=name, limit=limit, value=None, verdict="unknown", reason=figure.reason
        )
    value = figure.value / unit
    ok = value <= limit
    reason = None
    if ok and figure.high is not None and figure.high / unit > limit:
        reason = f"the interval reaches {figure.high / unit:.3g}, over the limit"
    elif not ok and figure.low is not None and figure.low / unit <= limit:
        reason = f"the interval reaches {figure.low / unit:.3g}, within the limit"
    return BudgetVerdict(
        budget=name, limit=limit, value=value, verdict="ok" if ok else "over", reason=reason
    )


def budgets(profile: Profile, limits: Limits) -> tuple[BudgetVerdict, ...]:
    """Each limit that there is, held against its figure."""
    wanted = (
        ("latency_ms", profile.latency_ms, limits.latency_ms, 1.0),
        ("energy_mj", profile.energy_mj, limits.energy_mj, 1.0),
        ("peak_memory_kib", profile.peak_memory_bytes, limits.memory_kib, float(_KIB)),
    )
    return tuple(
        judge(name, figure, limit, unit=unit)
        for name, figure, limit, unit in wanted
        if limit is not None
    )


def overall(verdicts: Iterable[BudgetVerdict]) -> Verdict:
    """Over if any is, else unknown if any is, else ok."""
    found = {one.verdict for one in verdicts}
    return "over" if "over" in found else "unknown" if "unknown" in found else "ok"


def judged(profile: Profile, limits: Limits) -> Profile:
    """The profile with its verdict; as it is without limits."""
    if not limits.any:
        return profile
    found = budgets(profile, limits)
    return profile.model_copy(update={"budgets": found, "verdict": overall(found)})
