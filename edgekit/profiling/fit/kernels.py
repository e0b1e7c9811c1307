"""Fits a table of kernels to latencies of whole networks.

Each network's latency is what an inference costs at all plus, for each operator, its linear cost
times a factor that depends on its kernel's shape. The logarithms of the factors have a Gaussian
process as prior; their most probable values given all latencies are found by Gauss and Newton's
method (Rasmussen and Williams 2006, sections 2.2 and 3.4), so that networks of one operator, which
tell its factor alone, and networks of many, which tell only the sum, count as what they are. How
far a measured shape speaks for others is what makes the latencies most probable
(`edgekit.profiling.fit.evidence`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from edgekit.profiling.cost import kernel_terms, op_time
from edgekit.profiling.fit.attribution import Part
from edgekit.profiling.fit.composition import composed, with_factors
from edgekit.profiling.fit.factors import Problem, Row, Scales, far_apart
from edgekit.profiling.fit.fitted import rounded
from edgekit.profiling.fit.least_squares import non_negative
from edgekit.profiling.kernels.factors import factors
from edgekit.profiling.kernels.shapes import (
    KernelShape,
    costs_nothing,
    kernel_shape,
    logarithms,
)
from edgekit.profiling.view import GraphView
from edgekit.profiling.work import Work, works
from edgekit.schema.target import KernelCosts, MemorySpec, Processor, Term

_NS = 1e-9
_SCALE_ROUNDS = 3
_COARSE_S = 5e-6  # a part, on average: profilers count whole microseconds
_SHORT_S = 8e-6
_ROUNDING_S = 0.3e-6  # standard deviation of a time in whole microseconds
_PROFILER_DOUBT = 0.5  # of what the profiler adds to a time
_LEAST_SHARE = 0.2
_MOST_PARTS = 300  # of a kernel
_DISTORTED = 1.25  # times a network's latency that its parts' times add up to
# What the table multiplies must not be nothing.
_LEAST_NS: dict[Term, float] = {"activation_byte": 1e-3, "weight_byte": 1e-2}
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


@dataclass(frozen=True)
class Observation:
    """A network and its measured latency.

    Attributes:
        family: networks that are alike; left out of a fit together.
        uncertainty: relative, of this latency: its runs were disturbed.
        parts: times of its operators, by the runtime's profiler.
    """

    name: str
    family: str
    view: GraphView
    seconds: float
    uncertainty: float = 0.0
    parts: tuple[Part, ...] = ()
    loads: tuple[Work, ...] = field(init=False)
    shapes: tuple[KernelShape | None, ...] = field(init=False)

    def __post_init__(self) -> None:
        loads = tuple(works(self.view))
        shapes = tuple(
            None if costs_nothing(self.view, w) else kernel_shape(self.view, w) for w in loads
        )
        object.__setattr__(self, "loads", loads)
        object.__setattr__(self, "shapes", shapes)


def fit_kernels(
    observations: Sequence[Observation],
    *,
    source: str,
    scales: Scales | None = None,
    base: KernelCosts | None = None,
) -> tuple[KernelCosts, Scales]:
    """Fits linear costs and the table of factors on them.

    Args:
        observations: networks and latencies.
        source: id of the source, for the costs.
        scales: of the prior; None: those with the largest evidence, each in turn.
        base: costs of the same runtime with fewer threads; the fit finds factors on these.

    Raises:
        ValueError: there is no observation.
        MissingDependencyError: SciPy is not installed.
    """
    if not observations:
        raise ValueError("a fit needs observations")
    linear = base or _linear_costs(observations, source)
    measured, under = rows(observations, linear), linear.kernels
    problem = Problem(with_factors(measured, under) if under else measured)
    wanted = scales is None
    scales = scales or problem.first_scales()
    logs = problem.solve(scales)
    for _ in range(_SCALE_ROUNDS):
        problem.doubt(scales, logs)
        if wanted:
            scales = problem.better_scales(scales, logs)
        logs = problem.solve(scales)
    table = problem.table(logs, scales)
    found = {"kernels": composed(under, table) if under else table}
    return linear.model_copy(update={**found, "measurements": len(observations)}), scales


def predict_seconds(observation: Observation, costs: KernelCosts) -> float:
    """Latency that fitted costs predict for a network, in seconds."""
    tables = [costs.kernels] * len(observation.loads)
    found = factors(observation.view, observation.loads, tables)
    own = sum(
        op_time(work, _PROCESSOR, costs, _MEMORY, factor=factor.value).seconds
        for work, factor in zip(observation.loads, found, strict=True)
    )
    return own + costs.ns.get("inference", 0.0) * _NS


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
    costs = {
        term: rounded(max(value, _LEAST_NS.get(term, 0.0)))
        for group, value in zip(_GROUPS, solution, strict=True)
        for term in group
    }
    macs = sorted(sum(work.macs for work in one.loads if not work.free) for one in observations)
    kinds = {work.kind for one in observations for work in one.loads if not work.free}
    return KernelCosts(
        origin="fitted",
        source=source,
        measurements=len(observations),
        ns=costs,
        seen=tuple(sorted(kinds)),
        seen_macs=(macs[0], macs[-1]),
    )


def _amounts(observation: Observation) -> dict[Term, float]:
    total: dict[Term, float] = {"inference": 1.0}
    for work in observation.loads:
        terms = {} if costs_nothing(observation.view, work) else kernel_terms(work)
        for term, amount in terms.items():
            total[term] = total.get(term, 0.0) + amount
    return total


def rows(observations: Sequence[Observation], costs: KernelCosts) -> list[Row]:
    """Sums over kernels: each network, and its parts where the profiler tells them apart.

    Parts have their shares of the network's latency, without what the profiler itself takes. Of
    the parts of one kernel those are taken that lie far apart; those alike in one network are one.
    The whole counts too where the profiler takes much of what it tells: the shares are in doubt.

    Args:
        observations: networks and latencies.
        costs: linear ones.
    """
    fixed = costs.ns.get("inference", 0.0) * _NS
    own = _profiler_seconds(observations, fixed)
    found: list[Row] = []
    by_kernel: dict[str, list[tuple[KernelShape, Row]]] = {}
    for one in observations:
        kernels = _linear_kernels(one, costs)
        whole = Row(list(kernels.values()), one.seconds, one.uncertainty, fixed)
        if len(one.parts) < 2 or one.seconds < _COARSE_S * len(one.parts):
            found.append(whole)
            continue
        if sum(part.seconds for part in one.parts) > _DISTORTED * one.seconds:
            found.append(whole)
        alone = [
            max(part.seconds - own * part.runs, _LEAST_SHARE * part.seconds) for part in one.parts
        ]
        scale = max(one.seconds - fixed, _LEAST_SHARE * one.seconds) / sum(alone)
        alike: dict[tuple[KernelShape, ...], list[Row]] = {}
        for part, seconds in zip(one.parts, alone, strict=True):
            inside = [kernels[index] for index in part.operators if index in kernels]
            if not inside:
                continue
            noise = math.hypot(one.uncertainty, (_ROUNDING_S + _PROFILER_DOUBT * own) / seconds)
            row = Row(inside, scale * seconds, noise)
            alike.setdefault(tuple(shape for shape, _ in inside), []).append(row)
        for group in alike.values():
            row = replace(group[0], seconds=float(np.median([row.seconds for row in group])))
            main = max(row.kernels, key=lambda kernel: kernel[1])[0]
            by_kernel.setdefault(main.kernel, []).append((main, row))
    for members in by_kernel.values():
        points = np.array([logarithms(shape) for shape, _ in members])
        found += [members[index][1] for index in far_apart(points, _MOST_PARTS)]
    return found


def _profiler_seconds(observations: Sequence[Observation], fixed: float) -> float:
    """What the profiler adds to each time, as networks of short ones tell it."""
    added = [
        (sum(part.seconds for part in one.parts) - (one.seconds - fixed))
        / sum(part.runs for part in one.parts)
        for one in observations
        if len(one.parts) > 2 and one.seconds < _SHORT_S * len(one.parts)
    ]
    return max(0.0, float(np.median(added))) if added else 0.0


def _linear_kernels(
    observation: Observation, costs: KernelCosts
) -> dict[int, tuple[KernelShape, float]]:
    """The kernel of each operator, and its linear cost in seconds."""
    return {
        work.op.index: (shape, op_time(work, _PROCESSOR, costs, _MEMORY).seconds)
        for work, shape in zip(observation.loads, observation.shapes, strict=True)
        if shape is not None
    }
