"""Scratch buffers of LiteRT's own kernels, which lie in the arena with the tensors.

After tensorflow/lite/kernels/{conv,depthwise_conv,fully_connected,transpose_conv}.cc and
unidirectional_sequence_lstm.cc of TensorFlow 2.21, with one thread and without XNNPACK. XNNPACK
takes over whole parts of a graph and gives their inner tensors memory of its own, outside of the
arena: what LiteRT then allocates is the arena of what is left, a workspace that XNNPACK packs
greedily by size too, and a copy of the weights in the order in which its kernels read them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

from edgekit.graph.types import Graph, Op, Tensor, dtype_bits

Scratch = tuple[int, int]
"""Index of the operator, and bytes."""


def litert_scratch(graph: Graph) -> list[Scratch]:
    """Buffers that LiteRT's kernels ask for besides their tensors, on one thread."""
    found = []
    for op in graph.ops:
        kernel = _KERNELS.get(op.name)
        if kernel is not None and graph.format == "tflite":
            found += asked(op, partial(kernel, graph, op))
    return found


def asked(op: Op, kernel: Callable[[], Iterator[int]]) -> list[Scratch]:
    """What a kernel asks for; nothing for an operator that no runtime would take."""
    try:
        return [(op.index, size) for size in kernel() if size]
    except (IndexError, ValueError):  # fewer inputs or dimensions than the operator has
        return []


def _conv(graph: Graph, op: Op) -> Iterator[int]:
    """The patches of the input as a matrix (im2col), except for a 1x1 kernel with stride 1."""
    source, weights = (graph.tensors[index] for index in op.inputs[:2])
    steps = [op.attributes.get(key, 1) for key in _STEPS]
    rows = math.prod(size or 1 for size in graph.tensors[op.outputs[0]].shape[:3])
    hybrid = weights.dtype != source.dtype
    if weights.shape[1:3] != (1, 1) or any(step != 1 for step in steps):
        columns = math.prod(size or 1 for size in weights.shape[1:])
        yield rows * columns * (1 if hybrid else dtype_bits(source.dtype) // 8)
    if hybrid:
        yield from _quantized(source)
        yield rows * (weights.shape[0] or 1) * 4


def _depthwise(graph: Graph, op: Op) -> Iterator[int]:
    """Nothing, unless float activations meet 8-bit weights."""
    source, weights = (graph.tensors[index] for index in op.inputs[:2])
    if weights.dtype != source.dtype:
        yield from _quantized(source)


def _dense(graph: Graph, op: Op) -> Iterator[int]:
    """Nothing, unless float activations meet 8-bit weights: then the integer sums too."""
    source, weights = (graph.tensors[index] for index in op.inputs[:2])
    if weights.dtype != source.dtype and weights.constant:
        yield from _quantized(source)
        yield graph.tensors[op.outputs[0]].elements * 4


def _quantized(source: Tensor) -> Iterator[int]:
    """Float activations as int8, their scale, and their zero point."""
    yield from (source.elements, 4 * (source.shape[0] or 1), 4 * (source.shape[0] or 1))


def _transpose_conv(graph: Graph, op: Op) -> Iterator[int]:
    """Each input pixel's part of the output as a matrix (col2im); integers: the sums too."""
    weights, source = (graph.tensors[index] for index in op.inputs[1:3])
    pixels = math.prod(size or 1 for size in source.shape[1:3])
    yield pixels * math.prod(size or 1 for size in weights.shape[:3]) * 4
    if source.dtype != "float32":
        yield graph.tensors[op.outputs[0]].elements * 4


def _lstm(graph: Graph, op: Op) -> Iterator[int]:
    """Gates and sums of the kernel for 8-bit activations and a 16-bit cell."""
    states = [graph.tensors[index] for index in op.inputs if not graph.tensors[index].constant]
    cell = next((tensor for tensor in states if tensor.dtype == "int16"), None)
    if cell is not None and states[0].dtype == "int8":
        yield from (2 * cell.elements,) * 4
        yield cell.elements
        yield 4 * cell.elements


_STEPS = ("stride_w", "stride_h", "dilation_w_factor", "dilation_h_factor")
_KERNELS = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _dense,
    "TRANSPOSE_CONV": _transpose_conv,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _lstm,
}
