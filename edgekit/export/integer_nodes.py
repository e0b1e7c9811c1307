"""Which operators of a float ONNX graph ONNX Runtime is to run in integers, and where floats stay.

A convolution runs in integers only if its result is rounded too; a dense layer gives floats for
free. So convolutions, and what takes nothing but their results and has an integer kernel, make one
region of integers. A dense layer's result is rounded only where layers are all that read it, which
round it anyway; what attention, normalizations and activation functions compute stays float, and so
do the outputs of the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgekit.export.onnx_graph import all_read, reads

CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
"""Operators that have an integer kernel only where their result is rounded."""

_DENSE = frozenset({"Gemm", "MatMul"})
LAYERS = CONVOLUTIONS | _DENSE
"""Operators that multiply by weights, or two activations with each other."""

_MOVES = frozenset({"Flatten", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"})
_SATURATES = frozenset({"Clip", "Relu"})
_KERNELS = frozenset(
    {
        *("Add", "AveragePool", "Concat", "GlobalAveragePool", "LeakyRelu", "MaxPool"),
        *("Mul", "Pad", "Resize", "Sigmoid", "Split"),
    }
)


@dataclass(frozen=True)
class IntegerNodes:
    """A choice among the nodes of a graph.

    Attributes:
        names: of the nodes that take integers.
        makers: of those, the ones whose results are integers.
    """

    names: frozenset[str]
    makers: frozenset[str]


def integer_nodes(model: Any) -> IntegerNodes:
    """Chooses the nodes of a float model that are to run in integers.

    Args:
        model: an `onnx.ModelProto` whose nodes have names and stand in topological order.
    """
    graph = model.graph
    constants = {value.name for value in graph.initializer}
    rounded = _rounded_anyway(graph)
    integers: set[str] = set()
    names, makers = set(), set()
    for node in graph.node:
        if node.op_type in LAYERS:
            names.add(node.name)
            whole = node.op_type in CONVOLUTIONS or node.output[0] in rounded
        else:
            known = node.op_type in _MOVES | _SATURATES | _KERNELS
            taken = _activations(node, constants)
            whole = known and bool(taken) and integers.issuperset(taken)
            if whole:
                names.add(node.name)
        if whole:
            makers.add(node.name)
            integers.update(node.output)
    return IntegerNodes(frozenset(names), frozenset(makers))


def keep_floats(model: Any, chosen: IntegerNodes) -> None:
    """Drops the rounding of tensors that are to stay float from a quantized model, in place.

    Args:
        model: an `onnx.ModelProto` with a QuantizeLinear and a DequantizeLinear for each tensor
            that one of the chosen nodes takes or makes, read by all that read the tensor.
        chosen: what `integer_nodes` found in the float model.
    """
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    quantized = {node.output[0]: node for node in graph.node if node.op_type == "QuantizeLinear"}
    outputs = {value.name for value in graph.output}
    for node in [n for n in graph.node if n.op_type == "DequantizeLinear"]:
        quantize = quantized.get(node.input[0])
        if quantize is None:
            continue  # a constant
        real, rounded = quantize.input[0], node.output[0]
        maker = makers.get(real)
        if maker is not None and maker.name in chosen.makers:
            continue
        for reader in graph.node:
            if reader.name not in chosen.names:
                _rename(reader.input, rounded, real)
        if rounded in outputs and maker is not None:
            for other in graph.node:
                _rename(other.input, rounded, f"{rounded}__rounded")
            node.output[0] = f"{rounded}__rounded"
            for other in graph.node:
                _rename(other.input, real, rounded)
            _rename(maker.output, real, rounded)
    _drop_unread(graph)


def _activations(node: Any, constants: set[str]) -> list[str]:
    """What a node takes that is no constant; of those that move, without the new shape."""
    taken = node.input[:1] if node.op_type in _MOVES | _SATURATES else node.input
    return [name for name in taken if name and name not in constants]


def _rounded_anyway(graph: Any) -> set[str]:
    """Tensors that nothing reads but layers, at once or after moves and saturation."""
    readers: dict[str, list[Any]] = {value.name: [] for value in graph.output}
    read_as_real = set(readers)
    for node in graph.node:
        for name in reads(node):
            readers.setdefault(name, []).append(node)
    found: set[str] = set()
    for node in reversed(graph.node):
        for name in node.output:
            if name in read_as_real or not readers.get(name):
                continue
            if all(
                name in reader.input[:2]
                if reader.op_type in LAYERS
                else reader.op_type in _MOVES | _SATURATES and reader.output[0] in found
                for reader in readers[name]
            ):
                found.add(name)
    return found


def _rename(names: Any, old: str, new: str) -> None:
    for index, name in enumerate(names):
        if name == old:
            names[index] = new


def _drop_unread(graph: Any) -> None:
    """Removes the rounding that no one reads."""
    for kind in ("DequantizeLinear", "QuantizeLinear"):
        read = all_read(graph)
        for node in [n for n in graph.node if n.op_type == kind and n.output[0] not in read]:
            graph.node.remove(node)
    read = all_read(graph)
    for value in [v for v in graph.initializer if v.name not in read]:
        graph.initializer.remove(value)
