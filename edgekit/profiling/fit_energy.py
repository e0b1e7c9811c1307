"""Fits a target's power to measured energies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.profiling.estimate import energy_j
from edgekit.profiling.fit import (
    Sample,
    fit_costs,
    predict,
    prediction_error,
    rounded,
)
from edgekit.profiling.least_squares import non_negative
from edgekit.profiling.residuals import Residual
from edgekit.schema.target import FitSpec, PredictionError, Target


def fit_power(samples: Sequence[Sample], target: Target) -> Target:
    """The target with active power and energy per multiply-accumulate of measured energies.

    Energy of a sample is idle power (known) times its measured latency, plus active power times
    latency, plus energy per multiply-accumulate: the last two are fitted. Without energies, or
    without a known idle power, the target is returned as it is.
    """
    measured = [s for s in samples if s.energy_j]
    if not measured or target.power is None:
        return target
    energy = np.array([s.energy_j for s in measured], dtype=np.float64)
    latency = np.array([s.latency_s for s in measured])
    macs = np.array([sum(work.macs for work in s.loads) for s in measured], dtype=np.float64)
    wanted = 1 - target.power.idle_w * latency / energy
    watts, per_mac = non_negative(np.stack([latency / energy, macs / energy], axis=1), wanted)
    power = target.power.model_copy(
        update={
            "active_w": {**target.power.active_w, target.processors[0].name: rounded(watts)},
            "pj_per_mac": rounded(per_mac * 1e12),
        }
    )
    return target.model_copy(update={"power": power})


def energy_residuals(
    samples: Sequence[Sample],
    target: Target,
    spec: FitSpec,
    *,
    prior: Sequence[Sequence[Sample]] = (),
) -> tuple[list[Residual], list[Residual]]:
    """Measured over predicted energy, each model, and each family, left out of both fits."""
    measured = [s for s in samples if s.energy_j]
    if target.power is None:
        return [], []

    def left_out(tags: Sequence[str]) -> list[Residual]:
        found = []
        for tag in dict.fromkeys(tags):
            seen = [s for s, own in zip(measured, tags, strict=True) if own != tag]
            if len({s.model for s in seen}) < 2:
                continue
            costs = fit_costs(seen, target, spec, prior=prior, validate=False)
            fitted = fit_power(seen, costs.target)
            for held, own in zip(measured, tags, strict=True):
                if own == tag and held.energy_j:
                    joules = energy_j(predict(held, fitted), fitted) or 0.0
                    found.append(Residual(held.model, held.family, held.energy_j / joules))
        return found

    families = [s.family for s in measured]
    by_family = left_out(families) if len(set(families)) > 1 else []
    return left_out([s.model for s in measured]), by_family


def energy_error(
    samples: Sequence[Sample],
    target: Target,
    spec: FitSpec,
    *,
    prior: Sequence[Sequence[Sample]] = (),
) -> PredictionError | None:
    """How far predicted energies are from measured ones; None with too few to tell.

    Args:
        samples: those with an energy are used.
        target: with an idle power.
        spec: what to fit.
        prior: as for `edgekit.profiling.fit.fit_costs`.
    """
    borrowed = sum(len(board) for board in prior)
    return prediction_error(
        *energy_residuals(samples, target, spec, prior=prior), borrowed=borrowed
    )
