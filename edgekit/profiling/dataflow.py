"""Dataflow processors, whose layers compute at once, each in a part of the chip (Hailo).

A layer passes its rows on to the next one, so that images come as fast as the slowest layer lets
them. The compiler gives each layer its share of the chip: at least a controller, and memory for its
weights; what is left goes to the layers with most multiply-accumulates, until all are as fast.
Besides, a layer writes so many values a cycle, and images and results pass a port.

A network that the chip cannot hold is split into contexts, which the runtime loads one after the
other (https://community.hailo.ai/t/multi-context-flow/8017): weights come over the link at every
inference, and what one context leaves for later ones waits in the host's memory. A normalization of
layers waits for all values of a place, which takes as long as many other operators.

A Hailo-8 has eight clusters; one has 16 layer controllers and 64 units of arithmetic, as the shares
in its compiler's logs tell (hailo-ai/Hailo-Application-Code-Examples, issue 280, whose Hailo-8L has
four). 26 TOPS at 400 MHz are 64 multipliers a unit, of which a depthwise convolution uses one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edgekit.graph.types import Graph
from edgekit.profiling.placement import OpPlacement, crossing_tensors
from edgekit.profiling.work import Work, rounded_up
from edgekit.schema.target import Processor

_BLOCK = 16  # channels that fill a unit's lanes
_LANES = 64
# Limits add up as this power of them: the largest counts most, but rows do not come so evenly that
# one that is nearly as large would not matter. Chosen on measured networks; 2 to 4 are as good.
_POWER = 3


@dataclass(frozen=True)
class Occupancy:
    """What a network takes of a processor; of one that is not dataflow nothing.

    Attributes:
        processor: the hardware.
        loads: work of the network's operators.
        placed: where they run.
        shares: what each operator takes of what one context holds, by position.
        switched: whether the network is loaded part by part, because the chip cannot hold all of
            it. Attention, of which many layers wait for all values of others, is always split.
    """

    processor: Processor
    loads: Sequence[Work]
    placed: Sequence[OpPlacement]
    shares: Mapping[int, float]
    switched: bool

    def cycles(self, graph: Graph) -> dict[int, float]:
        """Cycles from image to image that each layer stands for, by position; none: no pipeline."""
        pipeline = self.processor.pipeline
        if pipeline is None:
            return {}
        lanes = {
            index: _lane_macs(self.loads[index]) for index in self.shares if self.loads[index].macs
        }
        if not lanes or self.switched:
            return {index: macs / pipeline.macs for index, macs in lanes.items()}

        def values(tensors: Iterable[int]) -> int:
            return sum(graph.tensors[index].elements for index in tensors)

        least = {index: _least_share(self.loads[index], self.processor) for index in lanes}
        shares = chip_shares(lanes, least)
        ports = crossing_tensors(graph, self.placed, self.processor.name)
        limits = (
            max(lanes[index] / share for index, share in shares.items()) / pipeline.macs,
            max(values(graph.ops[index].outputs) for index in lanes) / pipeline.values,
            max(values(tensors) for tensors in ports) / pipeline.port_values,
        )
        cycles = sum(limit**_POWER for limit in limits) ** (1 / _POWER)
        return {index: cycles * share for index, share in shares.items()}

    def waiting_bytes(self, graph: Graph) -> int:
        """Bytes that contexts of a network leave for later ones.

        A context ends where the chip is full. How the compiler cuts is not known, so each operator
        counts by its share of a context: so likely is it the last of one.
        """
        if not self.switched:
            return 0
        alive = _alive_after(graph)
        return round(sum(share * alive[index] for index, share in self.shares.items()))


def occupancy(
    loads: Sequence[Work], placed: Sequence[OpPlacement], processor: Processor
) -> Occupancy:
    """What the operators that run on a processor take of it."""
    shares = _held_shares(loads, placed, processor)
    attention = any(
        loads[index].kind == "matmul" and not loads[index].weight_bytes for index in shares
    )
    switched = attention or sum(shares.values()) > 1
    return Occupancy(processor, loads, placed, shares, switched)


def _held_shares(
    loads: Sequence[Work], placed: Sequence[OpPlacement], processor: Processor
) -> dict[int, float]:
    if processor.pipeline is None or not processor.parameter_cache_bytes:
        return {}
    each = processor.pipeline.operator_bytes
    return {
        index: (work.weight_bytes + each) / processor.parameter_cache_bytes
        for index, (work, place) in enumerate(zip(loads, placed, strict=True))
        if place.where == processor.name and not work.free
    }


def _least_share(work: Work, processor: Processor) -> float:
    """Of the chip, for a layer: one controller, or the memory for its weights."""
    assert processor.pipeline and processor.parameter_cache_bytes
    return max(1 / processor.pipeline.layers, work.weight_bytes / processor.parameter_cache_bytes)


def chip_shares(lanes: Mapping[int, int], least: Mapping[int, float]) -> dict[int, float]:
    """Shares of the chip that make the slowest layer fastest; all together are the whole chip.

    Layers that have too little arithmetic in their least share get so much more that they are as
    fast as each other.

    Args:
        lanes: work of each layer.
        least: its share at least; in proportion to that if all together are more than the chip.
    """
    crowded = max(1.0, sum(least.values()))
    least = {index: share / crowded for index, share in least.items()}
    free, busy = max(0.0, 1.0 - sum(least.values())), 0.0
    for index in sorted(lanes, key=lambda index: lanes[index] / least[index], reverse=True):
        if busy * least[index] >= lanes[index] * free:
            break
        busy += lanes[index]
        free += least[index]
    even = free / busy if busy else 0.0
    return {index: max(share, lanes[index] * even) for index, share in least.items()}


def _lane_macs(work: Work) -> int:
    """Multiply-accumulates with those of idle lanes, which channels leave that fill no block."""
    if work.kind == "depthwise":
        return _LANES * work.macs
    gemm = work.gemm
    if gemm is None:
        return work.macs
    inputs = rounded_up(math.ceil(gemm.k / gemm.taps), _BLOCK)
    return gemm.taps * inputs * rounded_up(gemm.n, _BLOCK) * gemm.m * gemm.groups


def _alive_after(graph: Graph) -> list[int]:
    """Bytes of activations that later operators read, after each operator."""
    last = {tensor: index for index, op in enumerate(graph.ops) for tensor in op.inputs}
    made = {tensor for op in graph.ops for tensor in op.outputs}
    alive, found = 0, []
    for index, op in enumerate(graph.ops):
        alive += sum(graph.tensors[t].bytes for t in op.outputs if last.get(t, 0) > index)
        read = {t for t in op.inputs if last[t] == index and t in made}
        alive -= sum(graph.tensors[t].bytes for t in read)
        found.append(alive)
    return found
