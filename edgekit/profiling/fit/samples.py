"""Measured networks, placed on a target."""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.base.errors import TargetError
from edgekit.graph.types import Graph
from edgekit.profiling.estimate import Estimate, estimate
from edgekit.profiling.placement import OpPlacement, place
from edgekit.profiling.view import GraphView, compiles, computed
from edgekit.profiling.work import Work, works
from edgekit.schema.fitting import Cores
from edgekit.schema.target import Target


@dataclass(frozen=True)
class Sample:
    """A measured network: its structure placed on the target, and the measurement.

    Attributes:
        model: its name; what is left out together.
        family: name of its family.
        latency_s: of one inference, in seconds.
        energy_j: of one inference, in joules, over the scope of the target's power; None: unknown.
        cores: that it was measured on; None: those of the fit.
    """

    model: str
    family: str
    view: GraphView
    loads: tuple[Work, ...]
    placed: tuple[OpPlacement, ...]
    latency_s: float
    energy_j: float | None = None
    cores: Cores | None = None


def sample(
    graph: Graph,
    target: Target,
    *,
    model: str,
    family: str,
    latency_s: float,
    energy_j: float | None = None,
    processor: str | None = None,
    cores: Cores | None = None,
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
        cores: that it ran on; None: those of the fit.
    """
    view = GraphView(computed(graph, target), for_accelerator=compiles(target))
    placed = (
        tuple(OpPlacement(processor) for _ in graph.ops)
        if processor
        else tuple(place(view, target))
    )
    return Sample(model, family, view, tuple(works(view)), placed, latency_s, energy_j, cores)


def predict(measured: Sample, target: Target) -> Estimate:
    """The target's estimate of a sample.

    Raises:
        TargetError: it cannot run there.
    """
    result = estimate(measured.view, measured.loads, measured.placed, target)
    if isinstance(result, str):
        raise TargetError(f"{target.name}: {measured.model}: {result}")
    return result
