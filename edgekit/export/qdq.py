"""Makes a quantize-dequantize ONNX graph compute, in ONNX Runtime, what TFLite computes.

The converter's graph means the right thing; these rewrites make the runtime's integer kernels
apply to it, whose arithmetic (32-bit sums, one float32 rescale, ties to even) is XNNPACK's. On
x86 convolutions and dense layers then agree bit for bit; a sum of two tensors does but for a few
of its 65,536 pairs of inputs, where XNNPACK's 21-bit factors round the other way.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.base.extras import require
from edgekit.runtimes.metadata import IoRecord

# Operators that move or select integers without looking at them.
_MOVES = {
    "Concat",
    "DepthToSpace",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "MaxPool",
    "Reshape",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
}
_MEANS = {"AveragePool", "GlobalAveragePool", "ReduceMean"}
_INT8_LOW, _INT8_HIGH, _TO_UINT8 = -128, 127, 128
_AWAY = 2.0**-18


class _Graph:
    """A model's graph with its constants, and who makes and reads each tensor."""

    def __init__(self, model: Any) -> None:
        self.graph = model.graph
        self.numpy = require("onnx.numpy_helper", purpose="to convert to ONNX")
        self.helper = require("onnx.helper", purpose="to convert to ONNX")
        self.constants: dict[str, NDArray[Any]] = {
            value.name: self.numpy.to_array(value) for value in self.graph.initializer
        }
        self.outputs = {value.name for value in self.graph.output}
        self.index()

    def index(self) -> None:
        self.maker = {name: node for node in self.graph.node for name in node.output}
        self.readers: dict[str, list[Any]] = {}
        for node in self.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def only_reader(self, name: str, op: str) -> Any | None:
        readers = self.readers.get(name, [])
        alone = len(readers) == 1 and name not in self.outputs and readers[0].op_type == op
        return readers[0] if alone else None

    def constant(self, value: NDArray[Any], name: str) -> str:
        """The name of an initializer with this value."""
        if name not in self.constants:
            self.constants[name] = value
            self.graph.initializer.append(self.numpy.from_array(value, name))
        return name

    def insert_before(self, node: Any, new: Any) -> None:
        self.graph.node.insert(list(self.graph.node).index(node), new)

    def parameters(self, node: Any) -> tuple[float, int] | None:
        """Scale and zero point of a per-tensor int8 quantize or dequantize node."""
        if len(node.input) <= 2 or any(name not in self.constants for name in node.input[1:3]):
            return None
        scale, zero = (self.constants[name] for name in node.input[1:3])
        if scale.size != 1 or zero.dtype != np.int8:
            return None
        return float(scale.item()), int(zero.item())


def refine(model: Any, tensors: IoRecord) -> None:
    """Rewrites an int8 quantize-dequantize model in place; its meaning stays the same.

    Args:
        model: an `onnx.ModelProto` whose inputs and outputs are those of `tensors`, in order.
        tensors: the master's inputs and outputs.
    """
    graph = _Graph(model)
    drop_implied_activations(graph)
    break_ties_away_from_zero(graph)
    average_over_channels_first(graph)
    store_activations_unsigned(graph, tensors)
    _drop_unused_constants(graph)
    del model.graph.value_info[:]


def drop_implied_activations(graph: _Graph) -> None:
    """Removes Relu and Clip where the quantization after them saturates at the same values."""
    for node in [n for n in graph.graph.node if n.op_type in ("Relu", "Clip")]:
        quantize = graph.only_reader(node.output[0], "QuantizeLinear")
        parameters = graph.parameters(quantize) if quantize is not None else None
        bounds = _bounds(graph, node)
        if quantize is None or parameters is None or bounds is None:
            continue
        scale, zero = parameters
        lowest, highest = (scale * (limit - zero) for limit in (_INT8_LOW, _INT8_HIGH))
        if lowest >= bounds[0] - scale / 100 and highest <= bounds[1] + scale / 100:
            quantize.input[0] = node.input[0]
            graph.graph.node.remove(node)
    graph.index()


def _bounds(graph: _Graph, node: Any) -> tuple[float, float] | None:
    if node.op_type == "Relu":
        return 0.0, float("inf")
    low, high = [*node.input[1:3], "", ""][:2]
    if any(name and name not in graph.constants for name in (low, high)):
        return None
    return (
        float(graph.constants[low].item()) if low else float("-inf"),
        float(graph.constants[high].item()) if high else float("inf"),
    )


def break_ties_away_from_zero(graph: _Graph) -> None:
    """Averages of integers hit exact halves, which TFLite rounds away from the integer zero.

    ONNX rounds them to even. Averaging the plain integers and dividing by a scale a hair under 1
    moves halves, and nothing else, over the edge.
    """
    for node in [n for n in graph.graph.node if n.op_type in _MEANS]:
        dequantize = graph.maker.get(node.input[0])
        quantize = graph.only_reader(node.output[0], "QuantizeLinear")
        if dequantize is None or quantize is None or dequantize.op_type != "DequantizeLinear":
            continue
        parameters = graph.parameters(dequantize)
        if parameters is None or parameters != graph.parameters(quantize):
            continue
        one = graph.constant(np.array(1.0, np.float32), "integer_scale")
        zero = graph.constant(np.array(0, np.int8), "integer_zero")
        away = graph.constant(np.array(1.0 - _AWAY, np.float32), "ties_away_scale")
        integers = f"{node.output[0]}__integers"
        graph.insert_before(
            node,
            graph.helper.make_node(
                "DequantizeLinear", [dequantize.input[0], one, zero], [integers], name=integers
            ),
        )
        node.input[0] = integers
        quantize.input[1], quantize.input[2] = away, zero
    graph.index()


def average_over_channels_first(graph: _Graph) -> None:
    """Turns means over all places of an image into GlobalAveragePool.

    ONNX Runtime has an integer kernel for it, one operator instead of three. It wants channels
    first, as the layers before have them: the transposition for the mean is left out.
    """
    for node in [n for n in graph.graph.node if n.op_type == "ReduceMean"]:
        dequantize = graph.maker.get(node.input[0])
        quantize = graph.only_reader(node.output[0], "QuantizeLinear")
        if dequantize is None or quantize is None or dequantize.op_type != "DequantizeLinear":
            continue
        attributes = {a.name: graph.helper.get_attribute_value(a) for a in node.attribute}
        known = len(node.input) > 1 and node.input[1] in graph.constants
        transpose = graph.maker.get(dequantize.input[0])
        if attributes.get("keepdims", 1) or not known or transpose is None:
            continue
        order = [list(a.ints) for a in transpose.attribute if transpose.op_type == "Transpose"]
        axes = graph.constants[node.input[1]]
        if not order or len(order[0]) != 4 or sorted(order[0][axis] for axis in axes) != [2, 3]:
            continue
        source, parameters = transpose.input[0], dequantize.input[1:]
        flat = quantize.output[0]
        pooled, images, means = (f"{flat}__{word}" for word in ("pooled", "images", "means"))
        made = [
            ("DequantizeLinear", [source, *parameters], images, {}),
            ("GlobalAveragePool", [images], means, {}),
            ("QuantizeLinear", [means, *quantize.input[1:]], pooled, {}),
            ("Flatten", [pooled], flat, {"axis": 1}),
        ]
        for op, inputs, output, options in made:
            new = graph.helper.make_node(op, inputs, [output], name=output, **options)
            graph.insert_before(node, new)
        graph.graph.node.remove(node)
        graph.graph.node.remove(quantize)
        graph.index()
    _drop_unread(graph)


def _drop_unread(graph: _Graph) -> None:
    """Removes nodes whose results no one reads any more, and those that only they read."""
    for node in reversed(list(graph.graph.node)):
        if not any(graph.readers.get(name) or name in graph.outputs for name in node.output):
            graph.graph.node.remove(node)
            graph.index()


def store_activations_unsigned(graph: _Graph, tensors: IoRecord) -> None:
    """Turns int8 activations inside the model into uint8 with zero points 128 higher.

    The same values: but on x86 ONNX Runtime has fused integer kernels for uint8 activations with
    int8 weights only (on Arm for both), and computes others in float32. Inputs and outputs stay
    int8. Left undone where an operator computes with the integers themselves.
    """
    activations = _int8_activations(graph, tensors)
    if activations is None:
        return
    for node in list(graph.graph.node):
        carries = node.input[0] if node.op_type == "DequantizeLinear" else node.output[0]
        if node.op_type in ("DequantizeLinear", "QuantizeLinear") and carries in activations:
            node.input[2] = _unsigned(graph, node.input[2])
        elif node.op_type in _MOVES and node.output[0] in activations:
            for index, name in enumerate(node.input):
                if name in graph.constants and graph.constants[name].dtype == np.int8:
                    node.input[index] = _unsigned(graph, name)
    for info in tensors.inputs:
        if info.name in activations:
            _convert_input(graph, info.name)
    for info in tensors.outputs:
        if info.name in activations:
            _convert_output(graph, info.name)
    graph.index()


def _int8_activations(graph: _Graph, tensors: IoRecord) -> set[str] | None:
    """All int8 tensors that are not weights, or None if an operator computes with them."""
    known = {info.name for info in tensors.inputs if info.dtype == "int8"}
    for node in graph.graph.node:
        if node.op_type == "QuantizeLinear":
            if len(node.input) > 2 and graph.constants[node.input[2]].dtype == np.int8:
                known.add(node.output[0])
        elif node.op_type == "DequantizeLinear":
            continue
        elif any(name in known for name in node.input):
            if node.op_type not in _MOVES:
                return None
            known.update(node.output)
    return known


def _unsigned(graph: _Graph, name: str) -> str:
    value = graph.constants[name]
    return graph.constant((value.astype(np.int16) + _TO_UINT8).astype(np.uint8), f"{name}__u8")


def _requantize(graph: _Graph, source: str, target: str, like: Any, *, unsigned: bool) -> list[Any]:
    """Nodes that turn int8 `source` into uint8 `target`, or back, with the parameters of `like`."""
    scale, zero_u8 = like.input[1], like.input[2]
    value = (graph.constants[zero_u8].astype(np.int16) - _TO_UINT8).astype(np.int8)
    zero_s8 = graph.constant(value, f"{zero_u8}__s8")
    first, second = (zero_s8, zero_u8) if unsigned else (zero_u8, zero_s8)
    real = f"{target}__real"
    return [
        graph.helper.make_node("DequantizeLinear", [source, scale, first], [real], name=real),
        graph.helper.make_node(
            "QuantizeLinear", [real, scale, second], [target], name=f"{target}__requantized"
        ),
    ]


def _convert_input(graph: _Graph, name: str) -> None:
    like = _neighbour(graph, name, forward=True)
    inner = f"{name}__u8"
    for node in graph.graph.node:
        node.input[:] = [inner if i == name else i for i in node.input]
    for node in reversed(_requantize(graph, name, inner, like, unsigned=True)):
        graph.graph.node.insert(0, node)


def _convert_output(graph: _Graph, name: str) -> None:
    like = _neighbour(graph, name, forward=False)
    inner = f"{name}__u8"
    for node in graph.graph.node:
        node.input[:] = [inner if i == name else i for i in node.input]
        node.output[:] = [inner if o == name else o for o in node.output]
    graph.graph.node.extend(_requantize(graph, inner, name, like, unsigned=False))


def _neighbour(graph: _Graph, name: str, *, forward: bool) -> Any:
    """The quantize or dequantize node that a tensor reaches over moves."""
    node = graph.readers[name][0] if forward else graph.maker[name]
    while node.op_type in _MOVES:
        node = graph.readers[node.output[0]][0] if forward else graph.maker[node.input[0]]
    return node


def _drop_unused_constants(graph: _Graph) -> None:
    graph.index()
    for value in [v for v in graph.graph.initializer if v.name not in graph.readers]:
        graph.graph.initializer.remove(value)
