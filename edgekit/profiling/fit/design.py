"""The equations of a fit: what samples have of each term, and the costs that solve them.

Where a board has few measurements, those of the same runtime on other boards (the prior) join the
fit, each board with a speed of its own: kernels are the same, so costs relate to each other alike.
Or the prior pulls its costs: they stay near those of all boards together where its own measurements
do not tell them apart, as with a family of networks left out.
Boards with the same processor behind other links share its costs, and have links of their own.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekit.profiling.cost import kernel_terms
from edgekit.profiling.dataflow import occupancy
from edgekit.profiling.estimate import crossing_bytes, inference_terms, streamed_bytes
from edgekit.profiling.fit.fitted import with_costs
from edgekit.profiling.fit.least_squares import non_negative
from edgekit.profiling.fit.parameters import Parameter, ParameterSet
from edgekit.profiling.fit.samples import Sample, predict
from edgekit.schema.fitting import FitSpec
from edgekit.schema.target import Target

_SPEED_ROUNDS = 10
_USED = 0.8  # of a link's most by its standard, which protocols leave for data
_PLENTY = 1.5  # models a cost: with so many there is no need to choose fewer costs
_TIE = 0.2  # weight of a tie beside a measurement: errors of 5% against 25%


@dataclass(frozen=True)
class Design:
    """What a fit needs of its samples, its own ones first, then those of the prior.

    Attributes:
        models: name by sample.
        boards: number by sample; 0 is the target itself.
        amounts: of each term by sample.
        latency: in seconds.
        known: latency without the other processors' time.
        macs: multiply-accumulates by sample.
        link: seconds a byte that the target's link is expected to take; None: nothing is known.
    """

    models: tuple[str, ...]
    boards: NDArray[np.int_]
    amounts: tuple[Mapping[Parameter, float], ...]
    latency: NDArray[np.float64]
    known: NDArray[np.float64]
    macs: NDArray[np.float64]
    link: float | None = None

    @classmethod
    def of(
        cls,
        samples: Sequence[Sample],
        target: Target,
        spec: FitSpec,
        prior: Sequence[Sequence[Sample]],
    ) -> Design:
        """The equations of samples; `prior` as for `edgekit.profiling.fit.costs.fit_costs`."""
        together = [(number, s) for number, board in enumerate((samples, *prior)) for s in board]
        latency = np.array([s.latency_s for _, s in together])
        rest = np.array([_elsewhere(s, target, spec) for _, s in together])
        return cls(
            models=tuple(s.model for _, s in together),
            boards=np.array([number for number, _ in together]),
            amounts=tuple(_amounts(s, target, spec) for _, s in together),
            latency=latency,
            known=latency - rest,
            macs=np.array([float(s.view.graph.macs) for _, s in together]),
            link=_expected_link(target, spec.processor),
        )

    def without(self, models: Collection[str]) -> Design:
        """The same without some models of the prior."""
        keep = [
            i for i, b in enumerate(self.boards.tolist()) if not b or self.models[i] not in models
        ]
        return Design(
            models=tuple(self.models[i] for i in keep),
            boards=np.unique(self.boards[keep], return_inverse=True)[1],
            amounts=tuple(self.amounts[i] for i in keep),
            latency=self.latency[keep],
            known=self.known[keep],
            macs=self.macs[keep],
            link=self.link,
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
        own = len(rows)
        rows = self.with_prior(rows)
        matrix, wanted = self.system(parameters, rows)
        boards = self.boards[rows]
        rates = self.macs[rows] / self.latency[rows]
        if self.link and "link" in parameters.terms:
            row = np.zeros((1, matrix.shape[1]))
            row[0, parameters.group("link")] = _TIE / self.link
            matrix, wanted = np.concatenate([matrix, row]), np.append(wanted, _TIE)
            boards, rates = np.append(boards, 0), np.append(rates, np.median(rates))
        if not boards.any():
            return _solved(parameters, matrix, wanted, rates)
        if parameters.own:
            apart = _apart(parameters, matrix, boards)
            return _solved(parameters, apart, wanted, rates)[: matrix.shape[1]]
        # Speeds relative to the target: first by multiply-accumulates, then with the costs.
        pace = np.log(rates)
        speeds = np.array([math.exp(pace[boards == b].mean() - pace[boards == 0].mean())
                           for b in range(boards.max() + 1)])  # fmt: skip
        for _ in range(_SPEED_ROUNDS):
            scaled = matrix / speeds[boards, None]
            solution = _solved(parameters, scaled, wanted, rates / speeds[boards])
            share = matrix @ solution / wanted
            for b in range(len(speeds)):
                part = share[boards == b]
                speeds[b] = max(float((part**2).sum()) / max(float(part.sum()), 1e-300), 1e-300)
        together = np.asarray(solution / speeds[0])
        if not parameters.pull:
            return together
        pull = parameters.pull * np.diag(scaled.mean(axis=0) * speeds[0])
        return _solved(
            parameters,
            np.concatenate([matrix[:own], pull]),
            np.concatenate([wanted[:own], pull @ together]),
            rates[:own],
        )


def _apart(
    parameters: ParameterSet, matrix: NDArray[np.float64], boards: NDArray[np.int_]
) -> NDArray[np.float64]:
    """The columns of the target, then those of the other boards' own costs."""
    own = [parameters.group(term) for term in parameters.own]
    others = [matrix[:, own] * (boards == b)[:, None] for b in range(1, boards.max() + 1)]
    first = matrix.copy()
    first[np.ix_(np.flatnonzero(boards > 0), np.array(own, np.intp))] = 0.0
    return np.concatenate([first, *others], axis=1)


def _solved(
    parameters: ParameterSet,
    matrix: NDArray[np.float64],
    wanted: NDArray[np.float64],
    rates: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Seconds a unit by group; `rates` are multiply-accumulates a second by sample.

    A tie is a row for as many multiply-accumulates as the median network computes in a second.
    """
    ties = np.zeros((len(parameters.ties), matrix.shape[1]))
    for row, tie in zip(ties, parameters.ties, strict=True):
        row[parameters.group(tie.term)] = 1.0
        row[parameters.group(tie.other)] = -tie.ratio
    ties *= _TIE * float(np.median(rates))
    return non_negative(
        np.concatenate([matrix, ties]),
        np.concatenate([wanted, np.zeros(len(ties))]),
        robust=parameters.robust,
        small_error=parameters.repeats,
    )


def best_costs(
    design: Design, sets: Sequence[ParameterSet], rows: NDArray[np.int_]
) -> tuple[ParameterSet, Mapping[Parameter, float]]:
    """The best set, and the seconds a unit of its terms that the samples in `rows` have."""
    seen = design.with_prior(rows)
    distinct = len({design.models[i] for i in seen.tolist()})

    def known(parameters: ParameterSet) -> int:
        # One network on several boards says more than on one where those only pull.
        return len(seen) if parameters.pull else distinct

    small = [s for s in sets if s.size < known(s)] or [min(sets, key=lambda s: s.size)]
    best = small[0]
    if len(small) > 1 and known(best) < _PLENTY * best.size:
        best = min(small, key=lambda s: _score(design, s, rows))
    met = {term for i in seen.tolist() for term, amount in design.amounts[i].items() if amount}
    met.update(tie.term for tie in best.ties)
    return best, {
        term: float(value)
        for group, value in zip(best.groups, design.solve(best, rows), strict=True)
        for term in group
        if met.intersection(group)
    }


def _score(design: Design, parameters: ParameterSet, rows: NDArray[np.int_]) -> float:
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


def _amounts(measured: Sample, target: Target, spec: FitSpec) -> Mapping[Parameter, float]:
    """Amounts of each term in one inference, on the processor that is fitted."""
    cores = measured.cores or spec.cores
    totals: dict[Parameter, float] = defaultdict(float)
    totals.update(inference_terms(measured.view.graph).items())
    hardware = next(p for p in target.processors if p.name == spec.processor)
    graph, loads, placed = measured.view.graph, measured.loads, measured.placed
    occupied = occupancy(loads, placed, hardware)
    cycles = occupied.cycles(graph)
    for index, (work, where) in enumerate(zip(loads, placed, strict=True)):
        if where.where == spec.processor:
            terms = kernel_terms(
                work,
                switched=occupied.switched,
                cycles=cycles.get(index, 0.0),
                resident_bytes=hardware.resident_bytes,
                cores=cores,
            )
            for name, amount in terms.items():
                totals[name] += amount
    if hardware.link:
        totals["link"] = float(
            streamed_bytes(measured.view, occupied) + crossing_bytes(graph, occupied)
        )
    return totals


def _expected_link(target: Target, processor: str) -> float | None:
    """Seconds a byte of a link that carries four fifths of what its standard allows."""
    link = next(p for p in target.processors if p.name == processor).link
    return 1e-9 / (_USED * link.most_gb_per_s) if link and link.most_gb_per_s else None


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
