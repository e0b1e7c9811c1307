"""Stores the images inside an ONNX graph channels first where that takes fewer transpositions.

The converter puts convolutions between transpositions and moves those past most operators, but not
past arithmetic with constants behind a DequantizeLinear, past activation functions spelled out, and
what lies beside them. ONNX Runtime removes many of them when it loads a file; others do not.

Operators that compute the same in either layout, connected without a transposition between them,
make a region. A region is stored channels first as a whole, or stays.
"""

from __future__ import annotations

from collections import defaultdict
from math import prod
from typing import Any

import numpy as np

from edgekit.export.layout import ORDERS, Layouts, ordered
from edgekit.export.onnx_graph import OnnxGraph

_SUFFIX = ("", "__channels_first", "__channels_last")
Cost = tuple[int, int, int]
"""Transpositions, reshapings that stand for one, bytes that are moved."""


def store_channels_first(model: Any) -> None:
    """Removes transpositions between channels-last and channels-first regions, in place.

    The model computes the same, bit for bit, and has no more transpositions than before. Models
    with graphs inside nodes (If, Loop) stay as they are.

    Args:
        model: an `onnx.ModelProto` whose nodes stand in topological order, opset 11 or later.
    """
    graph = OnnxGraph(model)
    if any(a.HasField("g") for node in graph.graph.node for a in node.attribute):
        return
    plan = _Plan(graph, Layouts(graph))
    plan.choose()
    _Rewriter(plan).rewrite()
    graph.drop_unread()
    known = set(graph.maker)
    for value in [v for v in model.graph.value_info if v.name not in known]:
        model.graph.value_info.remove(value)


class _Plan:
    """Who needs which tensor after how many turns, and which nodes are to be turned.

    Attributes:
        origin: of each image: the tensor that it is, and after how many turns.
        turned: of each node, by number, whether it is to compute channels first.
    """

    def __init__(self, graph: OnnxGraph, layouts: Layouts) -> None:
        self.graph, self.layouts = graph, layouts
        self.nodes = list(graph.graph.node)
        self.origin: dict[str, tuple[str, int]] = {}
        self.maker: dict[str, int] = {}
        self.readers: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self.exits: dict[str, set[int]] = defaultdict(set)
        self.turned: dict[int, bool] = {}
        self.changes: set[int] = set()
        for name in graph.inputs:
            if layouts.is_image(name):
                self.origin[name] = (name, 0)
        for number, node in enumerate(self.nodes):
            self._place(number, node)
        for name in graph.outputs & set(self.origin):
            root, turns = self.origin[name]
            self.exits[root].add(turns)

    def _place(self, number: int, node: Any) -> None:
        source = self.origin.get(node.input[0]) if node.input else None
        turns = self.layouts.turns(node) if source else None
        if source is not None and turns is not None:
            self.changes.add(number)
            self.origin[node.output[0]] = (source[0], (source[1] + turns) % len(ORDERS))
            return
        if self.layouts.can_follow(node):
            self.turned[number] = False
        for name in dict.fromkeys(node.input):
            if name in self.origin:
                root, turns = self.origin[name]
                self.readers[root].append((number, turns))
        for name in node.output:
            if self.layouts.is_image(name):
                self.origin[name], self.maker[name] = (name, 0), number

    def choose(self) -> None:
        """Turns regions as long as that makes the graph cheaper."""
        regions = self._regions()
        found = True
        while found:
            found = False
            for region in regions:
                roots = {self.origin[name][0] for n in region for name in self._images(n)}
                before = self._costs(roots)
                self._flip(region)
                if self._costs(roots) < before:
                    found = True
                else:
                    self._flip(region)

    def _flip(self, region: list[int]) -> None:
        for number in region:
            self.turned[number] = not self.turned[number]

    def _images(self, number: int) -> list[str]:
        node = self.nodes[number]
        return [name for name in (*node.input, *node.output) if name in self.origin]

    def _regions(self) -> list[list[int]]:
        """Nodes that can follow a turn, grouped by the tensors that they share as they are."""
        group = {number: number for number in self.turned}

        def top(number: int) -> int:
            while group[number] != number:
                group[number] = group[group[number]]
                number = group[number]
            return number

        sharing: dict[tuple[str, int], list[int]] = defaultdict(list)
        for number in self.turned:
            for name in self._images(number):
                sharing[self.origin[name]].append(number)
        for first, *others in sharing.values():
            for other in others:
                group[top(other)] = top(first)
        regions: dict[int, list[int]] = defaultdict(list)
        for number in self.turned:
            regions[top(number)].append(number)
        return list(regions.values())

    def made(self, root: str) -> int:
        """After how many turns a tensor is made."""
        return int(self.turned.get(self.maker.get(root, -1), False))

    def needed(self, root: str) -> set[int]:
        """After how many turns else it is read."""
        read = {
            (turns + self.turned.get(number, False)) % len(ORDERS)
            for number, turns in self.readers[root]
        }
        return (read | self.exits[root]) - {self.made(root)}

    def is_reshaping(self, root: str, turns: int) -> bool:
        """Whether a tensor, as it is made, gets another order of axes without being moved."""
        made = self.made(root)
        shape = ordered(self.layouts.shape(root), made)
        return self.layouts.moves_nothing(shape, (turns - made) % len(ORDERS))

    def _costs(self, roots: set[str]) -> Cost:
        transposed = reshaped = moved = 0
        for root in roots:
            tensor = self.layouts.tensors[root]
            for turns in self.needed(root):
                if self.is_reshaping(root, turns):
                    reshaped += 1
                else:
                    transposed += 1
                    moved += tensor.width * prod(size or 1 for size in tensor.shape)
        return transposed, reshaped, moved


class _Rewriter:
    """Writes the graph anew as planned."""

    def __init__(self, plan: _Plan) -> None:
        self._plan, self._graph = plan, plan.graph
        self._known: dict[tuple[str, int], list[str]] = defaultdict(list)
        for name, place in plan.origin.items():
            self._known[place].append(name)
        for names in self._known.values():  # names of the model's outputs have to stay
            names.sort(key=lambda name: name not in self._graph.outputs)

    def rewrite(self) -> None:
        plan, made = self._plan, []
        for name in [name for name in self._graph.inputs if name in plan.origin]:
            made += self._layouts_of(name)
        for number, node in enumerate(plan.nodes):
            if number in plan.changes:
                continue
            turned = plan.turned.get(number, False)
            made += plan.layouts.turned(node) if turned else [node]
            for index, name in enumerate(node.input):
                if name in plan.origin:
                    root, turns = plan.origin[name]
                    node.input[index] = self._name(root, (turns + turned) % len(ORDERS))
            for index, name in enumerate(node.output):
                if name in plan.maker:
                    node.output[index] = self._name(name, plan.made(name))
                    made += self._layouts_of(name)
        self._graph.replace_nodes(made)

    def _name(self, root: str, turns: int) -> str:
        if turns == 0:
            return root
        known = self._known[root, turns]
        return known[0] if known else root + _SUFFIX[turns]

    def _layouts_of(self, root: str) -> list[Any]:
        """Nodes that make a tensor's other layouts of the one that it is made in."""
        plan = self._plan
        made = plan.made(root)
        source, nodes = self._name(root, made), []
        for turns in sorted(plan.needed(root)):
            name, moved = self._name(root, turns), (turns - made) % len(ORDERS)
            if plan.is_reshaping(root, turns):
                _, *sizes = ordered(plan.layouts.shape(root), turns)
                shape = np.array([0, *(size or 0 for size in sizes)], np.int64)  # 0: as it is
                constant = self._graph.constant(shape, f"{name}__shape")
                nodes.append(self._graph.node("Reshape", [source, constant], name))
            else:
                order = list(ORDERS[moved])
                nodes.append(self._graph.node("Transpose", [source], name, perm=order))
        for turns in range(len(ORDERS)):
            name = self._name(root, turns)
            others = set(self._known[root, turns]) & self._graph.outputs - {name}
            nodes += [self._graph.node("Identity", [name], other) for other in sorted(others)]
        return nodes
