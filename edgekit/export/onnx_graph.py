"""An ONNX graph under rewriting: its constants, and who makes and reads each tensor."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.base.extras import require

_PURPOSE = "to convert to ONNX"
Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Tensor:
    """What is known of a tensor: its shape, None for free sizes, and bytes an element."""

    shape: Shape
    width: int


class OnnxGraph:
    """A model's graph, rewritten in place; call `index` after nodes have come or gone.

    Args:
        model: an `onnx.ModelProto` whose nodes stand in topological order.
    """

    def __init__(self, model: Any) -> None:
        self.model, self.graph = model, model.graph
        self.numpy = require("onnx.numpy_helper", purpose=_PURPOSE)
        self.helper = require("onnx.helper", purpose=_PURPOSE)
        self.constants: dict[str, NDArray[Any]] = {
            value.name: self.numpy.to_array(value) for value in self.graph.initializer
        }
        self.inputs = {value.name for value in self.graph.input} - set(self.constants)
        self.outputs = {value.name for value in self.graph.output}
        self.index()

    def index(self) -> None:
        """Looks up anew who makes and who reads each tensor."""
        self.maker = {name: node for node in self.graph.node for name in node.output}
        self.readers: dict[str, list[Any]] = {}
        for node in self.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def only_reader(self, name: str, op: str) -> Any | None:
        """The one node of this operator that reads a tensor that no one else reads."""
        readers = self.readers.get(name, [])
        alone = len(readers) == 1 and name not in self.outputs and readers[0].op_type == op
        return readers[0] if alone else None

    def constant(self, value: NDArray[Any], name: str) -> str:
        """The name of an initializer with this value."""
        if name not in self.constants:
            self.constants[name] = value
            self.graph.initializer.append(self.numpy.from_array(value, name))
        return name

    def node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> Any:
        """A new node, named after what it makes; who made that before may be named as it."""
        name = f"{output}__{op.lower()}"
        return self.helper.make_node(op, inputs, [output], name=name, **attributes)

    def insert_before(self, node: Any, new: Any) -> None:
        """Puts a node before another one."""
        self.graph.node.insert(list(self.graph.node).index(node), new)

    def attributes(self, node: Any) -> dict[str, Any]:
        """A node's attributes by name."""
        return {a.name: self.helper.get_attribute_value(a) for a in node.attribute}

    def parameters(self, node: Any) -> tuple[float, int] | None:
        """Scale and zero point of a per-tensor int8 quantize or dequantize node."""
        if len(node.input) <= 2 or any(name not in self.constants for name in node.input[1:3]):
            return None
        scale, zero = (self.constants[name] for name in node.input[1:3])
        if scale.size != 1 or zero.dtype != np.int8:
            return None
        return float(scale.item()), int(zero.item())

    def conversions(self, node: Any) -> tuple[Any, Any, tuple[float, int]] | None:
        """The dequantization before a node and the quantization after it, if they are alike.

        Returns:
            Both nodes, and the scale and zero point that they share.
        """
        dequantize = self.maker.get(node.input[0])
        quantize = self.only_reader(node.output[0], "QuantizeLinear")
        if dequantize is None or quantize is None or dequantize.op_type != "DequantizeLinear":
            return None
        parameters = self.parameters(dequantize)
        if parameters is None or parameters != self.parameters(quantize):
            return None
        return dequantize, quantize, parameters

    def tensors(self) -> dict[str, Tensor]:
        """The tensors whose shapes can be inferred."""
        inference = require("onnx.shape_inference", purpose=_PURPOSE)
        graph = inference.infer_shapes(self.model).graph
        found = {}
        for value in (*graph.input, *graph.value_info, *graph.output):
            kind = value.type.tensor_type
            if kind.HasField("shape") and kind.elem_type:
                sizes = (d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)
                width = self.helper.tensor_dtype_to_np_dtype(kind.elem_type).itemsize
                found[value.name] = Tensor(tuple(sizes), width)
        return found

    def axes(self, node: Any, rank: int) -> list[int] | None:
        """What a node has as axes, an attribute or an input, counted from the first; None: none."""
        axes = self.attributes(node).get("axes")
        if axes is None and len(node.input) > 1 and node.input[1] in self.constants:
            axes = self.constants[node.input[1]]
        return None if axes is None else [int(axis) % rank for axis in axes]

    def drop_unread(self) -> None:
        """Removes nodes whose results no one reads, those that only they read, and constants."""
        read = set(self.outputs)
        kept: list[Any] = []
        for node in reversed(self.graph.node):
            if read.intersection(node.output):
                kept.append(node)
                read.update(reads(node))
        if len(kept) < len(self.graph.node):
            self.replace_nodes(kept[::-1])
        for value in [v for v in self.graph.initializer if v.name not in read]:
            self.graph.initializer.remove(value)
            del self.constants[value.name]
        self.index()

    def replace_nodes(self, nodes: Collection[Any]) -> None:
        """Puts other nodes, some of them perhaps the same, in place of all."""
        nodes = list(nodes)
        del self.graph.node[:]
        self.graph.node.extend(nodes)
        self.index()


def all_read(graph: Any) -> set[str]:
    """What the nodes of a graph read, and the graph's outputs."""
    return {value.name for value in graph.output}.union(*(reads(node) for node in graph.node))


def reads(node: Any) -> set[str]:
    """What a node reads, also in the graphs that it has inside."""
    inside = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return set(node.input).union(*(all_read(graph) for graph in inside))
