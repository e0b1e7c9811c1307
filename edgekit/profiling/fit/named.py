"""Which of a file's operators a runtime means by the names that it tells times of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat

from edgekit.profiling.view import GraphView
from edgekit.runtimes.operators import OperatorTime

Indices = tuple[int, ...]


@dataclass(frozen=True)
class Told:
    """The time of one of a runtime's operators.

    Attributes:
        operators: indices of those of the file that it is told of; none: the runtime added it.
        seconds: of one inference.
    """

    operators: Indices
    seconds: float


def told(view: GraphView, times: Sequence[OperatorTime]) -> list[Told]:
    """Finds the operators that times are told of: by name, those without a name by type.

    Operators that share a name or type are told apart by their order, if as many times have it; if
    not, each of these times is told of all of them.

    Args:
        view: the file's graph.
        times: in order.
    """
    turns = _turns(_by_name(view), Counter(name for time in times for name in time.names))
    own = [
        tuple(chain.from_iterable(next(turns[name]) for name in time.names if name in turns))
        for time in times
    ]
    nameless = Counter(time.type for time, known in zip(times, own, strict=True) if not known)
    turns = _turns(_by_type(view, {*chain.from_iterable(own)}), nameless)
    return [
        Told(known or (next(turns[time.type]) if time.type in turns else ()), time.seconds)
        for time, known in zip(times, own, strict=True)
    ]


def _turns(
    groups: Mapping[str, Sequence[int]], uses: Mapping[str, int]
) -> dict[str, Iterator[Indices]]:
    """For each use of a group's name or type the operators that it may mean."""
    return {
        key: iter([(index,) for index in group])
        if len(group) == uses[key]
        else repeat(tuple(group))
        for key, group in groups.items()
    }


def _by_name(view: GraphView) -> dict[str, list[int]]:
    """Operators by their names, else by those of what they make, as runtimes name fused ones.

    One without a name ONNX Runtime calls by its type and place. Of those that share a name the
    fused ones are left out.
    """
    found: dict[str, list[int]] = {}
    for op in view.graph.ops:
        found.setdefault(op.node or f"{op.name}_{op.index}", []).append(op.index)
    for op in view.graph.ops:
        for tensor in view.tensors(op.outputs):
            found.setdefault(tensor.name, [op.index])
    return {name: [i for i in same if i not in view.free] or same for name, same in found.items()}


def _by_type(view: GraphView, known: set[int]) -> dict[str, list[int]]:
    """Operators that have no name and are not known, by their type; without fused ones."""
    found: dict[str, list[int]] = {}
    for op in view.graph.ops:
        if not op.node and op.index not in known | view.free:
            found.setdefault(op.name, []).append(op.index)
    return found
