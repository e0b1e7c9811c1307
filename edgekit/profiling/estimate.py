"""The time of a whole graph on a target."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edgekit.graph.types import Graph, Port
from edgekit.profiling.cost import OpTime, crossing_seconds, op_time
from edgekit.profiling.edgetpu_cache import PROGRAM_BYTES, parameter_cache
from edgekit.profiling.kernels.factors import factors
from edgekit.profiling.placement import COMPILED, OpPlacement
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
    shares = _streamed_shares(view, loads, placed, processors)
    parts = {name for name, one in processors.items() if switches(loads, placed, one)}
    charged_by = [
        charged_costs(processors[place.where or ""], work.precision, target)
        for work, place in zip(loads, placed, strict=True)
    ]
    by_shape = factors(view, loads, [costs.kernels for costs in charged_by])
    busy: dict[str, float] = defaultdict(float)
    times = []
    for work, place, costs, factor in zip(loads, placed, charged_by, by_shape, strict=True):
        processor = processors[place.where or ""]
        time = op_time(
            work,
            processor,
            costs,
            target.memory,
            streamed_share=shares.get(processor.name, 0.0),
            factor=factor.value,
            switched=processor.name in parts,
        )
        if factor.extrapolated is not None:
            time = replace(time, extrapolated=factor.extrapolated)
        times.append(time)
        busy[processor.name] += time.seconds
    crossing = _crossings(view.graph, placed, processors, busy)
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
    back. Where each layer has multipliers of its own, all wait for the one that writes most.
    """

    def values(ports: Sequence[Port]) -> float:
        return float(sum(graph.tensors[port.tensor].elements for port in ports))

    return {
        "inference": 1.0,
        "input_value": values(graph.inputs),
        "output_value": values(graph.outputs),
        "widest_value": max(
            (float(graph.tensors[op.outputs[0]].elements) for op in graph.ops if op.macs),
            default=0.0,
        ),
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


def _streamed_shares(
    view: GraphView,
    loads: Sequence[Work],
    placed: Sequence[OpPlacement],
    processors: Mapping[str, Processor],
) -> dict[str, float]:
    """Bytes over the link for a byte of each processor's weights, as the file has them."""
    return {
        name: streamed_bytes(view, loads, placed, processor) / held
        for name, processor in processors.items()
        if processor.parameter_cache_bytes is not None
        and (held := _weight_bytes(loads, placed, name))
    }


def streamed_bytes(
    view: GraphView, loads: Sequence[Work], placed: Sequence[OpPlacement], processor: Processor
) -> int:
    """Bytes of weights that a processor's parameter cache cannot keep from run to run."""
    cache = processor.parameter_cache_bytes
    if cache is None:
        return 0
    if processor.rules == EDGETPU.name:
        return parameter_cache(view, placed, processor.name, cache).streamed
    held = _weight_bytes(loads, placed, processor.name)
    if processor.swaps:
        return held if switches(loads, placed, processor) else 0
    return max(0, held - cache)


def switches(loads: Sequence[Work], placed: Sequence[OpPlacement], processor: Processor) -> bool:
    """Whether a processor loads a network part by part, because it cannot hold all of it.

    A dataflow processor has memory, control and arithmetic for so many layers at once; its compiler
    splits what needs more into contexts, which its runtime loads one after the other
    (https://community.hailo.ai/t/multi-context-flow/8017). Each operator takes some of it beside
    its weights. Attention, of which many layers wait for all values of others, is always split.
    """
    if not processor.swaps or processor.parameter_cache_bytes is None:
        return False
    own = [
        work
        for work, place in zip(loads, placed, strict=True)
        if place.where == processor.name and not work.free
    ]
    held = sum(work.weight_bytes + processor.operator_bytes for work in own)
    attention = any(work.kind == "matmul" and not work.weight_bytes for work in own)
    return attention or held > processor.parameter_cache_bytes


def _weight_bytes(loads: Sequence[Work], placed: Sequence[OpPlacement], processor: str) -> int:
    """Bytes of the weights of all that a processor runs."""
    return sum(
        work.weight_bytes
        for work, place in zip(loads, placed, strict=True)
        if place.where == processor and not work.free
    )


def crossing_bytes(graph: Graph, placed: Sequence[OpPlacement], processor: Processor) -> int:
    """Bytes that cross the link of a processor in one inference: tensors, and its program."""
    return sum(sum(one) for one in _crossing_sizes(graph, placed, processor))


def _crossing_sizes(
    graph: Graph, placed: Sequence[OpPlacement], processor: Processor
) -> tuple[list[int], list[int]]:
    """Bytes of what goes into a processor, and of what comes out; see `_crossing_tensors`."""
    into, out = (
        [graph.tensors[index].bytes for index in tensors]
        for tensors in _crossing_tensors(graph, placed, processor.name)
    )
    if processor.rules == EDGETPU.name and (into or out):
        into.append(PROGRAM_BYTES)
    if processor.swaps:  # layers of a pipeline: the next image comes while this one is computed
        into = []
    return into, out


def _crossing_tensors(
    graph: Graph, placed: Sequence[OpPlacement], processor: str
) -> tuple[set[int], set[int]]:
    """Tensors that go into a processor, and those that come out: each crosses once a direction."""
    inside = {
        index
        for op, where in zip(graph.ops, placed, strict=True)
        if where.where == processor
        for index in op.outputs
    }
    into: set[int] = set()
    out = {port.tensor for port in graph.outputs} & inside
    for op, where in zip(graph.ops, placed, strict=True):
        if where.where == processor:
            into.update(i for i in op.inputs if not graph.tensors[i].constant and i not in inside)
        else:
            out.update(inside.intersection(op.inputs))
    return into, out


def _crossings(
    graph: Graph,
    placed: Sequence[OpPlacement],
    processors: Mapping[str, Processor],
    busy: dict[str, float],
) -> float:
    """Seconds that tensors take over links."""
    total = 0.0
    for name, processor in processors.items():
        if processor.link is None:
            continue
        for sizes in _crossing_sizes(graph, placed, processor):
            seconds = crossing_seconds(sum(sizes), processor)
            busy[name] += seconds
            total += seconds
    return total
