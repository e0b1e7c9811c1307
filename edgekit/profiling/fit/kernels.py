"""Fits a table of kernels to latencies of whole networks.

Each network's latency is what an inference costs at all plus, for each operator, its linear cost
times a factor that depends on its kernel's shape. The logarithms of the factors have a Gaussian
process as prior; their most probable values given all latencies are found by Gauss and Newton's
method (Rasmussen and Williams 2006, sections 2.2 and 3.4), so that networks of one operator, which
tell its factor alone, and networks of many, which tell only the sum, count as what they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

from edgekit.profiling.cost import kernel_terms, op_time
from edgekit.profiling.fit.least_squares import non_negative
from edgekit.profiling.kernels.factors import factors, has_footprint
from edgekit.profiling.kernels.interpolation import covariance
from edgekit.profiling.kernels.shapes import KernelShape, kernel_shape, logarithms
from edgekit.profiling.view import GraphView
from edgekit.profiling.work import Work, works
from edgekit.schema.kernels import KernelRows, KernelTable
from edgekit.schema.target import KernelCosts, MemorySpec, Processor, Term

_Array = NDArray[np.float64]
_ROUNDS = 30
_SETTLED = 1e-3
_LEAST_SHARE = 1e-2  # of a step
_HUGE = 50.0  # no factor is larger than its exponential
_NOISE = 0.03  # relative, of a latency
_OFFSET = 1.5
# What shapes do not explain is left to the table.
_GROUPS: tuple[tuple[Term, ...], ...] = (
    ("mac.conv", "mac.conv_shallow", "mac.winograd", "mac.pointwise", "mac.dense", "mac.matmul",
     "mac.recurrent"),
    ("mac.depthwise", "mac.depthwise_large"),
    ("activation_byte",),
    ("weight_byte",),
    ("op",),
    ("inference",),
)  # fmt: skip
_SCALES = (2.0, 0.5)  # to begin with
_LENGTHS = (1.0, 2.0, 4.0, 8.0)
_SPREADS = (0.1, 0.3, 1.0)
_NOISES = (0.02, 0.04, 0.08)
_SCALE_ROUNDS = 2
_MOST_ROWS = 96  # of a kernel, in the table
_NS = 1e-9


@dataclass(frozen=True)
class Observation:
    """A network and its measured latency.

    Attributes:
        family: networks that are alike; left out of a fit together.
        uncertainty: relative, of this latency: its runs were disturbed.
    """

    name: str
    family: str
    view: GraphView
    seconds: float
    uncertainty: float = 0.0
    loads: tuple[Work, ...] = field(init=False)
    shapes: tuple[KernelShape | None, ...] = field(init=False)

    def __post_init__(self) -> None:
        loads = tuple(works(self.view))
        shapes = tuple(None if w.free else kernel_shape(self.view, w) for w in loads)
        object.__setattr__(self, "loads", loads)
        object.__setattr__(self, "shapes", shapes)


@dataclass(frozen=True)
class Scales:
    """What the table's prior is made of: length and spread by kernel, and the noise."""

    kernels: Mapping[str, tuple[float, float]]
    noise: float = _NOISE


def fit_kernels(
    observations: Sequence[Observation], *, source: str, scales: Scales | None = None
) -> tuple[KernelCosts, Scales]:
    """Fits linear costs and the table of factors on them.

    Args:
        observations: networks and latencies.
        source: id of the source, for the costs.
        scales: of the prior; None: those with the largest evidence, each in turn.

    Raises:
        ValueError: there is no observation.
        MissingDependencyError: SciPy is not installed.
    """
    if not observations:
        raise ValueError("a fit needs observations")
    linear = _linear_costs(observations, source)
    problem = _Problem(observations, linear)
    if scales is None:
        scales = Scales(dict.fromkeys(problem.kernels, _SCALES))
        for _ in range(_SCALE_ROUNDS):
            scales = problem.best_scales(scales, problem.solve(scales))
    table = problem.table(problem.solve(scales), scales)
    return linear.model_copy(update={"kernels": table}), scales


def predict_seconds(observation: Observation, costs: KernelCosts) -> float:
    """Latency that fitted costs predict for a network, in seconds."""
    linear = linear_seconds(observation.loads, costs)
    tables = [costs.kernels] * len(observation.loads)
    found = factors(observation.view, observation.loads, tables)
    own = sum(one * factor.value for one, factor in zip(linear, found, strict=True))
    return own + costs.ns.get("inference", 0.0) * _NS


def linear_seconds(loads: Sequence[Work], costs: KernelCosts) -> list[float]:
    """The linear cost of each operator, in seconds."""
    return [op_time(work, _PROCESSOR, costs, _MEMORY).seconds for work in loads]


_PROCESSOR = Processor(name="cpu", kind="cpu", rules="litert-cpu")
_MEMORY = MemorySpec(ram_bytes=1, cache_bytes=1 << 62, bandwidth_gb_s=1)  # no limit of its own


def _linear_costs(observations: Sequence[Observation], source: str) -> KernelCosts:
    """Non-negative costs of the terms with the least absolute relative error."""
    matrix = np.array(
        [
            [
                sum(total.get(term, 0.0) for term in group) * _NS / observation.seconds
                for group in _GROUPS
            ]
            for observation, total in ((one, _amounts(one)) for one in observations)
        ]
    )
    solution = non_negative(matrix, np.ones(len(matrix)), robust=True)
    macs = sorted(sum(work.macs for work in one.loads if not work.free) for one in observations)
    kinds = {work.kind for one in observations for work in one.loads if not work.free}
    return KernelCosts(
        origin="fitted",
        source=source,
        measurements=len(observations),
        ns={
            term: _rounded(value)
            for group, value in zip(_GROUPS, solution, strict=True)
            for term in group
        },
        seen=tuple(sorted(kinds)),
        seen_macs=(macs[0], macs[-1]),
    )


def _amounts(observation: Observation) -> dict[Term, float]:
    total: dict[Term, float] = {"inference": 1.0}
    for work in observation.loads:
        for term, amount in kernel_terms(work).items():
            total[term] = total.get(term, 0.0) + amount
    return total


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


class _Problem:
    """Latencies as sums over distinct kernel shapes."""

    def __init__(self, observations: Sequence[Observation], linear: KernelCosts) -> None:
        columns: dict[KernelShape, int] = {}
        entries: list[tuple[int, int, float]] = []
        for row, observation in enumerate(observations):
            seconds = linear_seconds(observation.loads, linear)
            for shape, one in zip(observation.shapes, seconds, strict=True):
                if shape is not None:
                    rounded = _rounded_shape(shape)
                    entries.append((row, columns.setdefault(rounded, len(columns)), one))
        self._shapes = sorted(columns, key=lambda shape: (shape.kernel, shape.features))
        place = {columns[shape]: new for new, shape in enumerate(self._shapes)}
        self._linear = np.zeros((len(observations), len(self._shapes)))
        for row, column, one in entries:
            self._linear[row, place[column]] += one
        kernels = [shape.kernel for shape in self._shapes]
        edges = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(kernels)) if a != b), len(kernels)]
        self._blocks = list(pairwise(edges))
        self.kernels = [kernels[start] for start, _ in self._blocks]
        self._fixed = linear.ns.get("inference", 0.0) * _NS
        self._measured = np.log([observation.seconds for observation in observations])
        self._own_noise = np.array([observation.uncertainty for observation in observations])

    def _block(self, number: int, scale: tuple[float, float]) -> _Array:
        """Covariance of the logarithms of one kernel's factors; kernels are independent."""
        start, end = self._blocks[number]
        weighted = has_footprint(self.kernels[number])
        points = np.array([logarithms(one, weighted=weighted) for one in self._shapes[start:end]])
        return covariance(points, points, length=scale[0], offset=_OFFSET, spread=scale[1])

    def _prior(self, scales: Scales) -> list[_Array]:
        return [
            self._block(number, scales.kernels.get(kernel, _SCALES))
            for number, kernel in enumerate(self.kernels)
        ]

    def solve(self, scales: Scales) -> _Array:
        """The most probable logarithms of the factors."""
        prior = self._prior(scales)
        logs, pulls = np.zeros(len(self._shapes)), np.zeros(len(self._shapes))
        cost = self._cost(logs, pulls, scales.noise)
        for _ in range(_ROUNDS):
            slopes, wanted = self._linearized(logs)
            noisy = self._spread_out(slopes, prior) @ slopes.T
            noisy[np.diag_indices_from(noisy)] += scales.noise**2 + self._own_noise**2
            new_pulls = slopes.T @ np.linalg.solve(noisy, wanted)
            new = self._spread_out(new_pulls[None, :], prior)[0]
            share, before = 1.0, cost
            while share > _LEAST_SHARE:
                tried = logs + share * (new - logs), pulls + share * (new_pulls - pulls)
                cost = self._cost(*tried, scales.noise)
                if cost < before:
                    logs, pulls = tried
                    break
                share /= 2
            if before - cost < _SETTLED * before:
                break
        return logs

    def _linearized(self, logs: _Array) -> tuple[_Array, _Array]:
        """Slopes of the logarithms of latencies, and what slopes times logarithms should be."""
        parts = self._linear * np.exp(logs)
        total = parts.sum(axis=1) + self._fixed
        slopes = parts / total[:, None]
        return slopes, self._measured - np.log(total) + slopes @ logs

    def best_scales(self, scales: Scales, logs: _Array) -> Scales:
        """Scales with a larger evidence where latencies are linear in the logarithms."""
        slopes, wanted = self._linearized(logs)
        chosen, noise = dict(scales.kernels), scales.noise
        shares = [
            self._share(slopes, number, block) for number, block in enumerate(self._prior(scales))
        ]
        everything: _Array = np.sum(shares, axis=0) + np.diag(self._own_noise**2)
        for number, kernel in enumerate(self.kernels):
            rest = everything - shares[number]
            tried = {
                scale: self._share(slopes, number, self._block(number, scale))
                for scale in product(_LENGTHS, _SPREADS)
            }
            best = max(tried, key=lambda scale: _evidence(rest + tried[scale], wanted, noise))
            chosen[kernel], shares[number] = best, tried[best]
            everything = rest + tried[best]
        noise = max(_NOISES, key=lambda one: _evidence(everything, wanted, one))
        return Scales(chosen, noise)

    def _share(self, slopes: _Array, number: int, block: _Array) -> _Array:
        """Covariance of latencies that one kernel's factors make."""
        start, end = self._blocks[number]
        used = slopes[:, start:end]
        share: _Array = used @ block @ used.T
        return share

    def _spread_out(self, rows: _Array, prior: Sequence[_Array]) -> _Array:
        """Rows times the prior covariance."""
        parts = [
            rows[:, start:end] @ block
            for (start, end), block in zip(self._blocks, prior, strict=True)
        ]
        return np.hstack(parts)

    def _cost(self, logs: _Array, pulls: _Array, noise: float) -> float:
        """Negative logarithm of the posterior; `pulls` are the inverse prior times `logs`."""
        total = (self._linear * np.exp(np.minimum(logs, _HUGE))).sum(axis=1) + self._fixed
        off = self._measured - np.log(total)
        return float((off**2 / (noise**2 + self._own_noise**2)).sum() + logs @ pulls) / 2

    def table(self, logs: _Array, scales: Scales) -> KernelTable:
        """The table of a solution."""
        found = {}
        for (start, end), kernel in zip(self._blocks, self.kernels, strict=True):
            length, spread = scales.kernels.get(kernel, _SCALES)
            weighted = has_footprint(kernel)
            points = np.array([logarithms(s, weighted=weighted) for s in self._shapes[start:end]])
            kept = start + np.array(_far_apart(points, _MOST_ROWS))
            rows = (
                (*self._shapes[index].features, _rounded(math.exp(logs[index]))) for index in kept
            )
            found[kernel] = KernelRows(length=length, spread=spread, rows=tuple(rows))
        return KernelTable(offset=_OFFSET, kernels=found)


def _evidence(covariance_of: _Array, wanted: _Array, noise: float) -> float:
    """Logarithm of the evidence, but for a constant (Rasmussen and Williams, equation 2.30)."""
    noisy = covariance_of + noise**2 * np.eye(len(wanted))
    sign, determinant = np.linalg.slogdet(noisy)
    if sign <= 0:
        return -math.inf
    return -0.5 * (float(wanted @ np.linalg.solve(noisy, wanted)) + float(determinant))


def _far_apart(points: _Array, most: int) -> list[int]:
    """Indices of points each of which was the farthest from those before it, in their order."""
    chosen = [0]
    distances = ((points - points[0]) ** 2).sum(axis=1)
    while len(chosen) < min(most, len(points)) and distances.max() > 0:
        chosen.append(int(distances.argmax()))
        distances = np.minimum(distances, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
    return sorted(chosen)


def _rounded_shape(shape: KernelShape) -> KernelShape:
    """As it is written in a table."""
    return KernelShape(shape.kernel, tuple(_rounded(max(value, 1e-3)) for value in shape.features))
