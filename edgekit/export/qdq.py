"""Makes a quantize-dequantize ONNX graph compute, in ONNX Runtime, what TFLite computes.

The converter's graph means the right thing; these rewrites make the runtime's integer kernels
apply to it, whose arithmetic (32-bit sums, one float32 rescale, ties to even) is XNNPACK's. On
x86 convolutions and dense layers then agree bit for bit; a sum of two tensors does but for up to 3
of its 65,536 pairs of inputs, where XNNPACK's 21-bit factors round the other way, and a product but
for up to 2. Where the scales of a product are in a round ratio, as 1 to 100, it meets exact ties,
up to 2.5% of the pairs: XNNPACK rounds those to even before the zero point is added, ONNX Runtime
after. Products of two activations by matrices and squared differences, which LiteRT computes
without XNNPACK, agree too: see `qdq_rounding`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.export.onnx_graph import OnnxGraph
from edgekit.export.qdq_padding import INT8_HIGH, INT8_LOW, pad_integers
from edgekit.export.qdq_rounding import round_differences, round_products
from edgekit.runtimes.metadata import IoRecord

# Operators that move or select integers without looking at them.
_MOVES = {
    "Clip",
    "Concat",
    "DepthToSpace",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "MaxPool",
    "Pad",
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
_SAME_TYPE = {"Add", "Mul"}
_TO_UINT8 = 128
_AWAY = 2.0**-18


def refine(model: Any, tensors: IoRecord) -> None:
    """Rewrites an int8 quantize-dequantize model in place; its meaning stays the same.

    Args:
        model: an `onnx.ModelProto` whose inputs and outputs are those of `tensors`, in order.
        tensors: the master's inputs and outputs.
    """
    graph = OnnxGraph(model)
    saturate_integers(graph)
    pad_integers(graph)
    break_ties_away_from_zero(graph)
    round_products(graph)
    round_differences(graph)
    average_over_channels_first(graph)
    store_activations_unsigned(graph, tensors)
    graph.drop_unread()
    del model.graph.value_info[:]


def saturate_integers(graph: OnnxGraph) -> None:
    """Removes Relu and Clip where the quantization after them saturates at the same values.

    Where it does not, as before a concatenation that has one scale for all, the integers are
    clipped instead: the layer before has an integer kernel only if its result is quantized.
    """
    for node in [n for n in graph.graph.node if n.op_type in ("Relu", "Clip")]:
        quantize = graph.only_reader(node.output[0], "QuantizeLinear")
        parameters = graph.parameters(quantize) if quantize is not None else None
        bounds = _bounds(graph, node)
        if quantize is None or parameters is None or bounds is None:
            continue
        scale, zero = parameters
        quantize.input[0] = node.input[0]
        graph.graph.node.remove(node)
        lowest, highest = (scale * (limit - zero) for limit in (INT8_LOW, INT8_HIGH))
        if lowest >= bounds[0] - scale / 100 and highest <= bounds[1] + scale / 100:
            continue
        ends = np.clip(np.rint(np.array(bounds) / scale) + zero, INT8_LOW, INT8_HIGH)
        made, whole = quantize.output[0], f"{quantize.output[0]}__whole"
        limits = [
            graph.constant(np.array(end, np.int8), f"{made}__{word}")
            for end, word in zip(ends, ("lowest", "highest"), strict=True)
        ]
        quantize.output[0] = whole
        clip = graph.node("Clip", [whole, *limits], made)
        graph.graph.node.insert(list(graph.graph.node).index(quantize) + 1, clip)
    graph.index()


def _bounds(graph: OnnxGraph, node: Any) -> tuple[float, float] | None:
    if node.op_type == "Relu":
        return 0.0, float("inf")
    low, high = [*node.input[1:3], "", ""][:2]
    if any(name and name not in graph.constants for name in (low, high)):
        return None
    return (
        float(graph.constants[low].item()) if low else float("-inf"),
        float(graph.constants[high].item()) if high else float("inf"),
    )


def break_ties_away_from_zero(graph: OnnxGraph) -> None:
    """Averages of integers hit exact halves, which TFLite rounds away from the integer zero.

    ONNX rounds them to even. Averaging the plain integers and dividing by a scale a hair under 1
    moves halves, and nothing else, over the edge.
    """
    for node in [n for n in graph.graph.node if n.op_type in _MEANS]:
        around = graph.conversions(node)
        if around is None:
            continue
        dequantize, quantize, _ = around
        one = graph.constant(np.array(1.0, np.float32), "integer_scale")
        zero = graph.constant(np.array(0, np.int8), "integer_zero")
        away = graph.constant(np.array(1.0 - _AWAY, np.float32), "ties_away_scale")
        integers = f"{node.output[0]}__integers"
        graph.insert_before(
            node,
            graph.node("DequantizeLinear", [dequantize.input[0], one, zero], integers),
        )
        node.input[0] = integers
        quantize.input[1], quantize.input[2] = away, zero
    graph.index()


def average_over_channels_first(graph: OnnxGraph) -> None:
    """Turns means over all places of an image into GlobalAveragePool.

    ONNX Runtime has an integer kernel for it, one operator instead of three. It wants channels
    first, as the layers before have them: a transposition for the mean is left out.
    """
    tensors = graph.tensors()
    for node in [n for n in graph.graph.node if n.op_type == "ReduceMean"]:
        dequantize = graph.maker.get(node.input[0])
        quantize = graph.only_reader(node.output[0], "QuantizeLinear")
        if dequantize is None or quantize is None or dequantize.op_type != "DequantizeLinear":
            continue
        source, *parameters = dequantize.input
        axes = graph.axes(node, 4)
        kept = graph.attributes(node).get("keepdims", 1)
        maker = graph.maker.get(source)
        if axes is None or source not in tensors or len(tensors[source].shape) != 4:
            continue
        if maker is not None and maker.op_type == "Transpose" and not kept:
            order = graph.attributes(maker).get("perm", [])
            axes, source = [order[axis] for axis in axes], maker.input[0]
        if sorted(axes) != [2, 3]:
            continue
        made = quantize.output[0]
        images, means = f"{made}__images", f"{made}__means"
        pooled = made if kept else f"{made}__pooled"
        nodes = [
            graph.node("DequantizeLinear", [source, *parameters], images),
            graph.node("GlobalAveragePool", [images], means),
            graph.node("QuantizeLinear", [means, *quantize.input[1:]], pooled),
        ]
        if not kept:
            nodes.append(graph.node("Flatten", [pooled], made, axis=1))
        for new in nodes:
            graph.insert_before(node, new)
        graph.graph.node.remove(node)
        graph.graph.node.remove(quantize)
        graph.index()
    graph.drop_unread()


def store_activations_unsigned(graph: OnnxGraph, tensors: IoRecord) -> None:
    """Turns int8 activations inside the model into uint8 with zero points 128 higher.

    The same values: but on x86 ONNX Runtime has fused integer kernels for uint8 activations with
    int8 weights only (on Arm for both), and computes others in float32. Inputs and outputs stay
    int8. Left undone where an operator computes with the integers themselves.
    """
    activations = _int8_activations(graph, tensors)
    if activations is None:
        return
    ends = {
        info.name: _neighbour(graph, info.name, forward=info in tensors.inputs)
        for info in (*tensors.inputs, *tensors.outputs)
        if info.name in activations
    }
    if None in ends.values():  # what only moves integers has no scale to turn them with
        return
    _store_operands_unsigned(graph)
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
            _convert_input(graph, info.name, ends[info.name])
    for info in tensors.outputs:
        if info.name in activations:
            _convert_output(graph, info.name, ends[info.name])
    graph.index()


def _store_operands_unsigned(graph: OnnxGraph) -> None:
    """Turns int8 constants of sums and products into uint8: integer kernels take one type."""
    for node in [n for n in graph.graph.node if n.op_type == "DequantizeLinear"]:
        stored, zero = node.input[0], node.input[2] if len(node.input) > 2 else ""
        operators = [
            reader
            for reader in graph.readers.get(node.output[0], [])
            if reader.op_type in _SAME_TYPE
        ]
        if not operators or stored not in graph.constants or graph.parameters(node) is None:
            continue
        name = f"{node.output[0]}__u8"
        inputs = [_unsigned(graph, stored), node.input[1], _unsigned(graph, zero)]
        graph.insert_before(node, graph.node("DequantizeLinear", inputs, name))
        for reader in operators:
            reader.input[:] = [name if one == node.output[0] else one for one in reader.input]
    graph.index()


def _int8_activations(graph: OnnxGraph, tensors: IoRecord) -> set[str] | None:
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


def _unsigned(graph: OnnxGraph, name: str) -> str:
    value = graph.constants[name]
    return graph.constant((value.astype(np.int16) + _TO_UINT8).astype(np.uint8), f"{name}__u8")


def _requantize(
    graph: OnnxGraph, source: str, target: str, like: Any, *, unsigned: bool
) -> list[Any]:
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


def _convert_input(graph: OnnxGraph, name: str, like: Any) -> None:
    inner = f"{name}__u8"
    for node in graph.graph.node:
        node.input[:] = [inner if i == name else i for i in node.input]
    for node in reversed(_requantize(graph, name, inner, like, unsigned=True)):
        graph.graph.node.insert(0, node)


def _convert_output(graph: OnnxGraph, name: str, like: Any) -> None:
    inner = f"{name}__u8"
    for node in graph.graph.node:
        node.input[:] = [inner if i == name else i for i in node.input]
        node.output[:] = [inner if o == name else o for o in node.output]
    graph.graph.node.extend(_requantize(graph, inner, name, like, unsigned=False))


def _neighbour(graph: OnnxGraph, name: str, *, forward: bool) -> Any | None:
    """The quantize or dequantize node that a tensor reaches over moves."""
    reached = [name]
    for tensor in reached:
        maker = graph.maker.get(tensor)
        nodes = graph.readers.get(tensor, []) if forward else [maker] if maker else []
        for node in nodes:
            if node.op_type == ("DequantizeLinear" if forward else "QuantizeLinear"):
                return node
            reached += node.output if forward else node.input
    return None
