"""Which board to buy: all targets for one model, those that fit first."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from edgekit.base.errors import EdgekitError, InputError, did_you_mean
from edgekit.base.progress import Progress, silent
from edgekit.graph.read import read_graph
from edgekit.profiling.budgets import Limits, budgets, judge, overall
from edgekit.profiling.compiled import compiled_alone
from edgekit.profiling.memory.fits import Held
from edgekit.profiling.profile import Subject, profile_with_memories
from edgekit.profiling.targets import all_targets
from edgekit.schema.figure import Figure
from edgekit.schema.results import BudgetVerdict, Profile, RankedTarget, Ranking, Verdict
from edgekit.schema.target import Target
from edgekit.schema.units import show_bytes, show_number

Order = Literal["latency", "energy", "memory"]
NOT_COMPILED = "its figures are those of its compiler, which --no-compile leaves out"
_GROUPS: Mapping[Verdict, int] = {"ok": 0, "over": 1, "unknown": 2}


def rank(
    path: Path,
    targets: Sequence[Target],
    limits: Limits,
    *,
    by: Order = "latency",
    compiled: bool = True,
    progress: Progress = silent,
) -> Ranking:
    """Ranks targets: those that keep the budgets and hold the model, by what is asked.

    Then come those that do not, and last those of which too little is known. Targets whose figures
    are a compiler's (half a second and more each) are compiled after the others, as many at a time
    as there are processors.

    Args:
        path: the model file.
        targets: to choose from.
        limits: budgets of an inference.
        by: the figure that they are sorted by.
        compiled: whether to run the compilers.
        progress: told of each target.

    Raises:
        ModelFileError: the file is corrupt or of an unknown kind.
        MissingDependencyError: the reader of its format is not installed.
    """
    subject = Subject(read_graph(path), path.name, path)
    slow = [target for target in targets if compiled_alone(target, subject.view.graph.format)]
    found = {t.name: _ranked(subject, t, limits, by) for t in targets if t not in slow}
    if slow and not compiled:
        for target in slow:
            found[target.name] = _unknown(target, NOT_COMPILED)
    elif slow:
        pool = ThreadPoolExecutor(os.cpu_count())
        try:
            tasks = [pool.submit(_ranked, subject, target, limits, by) for target in slow]
            for number, (target, task) in enumerate(zip(slow, tasks, strict=True)):
                progress(f"compiling for {target.name}", number, len(slow))
                found[target.name] = task.result()
        finally:  # whoever interrupts does not wait for those that have not begun
            pool.shutdown(cancel_futures=True)
    order = sorted(found.values(), key=lambda one: (_GROUPS[one.verdict], _key(one, by)))
    return Ranking(
        artifact=path.name,
        by=by,
        targets=tuple(
            one.model_copy(update={"rank": number}) if one.verdict == "ok" else one
            for number, one in enumerate(order, 1)
        ),
    )


def rank_file(
    name: str | None,
    limits: Limits,
    *,
    device_class: str | None = None,
    by: Order = "latency",
    compiled: bool = True,
    progress: Progress = silent,
) -> Ranking:
    """Ranks the shipped targets for a model file; see `rank`.

    Args:
        name: the file.
        limits: budgets of an inference.
        device_class: only targets of this class; None: all.
        by: the figure that they are sorted by.
        compiled: whether to run the compilers.
        progress: told of each target.

    Raises:
        InputError: no file was named, or no target is of the class.
    """
    if name is None:
        raise InputError("'rank' needs a model file", hint="edgekit targets rank model.tflite")
    targets = all_targets()
    classes = {target.device_class for target in targets}
    if device_class is not None and device_class not in classes:
        raise InputError(
            f"no target is of class '{device_class}'",
            where="--class",
            hint=did_you_mean(device_class, classes),
        )
    chosen = [t for t in targets if device_class in (None, t.device_class)]
    return rank(Path(name), chosen, limits, by=by, compiled=compiled, progress=progress)


def _ranked(subject: Subject, target: Target, limits: Limits, by: Order) -> RankedTarget:
    try:
        profile, memories = profile_with_memories(subject, target)
    except EdgekitError as error:  # one target's compiler does not spoil the answer for the others
        return _unknown(target, error.message)
    held = (*budgets(profile, limits), *_fits(memories))
    asked = _figure(profile, by)
    verdict, reason = overall(held), _reason(held)
    if asked.value is None and verdict != "over":
        verdict, reason = "unknown", asked.reason
    return RankedTarget(
        rank=None,
        target=target.name,
        title=target.title,
        device_class=target.device_class,
        verdict=verdict,
        reason=reason,
        latency_ms=profile.latency_ms,
        energy_mj=profile.energy_mj,
        peak_memory_bytes=profile.peak_memory_bytes,
        placement=profile.placement,
    )


def _unknown(target: Target, reason: str) -> RankedTarget:
    missing = Figure.missing(reason)
    return RankedTarget(
        rank=None, target=target.name, title=target.title, device_class=target.device_class,
        verdict="unknown", reason=reason, latency_ms=missing, energy_mj=missing,
        peak_memory_bytes=missing, placement=None,
    )  # fmt: skip


def _fits(memories: Iterable[Held]) -> list[BudgetVerdict]:
    """The target's own memories, as `edgekit check` holds them against the model."""
    return [judge(f"{one.memory}_bytes", one.needed, one.available) for one in memories]


def _reason(held: Sequence[BudgetVerdict]) -> str | None:
    """Why a verdict is not ok: the budgets that are not kept, else those that are unknown."""
    for verdict in ("over", "unknown"):
        parts = [_broken(one) for one in held if one.verdict == verdict]
        if parts:
            return "; ".join(dict.fromkeys(parts))
    return None


def _broken(one: BudgetVerdict) -> str:
    if one.value is None or one.limit is None:
        return one.reason or "unknown"
    memory = one.budget.endswith("_bytes")
    name, show = (
        (one.budget.removesuffix("_bytes"), show_bytes) if memory else (one.budget, show_number)
    )
    return f"{name} {show(one.value)} > {show(one.limit)}"


def _figure(profile: Profile | RankedTarget, by: Order) -> Figure:
    figures = {
        "latency": profile.latency_ms,
        "energy": profile.energy_mj,
        "memory": profile.peak_memory_bytes,
    }
    return figures[by]


def _key(one: RankedTarget, by: Order) -> tuple[float, str]:
    value = _figure(one, by).value
    return (math.inf if value is None else value, one.target)
