"""An order of execution that needs less memory.

A graph with branches can run in many orders, and a file has the one that its converter came upon.
After Liberis and Lane, "Neural networks on microcontrollers: saving memory at inference via
operator reordering", 2019: dynamic programming over the sets of operators that have run, which are
as many as the graph has antichains; what is alive depends on the set alone, not on its past.
Where a level has more sets than `width`, the best are kept, and the order is no longer proven best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edgekit.graph.types import Graph
from edgekit.profiling.memory.arena import Planner, homes, plan, variables
from edgekit.profiling.memory.offline import offline_offsets

WIDTH = 1000


@dataclass(frozen=True)
class Order:
    """An order of execution.

    Attributes:
        ops: indices of the operators in the file's order.
        peak_bytes: largest sum of live blocks.
        arena_bytes: size of the arena.
        exact: whether no order has a lower peak.
    """

    ops: tuple[int, ...]
    peak_bytes: int
    arena_bytes: int
    exact: bool


@dataclass(frozen=True)
class _Span:
    """A block of memory: who touches it, as a bit mask, and whether it outlives them."""

    bytes: int
    ops: int
    before: bool
    after: bool


@dataclass(frozen=True)
class _State:
    peak: int
    live: int
    path: tuple[int, ...]


def best_order(
    graph: Graph,
    *,
    planner: Planner = "tflite",
    scratch: Sequence[tuple[int, int]] = (),
    width: int = WIDTH,
) -> Order:
    """Finds an order with the lowest peak; the file's own where none is lower.

    A file whose memory a compiler laid out keeps its order.

    Args:
        graph: any graph; operators on the same variable keep their order.
        planner: whose rules say what lives how long.
        scratch: buffers of kernels: (index of the operator, bytes).
        width: most sets to keep of those with equally many operators.
    """
    found = plan(graph, planner=planner, scratch=scratch)
    ops, exact = None, True
    if not offline_offsets(graph):
        ops, exact = _search(graph, planner, scratch, found.peak_bytes, width)
    if ops is None:
        ops = tuple(range(len(graph.ops)))
    else:
        place = {op: position for position, op in enumerate(ops)}
        moved = [(place[op], size) for op, size in scratch]
        found = plan(reordered(graph, ops), planner=planner, scratch=moved)
    return Order(ops, found.peak_bytes, found.arena_bytes, exact)


def reordered(graph: Graph, ops: Sequence[int]) -> Graph:
    """The graph with its operators in another order; `ops` are indices in the present one."""
    moved = tuple(replace(graph.ops[op], index=index) for index, op in enumerate(ops))
    return replace(graph, ops=moved)


def _search(
    graph: Graph, planner: Planner, scratch: Sequence[tuple[int, int]], limit: int, width: int
) -> tuple[tuple[int, ...] | None, bool]:
    """An order with a peak below `limit`, if there is one, and whether all were looked at."""
    needs = _needs(graph)
    spans = _spans(graph, planner)
    touched: dict[int, list[_Span]] = {op.index: [] for op in graph.ops}
    for span in spans:
        for op in touched:
            if span.ops >> op & 1:
                touched[op].append(span)
    extra = dict.fromkeys(touched, 0)
    for op, size in scratch:
        extra[op] += size
    exact = True
    level = {0: _State(0, sum(span.bytes for span in spans if span.before), ())}
    for _ in graph.ops:
        following: dict[int, _State] = {}
        for done, state in level.items():
            for op, need in needs.items():
                if done >> op & 1 or need & ~done:
                    continue
                now = done | 1 << op
                new = sum(s.bytes for s in touched[op] if not (s.before or s.ops & done))
                old = sum(s.bytes for s in touched[op] if not (s.after or s.ops & ~now))
                peak = max(state.peak, state.live + new + extra[op])
                known = following.get(now)
                if peak < limit and (known is None or peak < known.peak):
                    following[now] = _State(peak, state.live + new - old, (*state.path, op))
        if len(following) > width:
            exact = False
            best = sorted(following.items(), key=lambda item: (item[1].peak, item[1].live))
            following = dict(best[:width])
        level = following
    ends = [state for state in level.values() if len(state.path) == len(graph.ops)]
    return (ends[0].path if ends and graph.ops else None), exact


def _needs(graph: Graph) -> dict[int, int]:
    """What must have run before each operator, as bit masks."""
    makers = {tensor: op.index for op in graph.ops for tensor in op.outputs}
    state = variables(graph)
    needs: dict[int, int] = {}
    last: dict[int, int] = {}  # who touched a variable last
    for op in graph.ops:
        mask = 0
        for tensor in op.inputs:
            before = last.get(tensor) if tensor in state else makers.get(tensor)
            if before is not None and before != op.index:
                mask |= 1 << before
            if tensor in state:
                last[tensor] = op.index
        needs[op.index] = mask
    return needs


def _spans(graph: Graph, planner: Planner) -> list[_Span]:
    home: Mapping[int, int] = homes(graph) if planner == "tflite" else {}
    users: dict[int, int] = {}
    read: set[int] = set()
    for op in graph.ops:
        for tensor in (*op.inputs, *op.outputs):
            place = home.get(tensor, tensor)
            users[place] = users.get(place, 0) | 1 << op.index
        read.update(home.get(tensor, tensor) for tensor in op.inputs)
    given = {port.tensor for port in graph.inputs}
    kept = {home.get(port.tensor, port.tensor) for port in graph.outputs}
    if planner == "tflite":
        kept |= given | (users.keys() - read)
    blocks = [block.tensor for block in plan(graph, planner=planner).blocks]
    return [
        _Span(graph.tensors[block].bytes, users.get(block, 0), block in given, block in kept)
        for block in blocks
        if block is not None
    ]
