"""Fits a target's costs to measurements, and finds how far its predictions are off.

Costs are non-negative (Lawson and Hanson 1974) with the least relative error. The error is that of
networks which the fit had not seen: each model, and each family of models, is left out in turn,
and everything is fitted anew without it, the choice of parameters included.

Where a board has few measurements, those of the same runtime on other boards (the prior) join the
fit, each board with a speed of its own: kernels are the same, so costs relate to each other alike.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.base.errors import TargetError, did_you_mean
from edgekit.graph.types import Graph
from edgekit.profiling.cost import kernel_terms
from edgekit.profiling.estimate import Estimate, crossing_bytes, estimate, streamed_bytes
from edgekit.profiling.fit import residuals as stats
from edgekit.profiling.fit.least_squares import non_negative
from edgekit.profiling.fit.parameters import PARAMETERS, Parameter, ParameterSet
from edgekit.profiling.fit.residuals import Residual
from edgekit.profiling.placement import OpPlacement, place
from edgekit.profiling.view import GraphView
from edgekit.profiling.work import Work, works
from edgekit.schema.target import FitSpec, KernelCosts, PredictionError, Target, Term

_FEWEST = 3  # models: fewer tell nothing about the next
_SPEED_ROUNDS = 10
_PLENTY = 1.5  # models a cost: with so many there is no need to choose fewer costs


@dataclass(frozen=True)
class Sample:
    """A measured network: its structure placed on the target, and the measurement.

    Attributes:
        model: its name; what is left out together.
        family: name of its family.
        latency_s: of one inference, in seconds.
        energy_j: of one inference, in joules, over the scope of the target's power; None: unknown.
    """

    model: str
    family: str
    view: GraphView
    loads: tuple[Work, ...]
    placed: tuple[OpPlacement, ...]
    latency_s: float
    energy_j: float | None = None


def sample(
    graph: Graph,
    target: Target,
    *,
    model: str,
    family: str,
    latency_s: float,
    energy_j: float | None = None,
    processor: str | None = None,
) -> Sample:
    """Places a measured network on a target.

    Args:
        graph: the structure of the network.
        target: where it was measured.
        model: its name.
        family: name of its family.
        latency_s: of one inference, in seconds.
        energy_j: of one inference, in joules.
        processor: the only one that it ran on; None: as the target places it.
    """
    view = GraphView(graph)
    placed = (
        tuple(OpPlacement(processor) for _ in graph.ops)
        if processor
        else tuple(place(view, target))
    )
    return Sample(model, family, view, tuple(works(view)), placed, latency_s, energy_j)


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
    low, high = stats.interval([r.ratio for r in by_model])
    unseen = stats.unseen_interval(by_model, by_family)
    return PredictionError(
        median_pct=rounded(stats.median_pct(by_model)),
        p90_pct=rounded(stats.p90_pct(by_model)),
        low=rounded(low),
        high=rounded(high),
        coverage_pct=rounded(stats.coverage_pct(by_model)),
        family_median_pct=rounded(stats.median_pct(by_family)) if by_family else None,
        family_p90_pct=rounded(stats.p90_pct(by_family)) if by_family else None,
        unseen_low=rounded(unseen[0]),
        unseen_high=rounded(unseen[1]),
        elsewhere_median_pct=rounded(stats.median_pct(elsewhere)) if elsewhere else None,
        elsewhere_p90_pct=rounded(stats.p90_pct(elsewhere)) if elsewhere else None,
        models=models,
        method=stats.method(len(by_model))
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
    design = _Design.of(samples, target, spec, prior)
    families = PARAMETERS[spec.parameters]
    everything = np.arange(len(samples))
    chosen, solution = _solve(design, families, everything)

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
            fitted = with_costs(target, spec, _solve(left, families, seen)[1], samples)
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


def predict(measured: Sample, target: Target) -> Estimate:
    """The target's estimate of a sample.

    Raises:
        TargetError: it cannot run there.
    """
    result = estimate(measured.view, measured.loads, measured.placed, target)
    if isinstance(result, str):
        raise TargetError(f"{target.name}: {measured.model}: {result}")
    return result


@dataclass(frozen=True)
class _Design:
    """What a fit needs of its samples, its own ones first, then those of the prior.

    Attributes:
        models: name by sample.
        boards: number by sample; 0 is the target itself.
        amounts: of each term by sample.
        latency: in seconds.
        known: latency without the other processors' time.
        macs: multiply-accumulates by sample.
    """

    models: tuple[str, ...]
    boards: NDArray[np.int_]
    amounts: tuple[Mapping[Parameter, float], ...]
    latency: NDArray[np.float64]
    known: NDArray[np.float64]
    macs: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        samples: Sequence[Sample],
        target: Target,
        spec: FitSpec,
        prior: Sequence[Sequence[Sample]],
    ) -> _Design:
        together = [(number, s) for number, board in enumerate((samples, *prior)) for s in board]
        latency = np.array([s.latency_s for _, s in together])
        rest = np.array([_elsewhere(s, target, spec) for _, s in together])
        return cls(
            models=tuple(s.model for _, s in together),
            boards=np.array([number for number, _ in together]),
            amounts=tuple(_amounts(s, target, spec.processor) for _, s in together),
            latency=latency,
            known=latency - rest,
            macs=np.array([float(s.view.graph.macs) for _, s in together]),
        )

    def without(self, models: Collection[str]) -> _Design:
        """The same without some models of the prior."""
        keep = [
            i for i, b in enumerate(self.boards.tolist()) if not b or self.models[i] not in models
        ]
        return _Design(
            models=tuple(self.models[i] for i in keep),
            boards=np.unique(self.boards[keep], return_inverse=True)[1],
            amounts=tuple(self.amounts[i] for i in keep),
            latency=self.latency[keep],
            known=self.known[keep],
            macs=self.macs[keep],
        )

    def with_prior(self, rows: NDArray[np.int_]) -> NDArray[np.int_]:
        """Own rows, and all of the prior."""
        return np.concatenate([rows, np.flatnonzero(self.boards > 0)])

    def system(
        self, parameters: ParameterSet, rows: NDArray[np.int_]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Shares of the measured latency by group (at one second a unit), and those wanted."""
        matrix = [
            [sum(self.amounts[i].get(term, 0.0) for term in group) for group in parameters.groups]
            for i in rows.tolist()
        ]
        return np.array(matrix) / self.latency[rows, None], self.known[rows] / self.latency[rows]

    def solve(self, parameters: ParameterSet, rows: NDArray[np.int_]) -> NDArray[np.float64]:
        """Seconds a unit by group, on the board of the target."""
        rows = self.with_prior(rows)
        matrix, wanted = self.system(parameters, rows)
        boards = self.boards[rows]
        if not boards.any():
            return non_negative(matrix, wanted, robust=parameters.robust)
        # Speeds relative to the target: first by multiply-accumulates, then with the costs.
        pace = np.log(self.macs[rows] / self.latency[rows])
        speeds = np.array([math.exp(pace[boards == b].mean() - pace[boards == 0].mean())
                           for b in range(boards.max() + 1)])  # fmt: skip
        for _ in range(_SPEED_ROUNDS):
            scaled = matrix / speeds[boards, None]
            solution = non_negative(scaled, wanted, robust=parameters.robust)
            share = matrix @ solution / wanted
            for b in range(len(speeds)):
                own = share[boards == b]
                speeds[b] = max(float((own**2).sum()) / max(float(own.sum()), 1e-300), 1e-300)
        return np.asarray(solution / speeds[0])


def _solve(
    design: _Design, sets: Sequence[ParameterSet], rows: NDArray[np.int_]
) -> tuple[ParameterSet, Mapping[Parameter, float]]:
    """The best set, and the seconds a unit of its terms that the samples in `rows` have."""
    seen = design.with_prior(rows)
    distinct = len({design.models[i] for i in seen.tolist()})
    small = [s for s in sets if s.size < distinct] or [min(sets, key=lambda s: s.size)]
    best = small[0]
    if len(small) > 1 and distinct < _PLENTY * best.size:
        best = min(small, key=lambda s: _score(design, s, rows))
    met = {term for i in seen.tolist() for term, amount in design.amounts[i].items() if amount}
    return best, {
        term: float(value)
        for group, value in zip(best.groups, design.solve(best, rows), strict=True)
        for term in group
        if met.intersection(group)
    }


def _score(design: _Design, parameters: ParameterSet, rows: NDArray[np.int_]) -> float:
    """Mean relative error of each model predicted from the others."""
    models = np.array([design.models[i] for i in rows.tolist()])
    total = 0.0
    for model in dict.fromkeys(models.tolist()):
        held = rows[models == model]
        rest = rows[models != model]
        if not len(rest):
            return math.inf
        matrix, wanted = design.system(parameters, held)
        solution = design.without({model}).solve(parameters, rest)
        total += float(np.abs(matrix @ solution - wanted).sum())
    return total / len(rows)


def _amounts(measured: Sample, target: Target, processor: str) -> Mapping[Parameter, float]:
    """Amounts of each term in one inference, on one processor."""
    totals: dict[Parameter, float] = defaultdict(float, {"inference": 1.0})
    for work, where in zip(measured.loads, measured.placed, strict=True):
        if where.where == processor:
            for name, amount in kernel_terms(work).items():
                totals[name] += amount
    hardware = next(p for p in target.processors if p.name == processor)
    if hardware.link:
        totals["link"] = float(
            streamed_bytes(measured.view, measured.loads, measured.placed, hardware)
            + crossing_bytes(measured.view.graph, measured.placed, processor)
        )
    return totals


def _elsewhere(measured: Sample, target: Target, spec: FitSpec) -> float:
    """Seconds that the sample spends on the target's other processors."""
    if all(where.where == spec.processor for where in measured.placed):
        return 0.0
    result = predict(measured, with_costs(target, spec, {}, [measured]))
    return sum(
        time.seconds
        for time, where in zip(result.ops, measured.placed, strict=True)
        if where.where != spec.processor
    )


def with_costs(
    target: Target, spec: FitSpec, solution: Mapping[Parameter, float], samples: Sequence[Sample]
) -> Target:
    """The target with fitted costs, in seconds a unit, and with what the fit saw."""
    seen = {
        work.kind
        for measured in samples
        for work, where in zip(measured.loads, measured.placed, strict=True)
        if where.where == spec.processor and not work.free
    }
    sizes = [measured.view.graph.macs for measured in samples]
    ns: dict[Term, float] = {
        term: rounded(value * 1e9) for term, value in solution.items() if term != "link"
    }
    costs = KernelCosts(
        origin=spec.origin,
        source=spec.source,
        measurements=len(samples),
        ns=ns,
        seen=tuple(sorted(seen)),
        seen_macs=(min(sizes), max(sizes)),
    )
    processors = []
    for processor in target.processors:
        if processor.name != spec.processor:
            processors.append(processor)
            continue
        update: dict[str, Any] = {"costs": {**processor.costs, spec.precision: costs}}
        if processor.link and solution.get("link"):
            speed = rounded(1e-9 / solution["link"])
            update["link"] = processor.link.model_copy(
                update={"gb_per_s": speed, "source": spec.source}
            )
        processors.append(processor.model_copy(update=update))
    return target.model_copy(update={"processors": tuple(processors)})


def rounded(value: float) -> float:
    """Four digits: more would not be measured."""
    return float(f"{value:.4g}")
