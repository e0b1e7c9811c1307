"""Which of the channels that are always zero a file can do without.

A channel goes from the filter that makes it to the weights that read it, through all tensors
between: from each of them, or from none. What mixes channels, and the graph's outputs, keep theirs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edgekit.graph.types import Graph, Op

Masks = Mapping[int, NDArray[np.bool_]]
"""By tensor, which channels of its last axis."""

_WEIGHTED = {"CONV_2D", "FULLY_CONNECTED"}
_ALONG = {"AVERAGE_POOL_2D", "DEPTHWISE_CONV_2D", "MAX_POOL_2D", "PAD", "RELU", "RELU6"}
_TO_VECTOR = {"MEAN", "RESHAPE"}
_WHOLE = {"int8", "float32"}


def dead_channels(graph: Graph, zero: Masks) -> dict[int, NDArray[np.bool_]]:
    """The channels of each tensor that can be taken out of a TFLite graph, if there are any.

    Args:
        graph: as read from a .tflite file.
        zero: the channels that are zero whatever the input.
    """
    if not zero:
        return {}
    ties = _Ties()
    for port in (*graph.inputs, *graph.outputs):
        ties.keep(port.tensor)
    for op in graph.ops:
        _tie(graph, op, ties)
    found: dict[int, NDArray[np.bool_]] = {}
    for members in ties.groups():
        masks = [zero[index] for index in members if index in zero]
        if len(masks) < len(members) or len({len(mask) for mask in masks}) > 1:
            continue
        dead: NDArray[np.bool_] = np.logical_and.reduce(masks)
        if dead.any():
            found |= dict.fromkeys(members, dead)
    return found


def kept_channels(dead: NDArray[np.bool_], multiple: int) -> NDArray[np.int64]:
    """The channels that stay: those that are not dead, and as many of these as fill a multiple.

    At least one stays, and all do where a multiple would need more than there are.
    """
    live = int((~dead).sum())
    wanted = min(-(-max(live, 1) // multiple) * multiple, len(dead))
    filling = np.flatnonzero(dead)[: wanted - live]
    return np.sort(np.concatenate([np.flatnonzero(~dead), filling]))


def removable_channels(graph: Graph, multiple: int) -> dict[int, int]:
    """How many channels of each tensor go where those that stay fill a multiple; without zeros."""
    found = {}
    for tensor in graph.tensors:
        size = tensor.shape[-1] if tensor.shape else None
        if not tensor.dead_channels or not size:
            continue
        dead = np.arange(size) < tensor.dead_channels
        gone = size - len(kept_channels(dead, multiple))
        if gone:
            found[tensor.index] = gone
    return found


class _Ties:
    """Tensors that have their channels together (union-find), and those that keep them."""

    def __init__(self) -> None:
        self._parents: dict[int, int] = {}
        self._kept: set[int] = set()

    def keep(self, index: int) -> None:
        self._kept.add(index)

    def tie(self, one: int, other: int) -> None:
        self._parents[self._root(one)] = self._root(other)

    def groups(self) -> list[list[int]]:
        """The tensors that may lose channels together."""
        kept = {self._root(index) for index in self._kept}
        found: dict[int, list[int]] = defaultdict(list)
        for index in list(self._parents):
            if self._root(index) not in kept:
                found[self._root(index)].append(index)
        return list(found.values())

    def _root(self, index: int) -> int:
        parents = self._parents
        while parents.setdefault(index, index) != index:
            index = parents[index]
        return index


def _tie(graph: Graph, op: Op, ties: _Ties) -> None:
    read = [index for index in op.inputs if index >= 0 and not graph.tensors[index].constant]
    if op.name in _WEIGHTED and _plain(graph, op) and len(read) == 1:
        ties.tie(op.outputs[0], op.outputs[0])
        return
    if _passes(graph, op, read):
        for index in read:
            ties.tie(index, op.outputs[0])
        return
    for index in (*read, *op.outputs):
        ties.keep(index)


def _plain(graph: Graph, op: Op) -> bool:
    """Whether weights read and make channels one by one: constant, whole bytes, no groups."""
    data, weights = (graph.tensors[index] for index in op.inputs[:2])
    made = graph.tensors[op.outputs[0]]
    shapes = bool(data.shape and weights.shape and made.shape)
    return (
        shapes
        and weights.constant
        and weights.dtype in _WHOLE
        and weights.shape[-1] == data.shape[-1]
        and weights.shape[0] == made.shape[-1]
        and op.attributes.get("weights_format", "DEFAULT") == "DEFAULT"
    )


def _passes(graph: Graph, op: Op, read: list[int]) -> bool:
    """Whether the channels of the output are those of what it reads, one by one."""
    if len(op.outputs) != 1 or not read:
        return False
    made = graph.tensors[op.outputs[0]]
    given = [graph.tensors[index] for index in read]
    if not made.shape or any(one.shape[-1:] != made.shape[-1:] for one in given):
        return False
    if op.name == "ADD":
        return len(op.inputs) == 2 == len(read) and all(one.shape == made.shape for one in given)
    if op.name in _TO_VECTOR:
        vector = made.elements == made.shape[-1]
        return vector and (op.name == "MEAN" or given[0].elements == made.elements)
    if op.name == "DEPTHWISE_CONV_2D":
        weights = graph.tensors[op.inputs[1]]
        plain = weights.constant and weights.dtype in _WHOLE
        return plain and len(read) == 1 and weights.shape[-1:] == made.shape[-1:]
    return op.name in _ALONG and len(read) == 1
