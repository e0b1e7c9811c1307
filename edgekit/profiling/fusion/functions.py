"""What several runtimes fuse: functions in several operators, and paddings."""

from __future__ import annotations

from edgekit.graph.types import Op
from edgekit.profiling.links import Links

_CONVOLUTIONS = frozenset({"conv", "pointwise", "depthwise"})
ELEMENTWISE = frozenset({"activation", "elementwise", "normalization"})
_MOST_PARTS = 8
_OVER_MANY = frozenset(
    {
        "GROUPNORMALIZATION", "INSTANCENORMALIZATION", "L2NORMALIZATION", "LAYERNORM",
        "LAYERNORMALIZATION", "LOGSOFTMAX", "LPNORMALIZATION", "LRN", "MVN", "NORMALIZEL2",
        "SOFTMAX",
    }
)  # fmt: skip


def over_many(op: Op) -> bool:
    """Whether a value that an operator gives depends on many: a mean, a softmax, a layer norm.

    It begins when the operator before has ended, and is no part of that one's kernel.
    """
    return op.kind == "reduce" or op.name.upper().replace("_", "") in _OVER_MANY


def pads_convolutions(links: Links, op: Op) -> bool:
    """Whether only convolutions read what an operator pads."""
    readers = links.consumers.get(op.outputs[0], [])
    return bool(readers) and all(reader.kind in _CONVOLUTIONS for reader in readers)


def one_function(links: Links, source: int, readers: list[Op]) -> list[Op]:
    """Operators that compute one function of each value of a tensor, such as GELU in parts."""
    found: list[Op] = []
    inside, waiting = {source}, list(readers)
    while waiting and len(found) < _MOST_PARTS:
        ready = (o for o in waiting if {t.index for t in links.activations_in(o)} <= inside)
        op = next(ready, None)
        if op is None or op.kind not in ELEMENTWISE:
            return []
        found.append(op)
        inside.update(op.outputs)
        waiting = [one for one in waiting if one is not op]
        if not waiting:
            return found if len(found) > 1 else []
        readers = links.consumers.get(op.outputs[0], [])
        waiting += [one for one in readers if one not in waiting]
    return []
