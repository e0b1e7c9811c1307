"""Where a runtime puts a graph's activations: tensor lifetimes packed into one arena.

Two planners are followed. "tflite" is TensorFlow Lite's ArenaPlanner (greedy by size, best fit;
Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020): graph inputs
and outputs are never overwritten, and some operators write over their input. "tflm" is TensorFlow
Lite Micro's GreedyMemoryPlanner (greedy by size, first fit): inputs are free after their last use,
nothing is shared. What a kernel needs besides its tensors is in `scratch`; what TensorFlow
Lite Micro keeps at the other end of its arena is in `tail`.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from operator import attrgetter
from typing import Literal

from edgekit.graph.types import Graph, Op
from edgekit.profiling.links import QUANTIZERS
from edgekit.profiling.memory.offline import offline_offsets, outermost

Planner = Literal["tflite", "tflm"]
ALIGNMENT: dict[Planner, int] = {"tflite": 64, "tflm": 16}

# Operators whose output is their input's memory, as LiteRT's kernels declare it, and the same
# operators by their ONNX and OpenVINO names: those that leave the values as they are ...
_VIEWS = {"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "BITCAST"} | {
    *("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"),
}
# ... and those that write the result over an input that nobody else needs.
_OVERWRITE = {"ADD", "SUB", "MUL", "DIV", "SOFTMAX"} | {
    *("Add", "Sub", "Subtract", "Mul", "Multiply", "Div", "Divide", "Softmax"),
}
# ONNX and OpenVINO: what is part of the kernel before it, as what makes integers of floats is.
_FUSED = ("Add", "Clamp", "Clip", "Relu")
_ONE_SCALAR = 4  # bytes: TFLite does not share memory of tensors this small


@dataclass(frozen=True)
class Block:
    """Memory of one tensor, or of the tensors that share it.

    Attributes:
        tensor: index of the tensor, or None for a scratch buffer.
        bytes: size, without the gap that alignment may leave.
        first: index of the operator that first needs it.
        last: index of the operator that last needs it; the number of operators: never free.
        offset: place in the arena, in bytes.
    """

    tensor: int | None
    bytes: int
    first: int
    last: int
    offset: int = 0


@dataclass(frozen=True)
class MemoryPlan:
    """A packed arena.

    Attributes:
        blocks: in order of their offsets.
        arena_bytes: size of the arena.
        peak_bytes: largest sum of blocks live at once; no packing can do with less.
        peak_op: index of the operator where that is.
        persistent: TFLite's second arena, for what outlives an inference: variables, and weights
            that are dequantized before the first one. Not in the figures above.
        persistent_bytes: size of the second arena.
    """

    blocks: tuple[Block, ...]
    arena_bytes: int
    peak_bytes: int
    peak_op: int
    persistent: tuple[Block, ...] = ()
    persistent_bytes: int = 0


def plan(
    graph: Graph,
    *,
    planner: Planner = "tflite",
    alignment: int | None = None,
    scratch: Sequence[tuple[int, int]] = (),
) -> MemoryPlan:
    """Plans the arena of a graph's activations; free dimensions count as 1.

    Weights are not in the arena. TFLite Micro's variables are in the tail of its arena.

    Args:
        graph: any graph; its operators in execution order.
        planner: whose algorithm.
        alignment: of each block, in bytes; the planner's own by default.
        scratch: buffers that kernels ask for: (index of the operator, bytes).
    """
    step = ALIGNMENT[planner] if alignment is None else alignment
    persistent: list[Block] = []
    if planner == "tflm":
        blocks = _tflm_blocks(graph)
    else:
        everything = _tflite_blocks(graph)
        kept = _kept(graph)
        blocks = [block for block in everything if block.tensor not in kept]
        persistent = [block for block in everything if block.tensor in kept]
    blocks += [Block(None, size, op, op) for op, size in scratch]
    if planner == "tflm":
        offline = offline_offsets(graph)
        given = [block for block in blocks if block.tensor in offline]
        padded = [
            replace(block, bytes=-(-block.bytes // step) * step)
            for block in blocks
            if block.tensor not in offline
        ]
        # Of equal sizes, the one that was added last is placed first.
        order = sorted(padded, key=attrgetter("bytes"))[::-1]
        placed = pack(order, alignment=step, best_fit=False, given=given)
    else:
        end = len(graph.ops)
        placed = pack(sorted(blocks, key=partial(_turn, end)), alignment=step, best_fit=True)
    persistent = pack(persistent, alignment=step, best_fit=True)
    live = live_bytes(((b.bytes, b.first, b.last) for b in blocks), len(graph.ops))
    peak = max(live)
    return MemoryPlan(
        tuple(placed), _end(placed), peak, live.index(peak), tuple(persistent), _end(persistent)
    )


def live_bytes(blocks: Iterable[tuple[int, int, int]], ops: int) -> list[int]:
    """Bytes that are in use while each operator runs; one number for a graph without any.

    Args:
        blocks: bytes, the first operator that needs them, and the last.
        ops: number of operators.
    """
    changes = [0] * (ops + 2)
    for size, first, last in blocks:
        changes[first] += size
        changes[last + 1] -= size
    return list(accumulate(changes))[: max(ops, 1)]


def pack(
    order: Iterable[Block], *, alignment: int, best_fit: bool, given: Iterable[Block] = ()
) -> list[Block]:
    """Gives each block, in this order, a gap between those placed that live at the same time.

    Args:
        order: the blocks; empty ones get offset 0.
        alignment: of the offsets.
        best_fit: take the smallest gap that is large enough, else the first.
        given: blocks whose offsets are known.

    Returns:
        The blocks in order of their offsets.
    """
    placed = sorted(given, key=attrgetter("offset"))
    for block in order:
        best: int | None = None
        best_gap = 0
        end = 0
        for other in placed if block.bytes else ():
            if other.last < block.first or other.first > block.last or not other.bytes:
                continue
            start = -(-end // alignment) * alignment
            gap = other.offset - start
            if gap >= block.bytes and (best is None or gap < best_gap):
                best, best_gap = start, other.offset - end
                if not best_fit:
                    break
            end = max(end, other.offset + other.bytes)
        offset = -(-end // alignment) * alignment if best is None and block.bytes else best or 0
        insort(placed, replace(block, offset=offset), key=attrgetter("offset"))
    return placed


def _turn(end: int, block: Block) -> tuple[int, ...]:
    """When ArenaPlanner places a block; of equals, scratch and the last output come first."""
    if block.first == 0 and block.last == end:
        return (0,)
    if block.tensor is None:
        return (1, -block.bytes, block.first, 0)
    return (1, -block.bytes, block.first, 1, -block.tensor)


def _end(blocks: Iterable[Block]) -> int:
    return max((block.offset + block.bytes for block in blocks), default=0)


def _kept(graph: Graph) -> set[int]:
    """What TFLite keeps in its persistent arena."""
    if graph.format != "tflite":
        return set()
    return _fixed(graph) | variables(graph)


def _tflm_blocks(graph: Graph) -> list[Block]:
    fixed = _fixed(graph)
    offline = offline_offsets(graph)
    made = {port.tensor: 0 for port in graph.inputs} | dict.fromkeys(offline, 0)
    used: dict[int, int] = {}
    for op in graph.ops:
        made.update(dict.fromkeys(op.outputs, op.index))
        used.update(dict.fromkeys((*op.inputs, *op.outputs), op.index))
    used.update(dict.fromkeys((port.tensor for port in graph.outputs), max(len(graph.ops) - 1, 0)))
    blocks = [
        Block(
            tensor,
            graph.tensors[tensor].bytes,
            first,
            used.get(tensor, first),
            offline.get(tensor, 0),
        )
        for tensor, first in sorted(made.items())
        if tensor not in fixed
    ]
    inner = [block for block in blocks if block.tensor in offline]
    return [block for block in blocks if block not in inner] + outermost(inner)


def _tflite_blocks(graph: Graph) -> list[Block]:
    end = len(graph.ops)
    home = homes(graph)
    first: dict[int, int] = {}
    for tensor in _whole_life(graph):
        first.setdefault(tensor, 0)
    for op in graph.ops:
        for tensor in op.outputs:
            first.setdefault(home.get(tensor, tensor), op.index)
    waiting = _references(graph, home)
    last: dict[int, int] = {}
    for op in graph.ops:
        for tensor in (home.get(index, index) for index in op.inputs):
            waiting[tensor] -= 1
            if waiting[tensor] == 0:
                last[tensor] = op.index
    fixed = _fixed(graph)
    skip = {i for i in fixed if graph.tensors[i].constant or graph.format != "tflite"}
    return [
        Block(
            tensor,
            graph.tensors[tensor].bytes,
            0 if tensor in fixed else start,
            end if tensor in fixed else last.get(tensor, end),
        )
        for tensor, start in sorted(first.items())
        if tensor not in skip
    ]


def _fixed(graph: Graph) -> set[int]:
    """Constants, and tensors that are computed from constants alone."""
    fixed = {tensor.index for tensor in graph.tensors if tensor.constant}
    for op in graph.ops:
        if op.inputs and fixed.issuperset(op.inputs):
            fixed.update(op.outputs)
    return fixed


def variables(graph: Graph) -> set[int]:
    """Tensors that are neither constants of the file, nor inputs, nor made by an operator.

    Those whose place the file gives are scratch of an accelerator.
    """
    given = {tensor for op in graph.ops for tensor in op.outputs}
    given.update(port.tensor for port in graph.inputs)
    read = {tensor for op in graph.ops for tensor in op.inputs}
    given.update(offline_offsets(graph))
    return {tensor for tensor in read - given if not graph.tensors[tensor].constant}


def _whole_life(graph: Graph) -> list[int]:
    return [*(port.tensor for port in graph.inputs), *sorted(variables(graph))]


def _references(graph: Graph, home: Mapping[int, int]) -> dict[int, int]:
    """How often each tensor is needed; one that must survive counts once more."""
    needed = [*_whole_life(graph), *(port.tensor for port in graph.outputs)]
    counts: dict[int, int] = {}
    for tensor in (*needed, *(index for op in graph.ops for index in op.inputs)):
        place = home.get(tensor, tensor)
        counts[place] = counts.get(place, 0) + 1
    return counts


def homes(graph: Graph) -> dict[int, int]:
    """The tensor in whose memory another one lies, for those that share."""
    home = {} if graph.format == "tflite" else _quantized_homes(graph)
    kept = {port.tensor for port in graph.outputs}
    unfit = {port.tensor for port in graph.inputs} | _fixed(graph)
    counts = _references(graph, {})
    for op in graph.ops:
        if op.outputs and op.outputs[0] not in kept and op.outputs[0] not in home:
            source = _shared_input(graph, op, unfit, counts, home)
            if source is not None:
                home[op.outputs[0]] = source
    return home


def _shared_input(
    graph: Graph, op: Op, unfit: set[int], counts: Mapping[int, int], home: Mapping[int, int]
) -> int | None:
    size = graph.tensors[op.outputs[0]].bytes
    candidates = op.inputs[:1] if op.name in _VIEWS else op.inputs if op.name in _OVERWRITE else ()
    for tensor in candidates:
        if tensor in unfit or graph.tensors[tensor].bytes != size:
            continue
        place = home.get(tensor, tensor)
        alone = counts[tensor] == 1 and counts.get(place, 0) <= 1 and size > _ONE_SCALAR
        if op.name in _VIEWS or alone:
            return place
    return None


def _quantized_homes(graph: Graph) -> dict[int, int]:
    """Float tensors between quantizers never exist: one int8 kernel does what is between them."""
    uses = Counter(tensor for op in graph.ops for tensor in op.inputs)
    kept = {port.tensor for port in (*graph.inputs, *graph.outputs)}
    home: dict[int, int] = {}
    for op in reversed(graph.ops):
        if not op.inputs or not op.outputs or uses[op.inputs[0]] != 1 or op.inputs[0] in kept:
            continue
        if op.name in QUANTIZERS:
            home[op.inputs[0]] = op.outputs[0]
        elif op.name in _FUSED and op.outputs[0] in home:
            home[op.inputs[0]] = home[op.outputs[0]]
    for op in graph.ops:
        if op.name == "DequantizeLinear" and op.outputs[0] not in kept:
            home[op.outputs[0]] = home.get(op.inputs[0], op.inputs[0])
    return home
