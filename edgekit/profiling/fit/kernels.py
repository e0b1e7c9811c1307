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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgekit.profiling.cost import kernel_terms, op_time
from edgekit.profiling.fit.factors import Problem, Scales
from edgekit.profiling.fit.fitted import rounded
from edgekit.profiling.fit.least_squares import non_negative
from edgekit.profiling.kernels.factors import factors
from edgekit.profiling.kernels.shapes import KernelShape, kernel_shape, weights_shape
from edgekit.profiling.view import GraphView
from edgekit.profiling.work import Work, works
from edgekit.schema.target import KernelCosts, MemorySpec, Processor, Term

_NS = 1e-9
_SCALE_ROUNDS = 3
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
    problem = Problem(
        [list(_parts(one, linear)) for one in observations],
        [one.seconds for one in observations],
        [one.uncertainty for one in observations],
        linear.ns.get("inference", 0.0) * _NS,
    )
    if scales is None:
        scales = problem.first_scales()
        for _ in range(_SCALE_ROUNDS):
            scales = problem.better_scales(scales, problem.solve(scales))
    table = problem.table(problem.solve(scales), scales)
    return linear.model_copy(update={"kernels": table}), scales


def predict_seconds(observation: Observation, costs: KernelCosts) -> float:
    """Latency that fitted costs predict for a network, in seconds."""
    tables = [costs.kernels] * len(observation.loads)
    found = factors(observation.view, observation.loads, tables)
    own = sum(
        op_time(
            work, _PROCESSOR, costs, _MEMORY, factor=factor.value, weight_factor=factor.weights
        ).seconds
        for work, factor in zip(observation.loads, found, strict=True)
    )
    return own + costs.ns.get("inference", 0.0) * _NS


def _parts(observation: Observation, costs: KernelCosts) -> Iterator[tuple[KernelShape, float]]:
    """Each kernel of a network with its linear cost in seconds; weights are one of their own."""
    for work, shape in zip(observation.loads, observation.shapes, strict=True):
        if shape is not None:
            time = op_time(work, _PROCESSOR, costs, _MEMORY, weight_factor=1.0)
            yield shape, time.seconds - time.stream
            yield weights_shape(observation.view), time.stream


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
        for term, amount in kernel_terms(work).items():
            total[term] = total.get(term, 0.0) + amount
    return total
