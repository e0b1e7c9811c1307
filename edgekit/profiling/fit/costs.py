"""Fits a target's costs to measurements, and finds how far its predictions are off.

Costs are non-negative (Lawson and Hanson 1974) with the least relative error. The error is that of
networks which the fit had not seen: each model, and each family of models, is left out in turn,
and everything is fitted anew without it, the choice of parameters included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.base.errors import TargetError, did_you_mean
from edgekit.profiling.fit import residuals as stats
from edgekit.profiling.fit.design import Design, best_costs
from edgekit.profiling.fit.fitted import rounded, with_costs
from edgekit.profiling.fit.parameters import PARAMETERS, ParameterSet
from edgekit.profiling.fit.residuals import Residual
from edgekit.profiling.fit.samples import Sample, predict
from edgekit.schema.fitting import FitSpec
from edgekit.schema.target import PredictionError, Target

_FEWEST = 3  # models: fewer tell nothing about the next


@dataclass(frozen=True)
class CostFit:
    """The fitted costs of one processor and precision.

    Attributes:
        target: with the fitted costs.
        parameters: that were free.
        residuals: with each model left out.
        family_residuals: with each family left out; empty with one family.
        elsewhere: with each model left out here, but known from other boards; empty without a
            prior.
    """

    target: Target
    parameters: ParameterSet
    residuals: tuple[Residual, ...]
    family_residuals: tuple[Residual, ...]
    elsewhere: tuple[Residual, ...] = ()

    @property
    def error(self) -> PredictionError | None:
        """The error and the intervals of predictions; None with too few models to tell."""
        return prediction_error(self.residuals, self.family_residuals, self.elsewhere)


def prediction_error(
    by_model: Sequence[Residual],
    by_family: Sequence[Residual],
    elsewhere: Sequence[Residual] = (),
) -> PredictionError | None:
    """The error and the intervals that residuals make; None with too few models to tell.

    Args:
        by_model: with each model left out.
        by_family: with each family left out.
        elsewhere: with each model left out, but known from other boards.
    """
    models = len({r.model for r in by_model})
    if models < _FEWEST:
        return None
    low, high = stats.interval([r.ratio for r in by_model], rounds=stats.ROUNDS)
    unseen = stats.unseen_interval(by_model, by_family)
    return PredictionError(
        median_pct=rounded(stats.median_pct(by_model)),
        p90_pct=rounded(stats.p90_pct(by_model)),
        low=rounded(low),
        high=rounded(high),
        coverage_pct=rounded(stats.coverage_pct(by_model, rounds=stats.ROUNDS)),
        family_median_pct=rounded(stats.median_pct(by_family)) if by_family else None,
        family_p90_pct=rounded(stats.p90_pct(by_family)) if by_family else None,
        unseen_low=rounded(unseen[0]),
        unseen_high=rounded(unseen[1]),
        elsewhere_median_pct=rounded(stats.median_pct(elsewhere)) if elsewhere else None,
        elsewhere_p90_pct=rounded(stats.p90_pct(elsewhere)) if elsewhere else None,
        models=models,
        method=stats.method(len(by_model), rounds=stats.ROUNDS)
        + ("; a model that is left out is left out of all boards" if elsewhere else ""),
    )


def fit_costs(
    samples: Sequence[Sample],
    target: Target,
    spec: FitSpec,
    *,
    prior: Sequence[Sequence[Sample]] = (),
    validate: bool = True,
) -> CostFit:
    """Fits the costs of one processor and precision, and the speed of its link.

    Args:
        samples: measurements of one processor set, precision and round.
        target: the other processors' costs are taken as they are.
        spec: what to fit.
        prior: measurements of the same runtime on other boards, board by board, placed on this
            target.
        validate: whether to leave models and families out in turn; without it there is no error.

    Raises:
        TargetError: the parameters have no such name, there are no samples, or a sample cannot
            run on the target.
        MissingDependencyError: scipy is not installed.
    """
    if spec.parameters not in PARAMETERS:
        raise TargetError(
            f"{target.name}: unknown parameters '{spec.parameters}'",
            hint=did_you_mean(spec.parameters, list(PARAMETERS)),
        )
    if not samples:
        raise TargetError(f"{target.name}: nothing to fit {spec.processor} {spec.precision} to")
    design = Design.of(samples, target, spec, prior)
    families = PARAMETERS[spec.parameters]
    everything = np.arange(len(samples))
    chosen, solution = best_costs(design, families, everything)

    everyone = [s for board in (samples, *prior) for s in board]

    def residuals(key: Callable[[Sample], str], *, elsewhere: bool = False) -> tuple[Residual, ...]:
        tags = np.array([key(s) for s in samples])
        found = []
        for tag in dict.fromkeys(tags):
            seen = np.flatnonzero(tags != tag)
            if len({samples[i].model for i in seen.tolist()}) < _FEWEST - 1:
                continue
            left = design
            if not elsewhere:
                left = design.without({s.model for s in everyone if key(s) == tag})
            fitted = with_costs(target, spec, best_costs(left, families, seen)[1], samples)
            for i in np.flatnonzero(tags == tag).tolist():
                ratio = samples[i].latency_s / predict(samples[i], fitted).seconds
                found.append(Residual(samples[i].model, samples[i].family, ratio))
        return tuple(found)

    by_model = residuals(lambda s: s.model) if validate else ()
    several = validate and len({s.family for s in samples}) > 1
    return CostFit(
        target=with_costs(target, spec, solution, samples),
        parameters=chosen,
        residuals=by_model if len(by_model) == len(samples) else (),
        family_residuals=residuals(lambda s: s.family) if several else (),
        elsewhere=residuals(lambda s: s.model, elsewhere=True) if validate and prior else (),
    )
