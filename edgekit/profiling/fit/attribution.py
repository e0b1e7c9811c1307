"""Which of a file's operators the times of a runtime's operators belong to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgekit.graph.types import Op
from edgekit.profiling.fit.named import Told
from edgekit.profiling.view import GraphView


@dataclass(frozen=True)
class Part:
    """Operators of a file that only the sum of their times is known of.

    Attributes:
        operators: indices of operators that the view does not take for fused.
        seconds: of one inference.
        runs: of the runtime's operators whose times these are.
    """

    operators: frozenset[int]
    seconds: float
    runs: int = 1


def parts(view: GraphView, times: Sequence[Told]) -> list[Part]:
    """Divides a file's operators into parts by the operators that a runtime ran.

    What the runtime added, such as a change of layout, belongs to what runs next, or to what makes
    the input of that, if no time is told of it; at the beginning to the first operator, likewise. A
    fused operator belongs to the one whose kernel computes it; one that no time is told of to the
    one before it.

    Args:
        view: the file's graph.
        times: in order.
    """
    return list(_Division(view, times).parts())


class _Division:
    """Joins operators whose times came together."""

    def __init__(self, view: GraphView, times: Sequence[Told]) -> None:
        self._view = view
        self._joined: dict[int, int] = {}
        self._seconds: dict[int, float] = {}
        self._runs: dict[int, int] = {}
        owns = [self._own(time) for time in times]
        told = {index for own in owns for index in own}
        first = [op.index for op in view.graph.ops if op.index not in view.free][:1]
        added: list[float] = []
        last = None
        for time, own in zip(times, owns, strict=True):
            if not own and last in (None, *first) and not told & {*first}:
                own = first
            if not own:
                added.append(time.seconds)
                continue
            last = self._join(own)
            unknown = self._untold_source(last, told) if added else None
            if unknown is not None:
                self._add(self._join([unknown]), added)
                told.add(unknown)
                added = []
            self._add(last, [time.seconds, *added])
            added = []
        if last is not None:
            self._add(self._root(last), added)
        self._take_in_the_rest()

    def parts(self) -> Iterator[Part]:
        members: dict[int, set[int]] = {}
        for index in self._joined:
            members.setdefault(self._root(index), set()).add(index)
        for root, operators in members.items():
            yield Part(frozenset(operators), self._total(root), self._runs.get(root, 0))

    def _add(self, root: int, times: Sequence[float]) -> None:
        self._seconds[root] = self._total(root) + sum(times)
        self._runs[root] = self._runs.get(root, 0) + len(times)

    def _untold_source(self, index: int, told: set[int]) -> int | None:
        """An operator that no time is told of, but that makes the input of another."""
        sources = self._view.activations_in(self._view.graph.ops[index])
        hosts = (self._host(self._view.producers.get(tensor.index)) for tensor in sources)
        return next((op.index for op in hosts if op is not None and op.index not in told), None)

    def _own(self, time: Told) -> list[int]:
        """The operators that a time is told of; of fused ones only, the one that computes them."""
        live = [index for index in time.operators if index not in self._view.free]
        hosts = (self._host(self._view.graph.ops[index]) for index in time.operators)
        return live or [host.index for host in hosts if host is not None][:1]

    def _host(self, op: Op | None) -> Op | None:
        """The operator itself, one that computes the same, or the nearest before it not fused."""
        while op is not None and op.index in self._view.free:
            twin = self._twin(op)
            if twin is not None:
                return twin
            makers = map(self._view.producers.get, (t.index for t in self._view.activations_in(op)))
            op = next((maker for maker in makers if maker is not None), None)
        return op

    def _twin(self, op: Op) -> Op | None:
        """An operator that is not fused and computes the same of the same."""
        readers = self._view.consumers.get(op.inputs[0], []) if op.inputs else []
        same = (one for one in readers if (one.name, one.inputs) == (op.name, op.inputs))
        return next((one for one in same if one.index not in self._view.free), None)

    def _take_in_the_rest(self) -> None:
        for op in self._view.graph.ops:
            if op.index in self._view.free or op.index in self._joined:
                continue
            sources = [self._view.producers.get(t.index) for t in self._view.activations_in(op)]
            before = [host for host in map(self._host, sources) if host is not None]
            known = [host.index for host in before if host.index in self._joined]
            if known:
                self._join([known[0], op.index])

    def _join(self, operators: Sequence[int]) -> int:
        first = self._root(operators[0])
        for other in operators[1:]:
            root = self._root(other)
            if root != first:
                self._seconds[first] = self._total(first) + self._seconds.pop(root, 0.0)
                self._runs[first] = self._runs.get(first, 0) + self._runs.pop(root, 0)
                self._joined[root] = first
        return first

    def _root(self, index: int) -> int:
        while self._joined.setdefault(index, index) != index:
            index = self._joined[index]
        return index

    def _total(self, root: int) -> float:
        return self._seconds.get(root, 0.0)
