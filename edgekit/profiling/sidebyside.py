"""Files on targets side by side: profiles with budgets, a day's use, and what changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from edgekit.base.errors import InputError, did_you_mean
from edgekit.base.progress import Progress, silent
from edgekit.graph.read import read_graph
from edgekit.profiling.budgets import Limits, judged
from edgekit.profiling.comparison import compare
from edgekit.profiling.compiled import compiled_alone
from edgekit.profiling.energy import SECONDS_PER_DAY, usage
from edgekit.profiling.profile import Subject, profile_subject
from edgekit.schema.power import Vehicle
from edgekit.schema.results import Profile, ProfileReport
from edgekit.schema.target import Target


@dataclass(frozen=True)
class Wanted:
    """What is asked of each profile.

    Attributes:
        limits: budgets.
        per_day: inferences a day, for energy a day and battery life; None: not asked.
        battery_wh: usable energy of a battery; None: not asked.
        sleep_mw: power between inferences in place of the target's, for devices that sleep.
        vehicle: fields of `Vehicle` in place of the target's, as KEY=VALUE.
    """

    limits: Limits = field(default_factory=Limits)
    per_day: float | None = None
    battery_wh: float | None = None
    sleep_mw: float | None = None
    vehicle: Sequence[str] = ()


def per_day(*, inferences: float | None, rate_hz: float | None) -> float | None:
    """Inferences a day, given as such or as a rate.

    Raises:
        InputError: both are given, or one is not above zero.
    """
    if inferences is not None and rate_hz is not None:
        raise InputError("give --inferences-per-day or --rate, not both")
    given = inferences if rate_hz is None else rate_hz
    if given is not None and not 0 < given < math.inf:
        raise InputError(f"a rate of inferences is a number above zero, not {given:g}")
    return inferences if rate_hz is None else rate_hz * SECONDS_PER_DAY


def profile_files(
    paths: Sequence[Path],
    targets: Sequence[Target],
    wanted: Wanted | None = None,
    *,
    progress: Progress = silent,
) -> ProfileReport:
    """Profiles files on targets, and compares each further file with the first.

    Args:
        paths: model files.
        targets: where they may run.
        wanted: budgets, and conditions of use.
        progress: told of each target whose compiler is asked.

    Raises:
        ModelFileError: a file is corrupt or of an unknown kind.
        MissingDependencyError: the reader of its format is not installed.
        InputError: a battery is asked for without a rate, a field of the vehicle is wrong, or two
            targets have one name.
    """
    wanted = wanted or Wanted()
    _check(wanted)
    _told_apart(targets)
    targets = [with_vehicle(target, wanted.vehicle) for target in targets]
    if wanted.vehicle and all(target.vehicle is None for target in targets):
        raise InputError("--vehicle needs a target that is a drone", where="--vehicle")
    found = []
    for path in paths:
        subject = Subject(read_graph(path), path.name, path)
        row = []
        for number, target in enumerate(targets):
            if compiled_alone(target, subject.view.graph.format):
                progress(f"compiling for {target.name}", number, len(targets))
            row.append(_profile(subject, target, wanted))
        found.append(row)
    first, *others = found
    return ProfileReport(
        profiles=tuple(profile for row in found for profile in row),
        comparisons=tuple(
            compare(base, profile, target)
            for row in others
            for base, profile, target in zip(first, row, targets, strict=True)
        ),
    )


def _check(wanted: Wanted) -> None:
    if wanted.per_day is None and (wanted.battery_wh, wanted.sleep_mw) != (None, None):
        raise InputError(
            "battery life and sleep need a rate of inferences",
            hint="add --rate HZ or --inferences-per-day N",
        )
    if wanted.battery_wh is not None and not 0 < wanted.battery_wh < math.inf:
        raise InputError(f"a battery holds more than nothing, not {wanted.battery_wh:g} Wh")
    if wanted.sleep_mw is not None and not 0 <= wanted.sleep_mw < math.inf:
        raise InputError(f"asleep a device draws at least nothing, not {wanted.sleep_mw:g} mW")


def _told_apart(targets: Sequence[Target]) -> None:
    known: dict[str, Target] = {}
    for target in targets:
        if known.setdefault(target.name, target) != target:
            raise InputError(
                f"two different targets are named '{target.name}'",
                where="--target",
                hint="change 'name' in the file of one: figures are told apart by it",
            )


def _profile(subject: Subject, target: Target, wanted: Wanted) -> Profile:
    profile = judged(profile_subject(subject, target), wanted.limits)
    if wanted.per_day is None:
        return profile
    power = target.power
    if power is not None and wanted.sleep_mw is not None:
        power = power.model_copy(update={"sleep_w": wanted.sleep_mw * 1e-3})
    used = usage(
        profile.latency_ms,
        profile.energy_mj,
        power,
        per_day=wanted.per_day,
        battery_wh=wanted.battery_wh,
    )
    return profile.model_copy(update={"usage": used})


def with_vehicle(target: Target, fields: Sequence[str]) -> Target:
    """The target with fields of its vehicle replaced; as it is if it is no drone.

    Args:
        target: any.
        fields: KEY=VALUE, the keys of `Vehicle`.

    Raises:
        InputError: a field is unknown, or its value is wrong.
    """
    if target.vehicle is None or not fields:
        return target
    document = target.vehicle.model_dump()
    for text in fields:
        key, _, value = text.partition("=")
        if key not in Vehicle.model_fields or not value:
            raise InputError(
                f"'{text}' is not KEY=VALUE", where="--vehicle",
                hint=did_you_mean(key, Vehicle.model_fields),
            )  # fmt: skip
        document[key] = value
    try:
        vehicle = Vehicle.model_validate(document, strict=False)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"{first['msg']}, found '{first['input']}'",
            where=f"--vehicle {'.'.join(map(str, first['loc']))}",
        ) from error
    return target.model_copy(update={"vehicle": vehicle})
