"""Fits what a target draws to measured energies."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edgekit.profiling.energy import demands, energy_j
from edgekit.profiling.fit import residuals as stats
from edgekit.profiling.fit.costs import fit_costs, prediction_error
from edgekit.profiling.fit.fitted import rounded
from edgekit.profiling.fit.least_squares import non_negative
from edgekit.profiling.fit.residuals import Residual
from edgekit.profiling.fit.samples import Sample, predict
from edgekit.schema.fitting import FitSpec
from edgekit.schema.names import Precision
from edgekit.schema.power import ActivePower, PowerClass, Spread
from edgekit.schema.target import PredictionError, Target

Feature = PowerClass | Literal["mac", "byte", "inference"]
_CLASSES: tuple[PowerClass, ...] = get_args(PowerClass)
_ALL: tuple[Feature, ...] = _CLASSES
_SETS: tuple[tuple[tuple[Feature, ...], ...], ...] = (
    (_ALL,),
    (_ALL, ("mac",)),
    (_ALL, ("byte",)),
    (_ALL, ("inference",)),
    (("matrix", "depthwise"), ("other",)),
    (("matrix",), ("depthwise",), ("other",)),
    (_ALL, ("mac",), ("byte",)),
    (("matrix",), ("depthwise",), ("other",), ("byte",)),
)
"""Features that share one cost; which set is fitted is found by leaving models out."""

_MODELS_A_COST = 2
_FEWEST = 2  # models that power can be fitted to


@dataclass(frozen=True)
class EnergyResiduals:
    """Measured over predicted, with each model, or each family, left out of all fits.

    Attributes:
        energy: with each model left out.
        family: of energy, with each family left out; empty with one family.
        power: average power with each model left out: energy over latency.
    """

    energy: tuple[Residual, ...]
    family: tuple[Residual, ...]
    power: tuple[Residual, ...]

    @property
    def error(self) -> PredictionError | None:
        """The error and the intervals of energies; None with too few models to tell."""
        return prediction_error(self.energy, self.family)


def power_spread(residuals: Sequence[Residual]) -> Spread | None:
    """The interval of average power; None with too few models to tell."""
    if prediction_error(residuals, ()) is None:
        return None
    low, high = stats.interval([r.ratio for r in residuals])
    method = f"10th to 90th percentile of {stats.method(len(residuals))}"
    return Spread(low=rounded(low), high=rounded(high), method=method)


def fit_power(samples: Sequence[Sample], target: Target) -> Target:
    """The target with power above idle by class of operators, fitted to measured energies.

    For each processor and precision: energy = idle power (known) * measured latency + sum of power
    * time by class of operators + energy a multiply-accumulate, a DRAM byte and an inference, with
    non-negative coefficients of least relative error. Time by class is the share that the latency
    model gives it of the measured latency. Which coefficients are free is chosen by leaving models
    out in turn. Without energies, or without a known idle power, the target is returned as it is.

    Args:
        samples: those with an energy are used; each counts for where most of its work is.
        target: with fitted latency costs.
    """
    if target.power is None:
        return target
    groups: dict[tuple[str, Precision], list[_Row]] = defaultdict(list)
    for measured in samples:
        if measured.energy_j:
            row = _row(measured, measured.energy_j, target)
            groups[row.processor, row.precision].append(row)
    operators = {name: dict(known) for name, known in target.power.operators.items()}
    average: dict[str, list[float]] = defaultdict(list)
    for (name, precision), rows in groups.items():
        if len({row.model for row in rows}) < _FEWEST:
            continue
        operators.setdefault(name, {})[precision] = _active_power(rows, target, name, precision)
        average[name] += [row.watts for row in rows]
    if not average:
        return target
    active = {name: rounded(float(np.median(own))) for name, own in average.items()}
    power = target.power.model_copy(
        update={
            "active_w": {**target.power.active_w, **active},
            "operators": operators,
            # Of the same measurements, fitted for all operators alike: `operators` takes its place.
            "pj_per_mac": 0.0,
        }
    )
    return target.model_copy(update={"power": power})


@dataclass(frozen=True)
class _Row:
    model: str
    processor: str
    precision: Precision
    energy_j: float
    above_idle_j: float
    watts: float
    amounts: Mapping[Feature, float]


def _row(measured: Sample, energy: float, target: Target) -> _Row:
    """One energy, and what it is made of: seconds by class at the measured latency, and amounts."""
    result = predict(measured, target)
    does = demands(result, measured.loads, measured.placed, target)
    name, precision = max(does, key=lambda key: does[key].macs)
    scale = measured.latency_s / result.seconds
    amounts: dict[Feature, float] = defaultdict(float, {"inference": 1.0})
    for demand in does.values():
        for kind, seconds in demand.seconds.items():
            amounts[kind] += seconds * scale
        amounts["mac"] += demand.macs
        amounts["byte"] += demand.dram_bytes
    idle_w = target.power.idle_w if target.power else 0.0
    above = energy - idle_w * measured.latency_s
    return _Row(
        measured.model,
        name,
        precision,
        energy,
        above,
        max(above / measured.latency_s, 0.0),
        amounts,
    )


def _active_power(
    rows: Sequence[_Row], target: Target, processor: str, precision: Precision
) -> ActivePower:
    chosen = _choose(rows)
    found = {
        feature: float(value)
        for group, value in zip(chosen, _solve(chosen, rows), strict=True)
        for feature in group
    }
    fits = [f for f in target.fit if (f.processor, f.precision) == (processor, precision)]
    known = target.power.operators.get(processor, {}).get(precision) if target.power else None
    return ActivePower(
        origin=fits[0].origin if fits else "fitted",
        source=known.source if known else fits[0].source if fits else None,
        measurements=len(rows),
        w={kind: rounded(found[kind]) for kind in _CLASSES},
        pj_per_mac=rounded(found.get("mac", 0.0) * 1e12),
        pj_per_byte=rounded(found.get("byte", 0.0) * 1e12),
        mj_per_inference=rounded(found.get("inference", 0.0) * 1e3),
    )


def _choose(rows: Sequence[_Row]) -> tuple[tuple[Feature, ...], ...]:
    """The set that predicts best when each model is left out in turn."""
    models = dict.fromkeys(row.model for row in rows)
    most = max(1, len(models) // _MODELS_A_COST)

    def score(groups: tuple[tuple[Feature, ...], ...]) -> float:
        errors = []
        for model in models:
            rest = [row for row in rows if row.model != model]
            held = [row for row in rows if row.model == model]
            matrix, wanted = _system(groups, held)
            errors += np.abs(matrix @ _solve(groups, rest) - wanted).tolist()
        return math.fsum(errors)

    small = [groups for groups in _SETS if len(groups) <= most]
    return small[0] if len(small) == 1 else min(small, key=score)


def _system(
    groups: Sequence[Sequence[Feature]], rows: Sequence[_Row]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shares of the measured energy by group, at one unit each, and those wanted."""
    matrix = [[sum(row.amounts.get(f, 0.0) for f in group) for group in groups] for row in rows]
    energy = np.array([row.energy_j for row in rows])
    wanted = np.array([row.above_idle_j for row in rows])
    return np.array(matrix, dtype=np.float64) / energy[:, None], wanted / energy


def _solve(groups: Sequence[Sequence[Feature]], rows: Sequence[_Row]) -> NDArray[np.float64]:
    return non_negative(*_system(groups, rows))


def energy_residuals(
    samples: Sequence[Sample],
    target: Target,
    spec: FitSpec,
    *,
    prior: Sequence[Sequence[Sample]] = (),
) -> EnergyResiduals:
    """What energies are off by, each model, and each family, left out of both fits.

    Args:
        samples: those with an energy are used.
        target: with an idle power.
        spec: what to fit latency with.
        prior: as for `edgekit.profiling.fit.fit_costs`.
    """
    measured = [s for s in samples if s.energy_j]
    if target.power is None:
        return EnergyResiduals((), (), ())

    def left_out(key: Callable[[Sample], str]) -> tuple[list[Residual], list[Residual]]:
        energy, power = [], []
        for tag in dict.fromkeys(map(key, measured)):
            seen = [s for s in measured if key(s) != tag]
            if len({s.model for s in seen}) < _FEWEST:
                continue
            others = [[s for s in board if key(s) != tag] for board in prior]
            costs = fit_costs(seen, target, spec, prior=list(filter(None, others)), validate=False)
            fitted = fit_power(seen, costs.target)
            for held in measured:
                if key(held) != tag or not held.energy_j or fitted.power is None:
                    continue
                result = predict(held, fitted)
                does = demands(result, held.loads, held.placed, fitted)
                ratio = held.energy_j / energy_j(result, does, fitted.power)
                slower = held.latency_s / result.seconds
                energy.append(Residual(held.model, held.family, ratio))
                power.append(Residual(held.model, held.family, ratio / slower))
        return energy, power

    energy, power = left_out(lambda s: s.model)
    several = len({s.family for s in measured}) > 1
    by_family = left_out(lambda s: s.family)[0] if several else []
    return EnergyResiduals(tuple(energy), tuple(by_family), tuple(power))


def energy_error(
    samples: Sequence[Sample],
    target: Target,
    spec: FitSpec,
    *,
    prior: Sequence[Sequence[Sample]] = (),
) -> PredictionError | None:
    """How far predicted energies are from measured ones; None with too few to tell."""
    return energy_residuals(samples, target, spec, prior=prior).error
