"""The tail of a TensorFlow Lite Micro arena: what is allocated once and never freed.

After tensorflow/lite/micro/{micro_allocator,micro_interpreter_graph}.cc and the kernels' headers of
github.com/tensorflow/tflite-micro: an array of tensor structs, an array of nodes, each operator's
parameters, each kernel's own data, multipliers and shifts a channel, variables, and structs for the
inputs and outputs. Structs are laid out as C compilers do, so that their sizes follow from the size
of a pointer: 4 bytes on a microcontroller, 8 on the x86-64 interpreter that the tests compare with.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from edgekit.graph.types import Graph, Op
from edgekit.profiling.memory.arena import variables
from edgekit.profiling.memory.cmsis import kernel_sums
from edgekit.profiling.memory.litert import asked
from edgekit.profiling.memory.scratch import core_of, tflm_scratch
from edgekit.schema.target import MicroKernels

_BUFFER = 16  # bytes that kernels' own data are aligned to
_INT16_TABLE = 2 * 513  # a lookup table of the 16-bit softmax

# Fields of structs: p a pointer, i an int, float or enum, d a double, h two bytes, b one byte.
_TENSOR = "ppi"  # TfLiteEvalTensor
_PORT = "ippppi" + "iiib"  # TfLiteTensor: quantization, data, dims, bytes, params, types, variable
_SCALES = "ppi"  # TfLiteAffineQuantization
_NODE = "ppppppip"  # NodeAndRegistration
_PARAMETERS = {  # of an operator: builtin_op_data.h; those that are not here have none
    "ADD": "ib",
    "AVERAGE_POOL_2D": "iiiiiiiiii",
    "BATCH_MATMUL": "bbb",
    "CONCATENATION": "ii",
    "CONV_2D": "iiiiiii",
    "DEPTHWISE_CONV_2D": "iiiiiii",
    "DIV": "i",
    "FULLY_CONNECTED": "iibbiiiii",
    "GATHER": "ii",
    "L2_NORMALIZATION": "i",
    "LEAKY_RELU": "i",
    "MAX_POOL_2D": "iiiiiiiiii",
    "MEAN": "b",
    "MUL": "i",
    "PACK": "ii",
    "REDUCE_MAX": "b",
    "REDUCE_MIN": "b",
    "RESHAPE": "iiiiiiiii",
    "RESIZE_BILINEAR": "bb",
    "RESIZE_NEAREST_NEIGHBOR": "bb",
    "SOFTMAX": "i",
    "SPLIT": "i",
    "SPLIT_V": "i",
    "SQUEEZE": "iiiiiiiii",
    "STRIDED_SLICE": "iiiiib",
    "SUB": "i",
    "SUM": "b",
    "SVDF": "iib",
    "TRANSPOSE_CONV": "iiiii",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "iiibbb",
    "UNPACK": "ii",
}
_CONVOLUTION = "iiiiiiiiippiii"
_DATA = {  # OpData of each kernel; operators that are not here keep nothing
    "ABS": "i" * 7,
    "ADD": "b" + "i" * 14,
    "AVERAGE_POOL_2D": "i" * 8,
    "CONCATENATION": "bpphii",
    "CONV_2D": _CONVOLUTION,
    "DEPTHWISE_CONV_2D": _CONVOLUTION,
    "DEQUANTIZE": "idiii",
    "ELU": "b" * 256,
    "FULLY_CONNECTED": "iiiiiiiiippb",
    "HARD_SWISH": "i" * 5,
    "LEAKY_RELU": "i" * 6,
    "LOGISTIC": "iiii",
    "MAX_POOL_2D": "i" * 8,
    "MEAN": "i" * 11,
    "MUL": "i" * 9,
    "PRELU": "i" * 7,
    "QUANTIZE": "idiii",
    "REDUCE_MAX": "i" * 11,
    "REDUCE_MIN": "i" * 11,
    "RELU": "i" * 7,
    "RELU6": "ii",
    "RSQRT": "i" * 7,
    "SOFTMAX": "diiiiiiippppp",
    "SQUARED_DIFFERENCE": "i" * 28,
    "SUB": "b" + "i" * 14,
    "SUM": "i" * 11,
    "SVDF": "i" * 9,
    "TANH": "iiii",
    "TRANSPOSE_CONV": "h" * 9 + "i" * 11 + "pp",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "i" * 172,
}
_DECOMPRESSION = {  # further indices, in builds that can decompress weights
    "CONCATENATION": 10,
    "CONV_2D": 2,
    "DEPTHWISE_CONV_2D": 2,
    "FULLY_CONNECTED": 2,
    "TRANSPOSE_CONV": 2,
}
_SCRATCH_INDEX = "i"  # of CMSIS-NN's kernels
_BUFFERED = {"CONV_2D", "DEPTHWISE_CONV_2D", "AVERAGE_POOL_2D", "MAX_POOL_2D"}


@dataclass(frozen=True)
class Build:
    """How TensorFlow Lite Micro was compiled.

    Attributes:
        pointer: bytes of a pointer.
        kernels: the kernels that it was built with.
        decompression: whether it can decompress weights (USE_TFLM_COMPRESSION).
        fixed: bytes of the allocators, the planner and the list of graphs. The default is for
            32-bit pointers: SingleArenaBufferAllocator 36, GreedyMemoryPlanner 44, MicroAllocator
            36, the allocator of parameters 8, and 8 for the list of one graph.
    """

    pointer: int = 4
    kernels: MicroKernels = "reference"
    decompression: bool = False
    fixed: int = 132


def tail_bytes(graph: Graph, build: Build | None = None) -> int:
    """Bytes of the tail for one graph, gaps of alignment included.

    Args:
        graph: of a TFLite file.
        build: how the runtime was compiled; by default reference kernels for 32-bit pointers.
    """
    used = 0
    build = build or Build()
    for size, alignment in _allocations(graph, build):
        used = -(-(used + size) // alignment) * alignment
    return -(-used // _BUFFER) * _BUFFER


def struct_bytes(fields: str, pointer: int) -> int:
    """Size of a C struct.

    Args:
        fields: a letter a field: p a pointer, d 8 bytes, i 4, h 2, b 1.
        pointer: bytes of a pointer.
    """
    sizes = {"p": pointer, "d": 8, "i": 4, "h": 2, "b": 1}
    end = 0
    for field in fields:
        end = -(-end // sizes[field]) * sizes[field] + sizes[field]
    widest = max(sizes[field] for field in fields)
    return -(-end // widest) * widest


def _allocations(graph: Graph, build: Build) -> Iterator[tuple[int, int]]:
    """Size and alignment, in order, from the end of the arena downwards."""

    def struct(fields: str, count: int = 1) -> tuple[int, int]:
        return struct_bytes(fields, build.pointer) * count, _alignment(fields, build.pointer)

    yield build.fixed, build.pointer
    yield struct(_TENSOR, len(graph.tensors))
    yield struct(_NODE, len(graph.ops))
    for op in graph.ops:
        if op.name in _PARAMETERS:
            yield struct(_PARAMETERS[op.name])
    for op in graph.ops:
        if op.name in _DATA:
            yield struct_bytes(_data(op, build), build.pointer), _BUFFER
    for op in graph.ops:
        yield from ((size, _BUFFER) for _, size in asked(op, partial(_prepared, graph, op, build)))
    scratch = tflm_scratch(graph, build.kernels)
    if scratch:
        yield struct("p", len(scratch))
    for tensor in sorted(variables(graph)):
        yield graph.tensors[tensor].bytes, _BUFFER
    for ports in (graph.inputs, graph.outputs):
        yield build.pointer * len(ports), _BUFFER
        for port in ports:
            yield struct(_PORT)
            scales = graph.tensors[port.tensor].quantization
            if scales is not None:
                yield struct(_SCALES)
                yield 4 * (1 + len(scales.scale)), 4


def _data(op: Op, build: Build) -> str:
    fields = _DATA[op.name]
    if build.decompression:
        fields += "i" * _DECOMPRESSION.get(op.name, 0)
    if core_of(build.kernels) and op.name in _BUFFERED:
        fields += _SCRATCH_INDEX
    return fields


def _prepared(graph: Graph, op: Op, build: Build) -> Iterator[int]:
    """What a kernel allocates when it sees the shapes: one buffer after the other."""
    source = graph.tensors[op.inputs[0]] if op.inputs else None
    if source is None:
        return
    if op.name in ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"):
        # The reference kernels ask for floats too.
        if source.dtype in ("int8", "int16") or not core_of(build.kernels):
            channels = graph.tensors[op.outputs[0]].shape[-1] or 1
            yield from (4 * channels, 4 * channels)
    elif op.name == "FULLY_CONNECTED":
        scales = graph.tensors[op.inputs[1]].quantization
        if scales is not None and scales.per_channel:
            yield from (4 * len(scales.scale),) * 2
    elif op.name == "SOFTMAX" and source.dtype == "int16":
        yield from (_INT16_TABLE, _INT16_TABLE)
    core = core_of(build.kernels)
    if core and op.name in ("FULLY_CONNECTED", "SVDF"):
        sums = kernel_sums(graph, op, core)
        if sums:
            yield sums


def _alignment(fields: str, pointer: int) -> int:
    return max({"p": pointer, "d": 8, "i": 4, "h": 2, "b": 1}[field] for field in fields)
