"""Channels that are zero whatever the input, and the graph without them.

Training drives whole filters to zero: 971 of the 1496 of MLPerf Tiny's MobileNetV1 (depthwise ones
apart), of which 818 give only zeros. Code generators leave such channels out, which changes no
output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.graph.dead_channels import dead_channels
from edgekit.graph.types import Graph, Op, Tensor

Values = Callable[[int], NDArray[Any]]
_Found = Mapping[int, NDArray[np.bool_]]

_ACTIVATIONS = {"NONE", "RELU", "RELU6"}
_FILTERS = {"CONV_2D", "FULLY_CONNECTED", "DEPTHWISE_CONV_2D"}
_EACH_CHANNEL = {"MAX_POOL_2D", "AVERAGE_POOL_2D", "PAD", "RELU", "RELU6"}
_TO_VECTOR = {"MEAN", "RESHAPE"}
_SYMMETRIC = {"int8", "float32"}


def with_zero_channels(graph: Graph, values: Values) -> Graph:
    """Marks in a TFLite graph how many channels of each tensor are always zero.

    A channel of a convolution or of a dense layer is, if its filter has only zeros where its input
    has not, and its bias becomes zero by rounding or by its activation (`Tensor.zero_channels`).

    Args:
        graph: as read from a .tflite file.
        values: what the file holds for a constant tensor, by index.
    """
    found = zero_channels(graph, values)
    if not found:
        return graph
    dead = dead_channels(graph, found)
    tensors = list(graph.tensors)
    for index, zero in found.items():
        gone = int(dead[index].sum()) if index in dead else 0
        tensors[index] = replace(tensors[index], zero_channels=int(zero.sum()), dead_channels=gone)
    return replace(graph, tensors=tuple(tensors))


def zero_channels(graph: Graph, values: Values) -> dict[int, NDArray[np.bool_]]:
    """Which channels of each tensor are always zero, for tensors that have some.

    Args:
        graph: as read from a .tflite file.
        values: what the file holds for a constant tensor, by index; ValueError for packed ones.
    """
    found: dict[int, NDArray[np.bool_]] = {}
    for op in graph.ops:
        zero = _zero_outputs(graph, op, values, found)
        if zero is not None and zero.any():
            found[op.outputs[0]] = zero
    return found


def without_zero_channels(graph: Graph) -> Graph:
    """The graph as a runtime computes it that leaves out channels which are always zero.

    Shapes and multiply-accumulates are those of the other channels; operators stay what they are.
    """
    if not any(tensor.zero_channels for tensor in graph.tensors):
        return graph
    tensors = list(graph.tensors)
    ops = []
    for op in graph.ops:
        share = 1.0
        if op.name in _FILTERS and op.macs:
            share = _shrunk_filters(graph, op, tensors)
        ops.append(replace(op, macs=round(op.macs * share)))
    for tensor in graph.tensors:
        if tensor.zero_channels:
            tensors[tensor.index] = _last(tensor, tensor.zero_channels)
    return replace(graph, tensors=tuple(tensors), ops=tuple(ops))


def _zero_outputs(graph: Graph, op: Op, values: Values, found: _Found) -> NDArray[np.bool_] | None:
    """Which channels of an operator's output are zero; None if it cannot be told."""
    if not op.inputs or not op.outputs:
        return None
    output = graph.tensors[op.outputs[0]]
    channels = (output.shape[-1] if output.shape else None) or 0
    if op.name in _FILTERS:
        return _zero_filters(graph, op, values, found)
    known = [found.get(i) for i in op.inputs if not graph.tensors[i].constant]
    if op.name == "ADD":
        both = [one for one in known if one is not None and len(one) == channels]
        return np.logical_and(*both) if len(both) == len(op.inputs) == 2 else None
    if known and known[0] is not None and len(known[0]) == channels:
        vector = op.name in _TO_VECTOR and output.elements == channels
        return known[0] if op.name in _EACH_CHANNEL or vector else None
    return None


def _zero_filters(graph: Graph, op: Op, values: Values, found: _Found) -> NDArray[np.bool_] | None:
    tensors = [graph.tensors[index] for index in op.inputs]
    if op.attributes.get("fused_activation_function") not in _ACTIVATIONS or len(tensors) < 2:
        return None
    weights = tensors[1]
    if not weights.constant or weights.dtype not in _SYMMETRIC or _offset(weights):
        return None
    try:
        kernel = values(weights.index)
        bias = _bias(tensors[2], values) if len(tensors) > 2 else None
    except ValueError:  # sparse: without dense values
        return None
    if kernel.ndim < 2 or not kernel.size:
        return None
    zero_inputs = found.get(op.inputs[0])
    if op.name == "DEPTHWISE_CONV_2D":
        if zero_inputs is None or kernel.shape[-1] != len(zero_inputs):
            return None
        zero = zero_inputs.copy()
    else:
        zero = _only_zeros(kernel, zero_inputs)
    if bias is None or not zero.any():
        return zero
    if bias.size != zero.size:
        return None
    output = graph.tensors[op.outputs[0]]
    step = output.quantization.scale[0] if output.quantization else 0.0
    steps = np.round(bias / step) if step else bias
    rectified = op.attributes["fused_activation_function"] != "NONE"
    return np.asarray(zero & ((steps <= 0) if rectified else (steps == 0)))


def _only_zeros(kernel: NDArray[Any], zero_inputs: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """Filters, first axis, with zeros only for the inputs, last axis, that are not zero anyway."""
    live = None
    if zero_inputs is not None and len(zero_inputs) == kernel.shape[-1]:
        live = np.flatnonzero(~zero_inputs)
    flat = kernel.reshape(len(kernel), -1, kernel.shape[-1])
    first = int(live[0]) if live is not None and len(live) else 0
    zero = np.asarray(flat[:, 0, first] == 0)  # few are, so that few filters are read in full
    for index in np.flatnonzero(zero):
        used = flat[index] if live is None else flat[index][:, live]
        zero[index] = not used.any()
    return zero


def _bias(tensor: Tensor, values: Values) -> NDArray[np.float64]:
    stored = values(tensor.index).astype(np.float64).reshape(-1)
    scale = tensor.quantization.scale if tensor.quantization else (1.0,)
    return np.asarray(stored * np.asarray(scale), dtype=np.float64)


def _offset(tensor: Tensor) -> bool:
    return tensor.quantization is not None and any(tensor.quantization.zero_point)


def _shrunk_filters(graph: Graph, op: Op, tensors: list[Tensor]) -> float:
    """Shrinks an operator's constants in place; the share of its work that is left."""
    data, weights, *rest = (graph.tensors[index] for index in op.inputs)
    output = graph.tensors[op.outputs[0]]
    share = _live(output)
    shrunk = [*weights.shape]
    channel = -1 if op.name == "DEPTHWISE_CONV_2D" else 0
    shrunk[channel] = _less(weights.shape[channel], output.zero_channels)
    if channel == 0 and weights.shape[-1] == data.shape[-1]:  # no groups
        shrunk[-1] = _less(weights.shape[-1], data.zero_channels)
        share *= _live(data)
    tensors[weights.index] = replace(weights, shape=tuple(shrunk))
    for bias in rest[:1]:
        tensors[bias.index] = _last(bias, output.zero_channels)
    return share


def _live(tensor: Tensor) -> float:
    channels = (tensor.shape[-1] if tensor.shape else 0) or 0
    return _less(channels, tensor.zero_channels) / channels if channels else 1.0


def _last(tensor: Tensor, fewer: int) -> Tensor:
    return replace(tensor, shape=(*tensor.shape[:-1], _less(tensor.shape[-1], fewer)))


def _less(size: int | None, fewer: int) -> int:
    return max(1, (size or 1) - fewer)
