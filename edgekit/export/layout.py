"""Which operators of an ONNX graph compute the same on tensors whose channels come first.

Layouts of rank 4 are told by turns: a turn moves the last axis behind the first, NHWC to NCHW.
Three turns are none.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.export.onnx_graph import OnnxGraph, Shape

ORDERS = ((0, 1, 2, 3), (0, 3, 1, 2), (0, 2, 3, 1))
"""The axes of a tensor after no turn, one and two."""

_RANK = 4
_FIRST = ORDERS[1]
_PLACE = ORDERS[2]  # of each axis after one turn
_UNARY = frozenset(
    {
        *("Abs", "Cast", "Ceil", "Clip", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid"),
        *("HardSwish", "Identity", "LeakyRelu", "Log", "Mish", "Neg", "Reciprocal", "Relu"),
        *("Round", "Selu", "Sigmoid", "Sign", "Softplus", "Sqrt", "Tanh"),
    }
)
_PAIRS = frozenset({"DequantizeLinear", "QuantizeLinear"})
_ELEMENTWISE = frozenset({"Add", "Div", "Max", "Min", "Mul", "PRelu", "Pow", "Sub", "Where"})
_ALONG_AXIS = frozenset({"Concat", "LogSoftmax", "Softmax", "Split"})
_REDUCTIONS = frozenset(
    {"ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum"}
)
_AXIS_OF_SOFTMAX = -1
_AXIS_OPSET = 13
"""Since when Softmax works along one axis, and Split takes the sizes as an input."""


class Layouts:
    """What can follow a turn in one graph, and how.

    Args:
        graph: the graph; `turned` adds constants to it.
    """

    def __init__(self, graph: OnnxGraph) -> None:
        self._graph = graph
        self.tensors = graph.tensors()
        self._opset = max(
            (known.version for known in graph.model.opset_import if known.domain == ""), default=0
        )

    def is_image(self, name: str) -> bool:
        """Whether a tensor is computed and has four axes."""
        known = name not in self._graph.constants and self._constant(name) is None
        return known and len(self.shape(name)) == _RANK

    def shape(self, name: str) -> Shape:
        """A tensor's shape, () if it is not known."""
        return self.tensors[name].shape if name in self.tensors else ()

    def turns(self, node: Any) -> int | None:
        """How many turns a node is that does nothing else: a Transpose, or a Reshape like one."""
        if node.op_type == "Transpose":
            order = tuple(self._graph.attributes(node).get("perm", ()))
            return ORDERS.index(order) if order in ORDERS else None
        if node.op_type == "Reshape":
            before, after = self.shape(node.input[0]), self.shape(node.output[0])
            for turns in range(len(ORDERS)):
                if self.moves_nothing(before, turns) and ordered(before, turns) == after:
                    return turns
        return None

    @staticmethod
    def moves_nothing(shape: Shape, turns: int) -> bool:
        """Whether the values of a tensor stand in the same order after a turn."""
        if len(shape) != _RANK or None in shape[1:]:
            return False
        long = [axis for axis in ORDERS[turns] if axis and shape[axis] != 1]
        return long == sorted(long)

    def can_follow(self, node: Any) -> bool:
        """Whether a node can compute on tensors after one turn, all that are images."""
        images = [name for name in node.input if self.is_image(name)]
        if node.domain not in ("", "ai.onnx") or not images:
            return False
        op, constants = node.op_type, self._graph.constants
        if op in _REDUCTIONS:
            return self._reduced(node) is not None
        if not all(self.is_image(name) for name in node.output):
            return False
        if op in _UNARY:
            return True
        if op in _PAIRS:
            return all(name in constants and constants[name].size == 1 for name in node.input[1:])
        if op in _ELEMENTWISE:
            return all(self._broadcasts(name) for name in node.input)
        if op in _ALONG_AXIS:
            return self._opset >= _AXIS_OPSET and (op != "Concat" or len(images) == len(node.input))
        if op == "Pad":
            return len(node.input) in (2, 3) and node.input[1] in constants
        return (
            op == "Slice"
            and len(node.input) > 3
            and all(name in constants for name in node.input[1:])
        )

    def turned(self, node: Any) -> list[Any]:
        """Nodes that compute on tensors after one turn what a node does before.

        They take and make the same names; the last one is the node itself, changed.
        """
        op, graph = node.op_type, self._graph
        made: list[Any] = []
        if op in _ELEMENTWISE:
            for index, name in enumerate(node.input):
                if not self.is_image(name):
                    node.input[index] = self._turned_constant(name, made)
        elif op in _ALONG_AXIS:
            default = 0 if op == "Split" else _AXIS_OF_SOFTMAX
            axis = graph.attributes(node).get("axis", default)
            self._set(node, "axis", _PLACE[axis % _RANK])
        elif op == "Pad":
            pads = graph.constants[node.input[1]].reshape(2, _RANK)[:, _FIRST].reshape(-1)
            node.input[1] = graph.constant(pads, f"{node.input[1]}__pads_first")
        elif op == "Slice":
            axes = [_PLACE[int(axis) % _RANK] for axis in graph.constants[node.input[3]]]
            node.input[3] = self._axes(axes)
        elif op in _REDUCTIONS:
            axes = sorted(self._reduced(node) or ())
            if "axes" in graph.attributes(node):
                self._set(node, "axes", axes)
            else:
                node.input[1] = self._axes(axes)
        return [*made, node]

    def _reduced(self, node: Any) -> list[int] | None:
        """Places of the axes that a node sums up after a turn; None if it cannot follow."""
        axes = self._graph.axes(node, _RANK)
        if not axes or not self.is_image(node.input[0]):
            return None
        kept = [_PLACE[axis] for axis in range(_RANK) if axis not in axes]
        if not self._graph.attributes(node).get("keepdims", 1) and kept != sorted(kept):
            return None
        return [_PLACE[axis] for axis in axes]

    def _constant(self, name: str) -> NDArray[Any] | None:
        """The values of a constant, those of integers behind a DequantizeLinear too."""
        constants = self._graph.constants
        if name in constants:
            return constants[name]
        maker = self._graph.maker.get(name)
        if maker is None or maker.op_type != "DequantizeLinear" or name in self._graph.outputs:
            return None
        if any(taken not in constants for taken in maker.input):
            return None
        return constants[maker.input[0]]

    def _broadcasts(self, name: str) -> bool:
        if self.is_image(name):
            return True
        value = self._constant(name)
        if value is None:
            return name in self.tensors and self.shape(name) == ()
        maker = self._graph.maker.get(name)
        scales = maker is not None and self._graph.constants[maker.input[1]].size > 1
        return value.ndim <= _RANK and not scales

    def _turned_constant(self, name: str, made: list[Any]) -> str:
        value = self._constant(name)
        if value is None or value.size == 1:
            return name
        turned = value.reshape(*(1,) * (_RANK - value.ndim), *value.shape).transpose(_FIRST)
        if value.ndim < _RANK:
            turned = turned[0]
        turned = np.ascontiguousarray(turned)
        maker = self._graph.maker.get(name)
        stored = name if maker is None else maker.input[0]
        new = self._graph.constant(turned, f"{stored}__first")
        if maker is None:
            return new
        real = f"{name}__first"
        if real not in self._graph.maker:
            node = self._graph.node("DequantizeLinear", [new, *maker.input[1:]], real)
            self._graph.maker[real] = node
            made.append(node)
        return real

    def _axes(self, axes: list[int]) -> str:
        name = "axes_" + "_".join(map(str, axes))
        return self._graph.constant(np.array(axes, np.int64), name)

    def _set(self, node: Any, name: str, value: Any) -> None:
        kept = [attribute for attribute in node.attribute if attribute.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, self._graph.helper.make_attribute(name, value)])


def ordered(shape: Shape, turns: int) -> Shape:
    """A shape after some turns."""
    return tuple(shape[axis] for axis in ORDERS[turns])
