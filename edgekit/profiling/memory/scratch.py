"""Scratch buffers of the kernels of TensorFlow Lite Micro, operator by operator.

The reference kernels: tensorflow/lite/micro/kernels/*.cc of github.com/tensorflow/tflite-micro
(checked against the interpreter of its Python package, tests/profiling/test_memory_tflm.py).
With CMSIS-NN some operators have kernels of their own (`cmsis`), the rest the reference
ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from edgekit.graph.types import Graph, Op
from edgekit.profiling.memory import cmsis
from edgekit.profiling.memory.cmsis import Core
from edgekit.profiling.memory.litert import Scratch, asked
from edgekit.schema.target import MicroKernels

_CORES: dict[MicroKernels, Core] = {
    "cmsis-nn": "plain",
    "cmsis-nn-dsp": "dsp",
    "cmsis-nn-mve": "mve",
}


def core_of(kernels: MicroKernels) -> Core | None:
    """The core that CMSIS-NN was built for; None: it is not used."""
    return _CORES.get(kernels)


def tflm_scratch(graph: Graph, kernels: MicroKernels = "reference") -> list[Scratch]:
    """Buffers that TensorFlow Lite Micro's kernels ask for besides their tensors."""
    core = core_of(kernels)
    found: list[Scratch] = []
    for op in graph.ops if graph.format == "tflite" else ():
        own = _CMSIS.get(op.name) if core else None
        reference = _REFERENCE.get(op.name)
        if own is not None and core is not None:
            found += asked(op, partial(own, graph, op, core))
        elif reference is not None:
            found += asked(op, partial(reference, graph, op))
    return found


def _unpacked(graph: Graph, op: Op) -> Iterator[int]:
    """Weights of 4 bits, widened to 8."""
    weights = graph.tensors[op.inputs[1]]
    if weights.dtype == "int4":
        yield weights.elements


def _transpose_conv(graph: Graph, op: Op) -> Iterator[int]:
    """Sums of 32 bits, or of 64 for 16-bit activations, for the whole output."""
    output = graph.tensors[op.outputs[0]]
    yield {"int8": 4, "int16": 8}.get(output.dtype, 0) * output.elements


def _svdf(graph: Graph, op: Op) -> Iterator[int]:
    """A sum a filter, and for integers a sum an output."""
    source, weights = (graph.tensors[index] for index in op.inputs[:2])
    yield 4 * (source.shape[0] or 1) * (weights.shape[0] or 1)
    if source.dtype == "int8":
        yield 4 * graph.tensors[op.outputs[0]].elements


def _lstm(graph: Graph, op: Op) -> Iterator[int]:
    """Four gates as wide as the state of the cell, which is the operator's last variable."""
    states = [tensor for tensor in map(graph.tensors.__getitem__, op.inputs) if not tensor.constant]
    yield from (states[-1].bytes,) * 4


def _mean(graph: Graph, op: Op) -> Iterator[int]:
    """The position in the input, the axes, and for integers a sum an output."""
    yield from _extreme(graph, op)
    if graph.tensors[op.inputs[0]].dtype in ("int8", "int16"):
        yield 4 * graph.tensors[op.outputs[0]].elements


def _extreme(graph: Graph, op: Op) -> Iterator[int]:
    """The position in the input, and the axes."""
    yield 4 * len(graph.tensors[op.inputs[0]].shape)
    yield 4 * graph.tensors[op.inputs[1]].elements


_REFERENCE = {
    "CONV_2D": _unpacked,
    "DEPTHWISE_CONV_2D": _unpacked,
    "FULLY_CONNECTED": _unpacked,
    "TRANSPOSE_CONV": _transpose_conv,
    "SVDF": _svdf,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _lstm,
    "MEAN": _mean,
    "SUM": _mean,
    "REDUCE_MAX": _extreme,
    "REDUCE_MIN": _extreme,
}
_CMSIS = {
    "CONV_2D": cmsis.convolution,
    "DEPTHWISE_CONV_2D": cmsis.depthwise,
    "AVERAGE_POOL_2D": cmsis.average_pool,
    "TRANSPOSE_CONV": cmsis.transpose_convolution,
}
