"""Padding in a quantize-dequantize ONNX graph, of integers or by the layers themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.export.onnx_graph import OnnxGraph

INT8_LOW, INT8_HIGH = -128, 127
_IMAGE = 4  # axes


def pad_integers(graph: OnnxGraph) -> None:
    """Pads the integers themselves, or has the layer behind do it, instead of the real values.

    Convolutions pad with the zero point, which is the value zero; a maximum leaves its padding out,
    as if it were the least value that there can be.
    """
    for node in [n for n in graph.graph.node if n.op_type == "Pad"]:
        around = graph.conversions(node)
        if around is None:
            continue
        dequantize, quantize, (scale, zero) = around
        value = graph.constants.get(node.input[2]) if len(node.input) > 2 else np.zeros(())
        if value is None:
            continue
        filled = np.clip(np.rint(value / np.float32(scale)) + zero, INT8_LOW, INT8_HIGH)
        fill = graph.constant(filled.astype(np.int8), f"{node.output[0]}__fill")
        node.input[:] = [dequantize.input[0], node.input[1], fill]
        node.output[0] = quantize.output[0]
        graph.graph.node.remove(quantize)
        graph.index()
        _pad_in_layers(graph, node, int(filled.item()), zero)


def _pad_in_layers(graph: OnnxGraph, pad: Any, fill: int, zero: int) -> None:
    """Leaves a Pad of integers to the layers that read it, if all of them can."""
    amounts = graph.constants[pad.input[1]] if pad.input[1] in graph.constants else np.zeros(0)
    constant = graph.attributes(pad).get("mode", b"constant") == b"constant"
    read = graph.readers.get(pad.output[0], [])
    if graph.outputs & {pad.output[0], *(node.output[0] for node in read)}:
        return
    if len(pad.input) > 3 or amounts.size != 2 * _IMAGE or not constant:
        return
    if amounts.min() < 0 or amounts.reshape(2, _IMAGE)[:, :2].any():
        return
    if any(node.op_type != "DequantizeLinear" for node in read):
        return
    layers = [layer for node in read for layer in graph.readers.get(node.output[0], [])]
    ends = amounts.reshape(2, _IMAGE)[:, 2:].reshape(-1)
    maker = graph.maker.get(pad.input[0])
    lowest = INT8_LOW
    if maker is not None and maker.op_type == "Clip":
        lowest = int(graph.constants[maker.input[1]].item())
    if any(not _can_pad(graph, layer, ends, (fill, zero, lowest)) for layer in layers):
        return
    for layer in layers:
        pads = np.array(graph.attributes(layer).get("pads", [0] * 4)) + ends
        kept = [attribute for attribute in layer.attribute if attribute.name != "pads"]
        del layer.attribute[:]
        layer.attribute.extend([*kept, graph.helper.make_attribute("pads", pads.tolist())])
    for node in read:
        node.input[0] = pad.input[0]
    graph.graph.node.remove(pad)
    graph.index()


def _can_pad(
    graph: OnnxGraph, layer: Any, ends: NDArray[Any], integers: tuple[int, int, int]
) -> bool:
    """Whether padding a layer's input with an integer is the same as more padding of its own.

    Args:
        graph: the graph.
        layer: the layer.
        ends: how much is padded, at the begin and at the end of each axis.
        integers: that it is padded with, of the value zero, and the least that the input has.
    """
    (fill, zero, lowest), attributes = integers, graph.attributes(layer)
    if attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        return False
    if layer.op_type == "Conv":
        return fill == zero and list(layer.input).count(layer.input[0]) == 1
    if layer.op_type != "MaxPool" or attributes.get("ceil_mode", 0):
        return False
    pads = np.array(attributes.get("pads", [0] * 4)) + ends
    return fill <= lowest and bool(np.all(pads < attributes["kernel_shape"] * 2))
