"""The time of a whole graph on a target."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edgekit.graph.types import Graph, Port
from edgekit.profiling.cost import OpTime, crossing_seconds, op_time
from edgekit.profiling.dataflow import Occupancy, occupancy
from edgekit.profiling.edgetpu_cache import PROGRAM_BYTES, parameter_cache
from edgekit.profiling.kernels.factors import factors
from edgekit.profiling.placement import COMPILED, OpPlacement, crossing_tensors
from edgekit.profiling.rules.edgetpu import RULES as EDGETPU
from edgekit.profiling.view import GraphView
from edgekit.profiling.work import Work
from edgekit.schema.names import Precision
from edgekit.schema.target import KernelCosts, Processor, Target, Term


@dataclass(frozen=True)
class Estimate:
    """One inference.

    Attributes:
        ops: time of each operator.
        crossing: seconds that tensors take over links between processors.
        fixed: seconds that each inference costs whatever the network.
        busy: seconds of work by processor; crossings count for the processor behind the link.
        macs: multiply-accumulates that were charged.
        bytes: bytes that were charged.
    """

    ops: tuple[OpTime, ...]
    crossing: float
    fixed: float
    busy: Mapping[str, float]
    macs: int
    bytes: int

    @property
    def seconds(self) -> float:
        """Latency of one inference."""
        return sum(time.seconds for time in self.ops) + self.crossing + self.fixed


def estimate(
    view: GraphView, loads: Sequence[Work], placed: Sequence[OpPlacement], target: Target
) -> Estimate | str:
    """Estimates one inference, or says why that is not possible.

    Args:
        view: the graph.
        loads: work of its operators.
        placed: where they run.
        target: the hardware.
    """
    processors = {processor.name: processor for processor in target.processors}
    for work, place in zip(loads, placed, strict=True):
        if place.where is None:
            first = next(iter(place.findings), None)
            why = f": found {first.found}, allowed {first.allowed.rstrip('.')}" if first else ""
            return f"operator {work.op.index} ({work.op.name}) runs nowhere here{why}"
        if work.op.name in COMPILED:
            return "the file is compiled: its layers cannot be read, profile its source"
        if not processors[place.where].costs:
            return f"no measurements on this target's {place.where}"
        charged = target.precisions.get(work.precision)
        if work.macs and (charged is None or charged not in processors[place.where].costs):
            return f"no measurements of {work.precision} on this target's {place.where}"
    occupied = {name: occupancy(loads, placed, one) for name, one in processors.items()}
    shares = _streamed_shares(view, occupied)
    cycles = {
        index: amount
        for one in occupied.values()
        for index, amount in one.cycles(view.graph).items()
    }
    charged_by = [
        charged_costs(processors[place.where or ""], work.precision, target)
        for work, place in zip(loads, placed, strict=True)
    ]
    by_shape = factors(view, loads, [costs.kernels for costs in charged_by])
    busy: dict[str, float] = defaultdict(float)
    times = []
    for index, (work, place, costs, factor) in enumerate(
        zip(loads, placed, charged_by, by_shape, strict=True)
    ):
        processor = processors[place.where or ""]
        time = op_time(
            work,
            processor,
            costs,
            target.memory,
            streamed_share=shares.get(processor.name, 0.0),
            factor=factor.value,
            switched=occupied[processor.name].switched,
            cycles=cycles.get(index, 0.0),
        )
        if factor.extrapolated is not None:
            time = replace(time, extrapolated=factor.extrapolated)
        times.append(time)
        busy[processor.name] += time.seconds
    crossing = _crossings(view.graph, occupied, busy)
    used = {
        place.where
        for work, place in zip(loads, placed, strict=True)
        if work.bytes and not work.free
    }
    fixed = 0.0
    main = _main_precision(loads)
    for name in used:
        ns = charged_costs(processors[name or ""], main, target).ns
        terms = inference_terms(view.graph).items()
        once = sum(amount * ns.get(term, 0.0) for term, amount in terms) * 1e-9
        fixed += once
        busy[name or ""] += once
    live = [work for work in loads if not work.free]
    return Estimate(
        ops=tuple(times),
        crossing=crossing,
        fixed=fixed,
        busy=dict(busy),
        macs=sum(work.macs for work in live),
        bytes=sum(work.bytes for work in live),
    )


def inference_terms(graph: Graph) -> dict[Term, float]:
    """What a network has once an inference, by the name of the term.

    Runtimes bring the values that it takes into the order of their kernels, and those that it gives
    back.
    """

    def values(ports: Sequence[Port]) -> float:
        return float(sum(graph.tensors[port.tensor].elements for port in ports))

    return {
        "inference": 1.0,
        "input_value": values(graph.inputs),
        "output_value": values(graph.outputs),
    }


def charged_costs(processor: Processor, precision: Precision, target: Target) -> KernelCosts:
    """The costs that an operator of `precision` is charged by; the slowest known as a last resort.

    Operators without weights may compute in a precision that the target has no costs for, such as
    a float softmax at the end of an int8 network.
    """
    charged = target.precisions.get(precision)
    if charged is not None and charged in processor.costs:
        return processor.costs[charged]
    return max(processor.costs.values(), key=lambda costs: costs.ns.get("activation_byte", 0.0))


def _main_precision(loads: Sequence[Work]) -> Precision:
    by_macs: dict[Precision, int] = defaultdict(int)
    for work in loads:
        by_macs[work.precision] += work.macs
    return max(by_macs, key=lambda precision: by_macs[precision], default="fp32")


def _streamed_shares(view: GraphView, occupied: Mapping[str, Occupancy]) -> dict[str, float]:
    """Bytes over the link for a byte of each processor's weights, as the file has them."""
    return {
        name: streamed_bytes(view, one) / held
        for name, one in occupied.items()
        if one.processor.parameter_cache_bytes is not None and (held := _weight_bytes(one))
    }


def streamed_bytes(view: GraphView, occupied: Occupancy) -> int:
    """Bytes of weights that a processor's parameter cache cannot keep from run to run."""
    processor = occupied.processor
    cache = processor.parameter_cache_bytes
    if cache is None:
        return 0
    if processor.rules == EDGETPU.name:
        return parameter_cache(view, occupied.placed, processor.name, cache).streamed
    held = _weight_bytes(occupied)
    if processor.pipeline:
        share = processor.pipeline.streamed_share
        return round(share * held) if occupied.switched else 0
    return max(0, held - cache)


def _weight_bytes(occupied: Occupancy) -> int:
    """Bytes of the weights of all that a processor runs."""
    return sum(
        work.weight_bytes
        for work, place in zip(occupied.loads, occupied.placed, strict=True)
        if place.where == occupied.processor.name and not work.free
    )


def crossing_bytes(graph: Graph, occupied: Occupancy) -> int:
    """Bytes that cross the link of a processor in one inference: tensors, and its program."""
    return sum(map(sum, _crossing_sizes(graph, occupied)))


def _crossing_sizes(graph: Graph, occupied: Occupancy) -> tuple[list[int], list[int]]:
    """Bytes of what goes into a processor, and of what comes out; see `crossing_tensors`."""
    processor = occupied.processor
    into, out = (
        [graph.tensors[index].bytes for index in tensors]
        for tensors in crossing_tensors(graph, occupied.placed, processor.name)
    )
    if processor.rules == EDGETPU.name and (into or out):
        into.append(PROGRAM_BYTES)
    if processor.pipeline:
        if not occupied.switched:
            return [], []  # while the pipeline computes: see `Occupancy.cycles`
        waiting = occupied.waiting_bytes(graph)
        return [*into, waiting], [*out, waiting]
    return into, out


def _crossings(graph: Graph, occupied: Mapping[str, Occupancy], busy: dict[str, float]) -> float:
    """Seconds that tensors take over links."""
    total = 0.0
    for name, one in occupied.items():
        if one.processor.link is None:
            continue
        for sizes in _crossing_sizes(graph, one):
            seconds = crossing_seconds(sum(sizes), one.processor)
            busy[name] += seconds
            total += seconds
    return total
