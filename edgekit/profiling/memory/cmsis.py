"""Scratch buffers of the CMSIS-NN kernels, as TensorFlow Lite Micro asks for them.

After CMSIS-NN 7 (github.com/ARM-software/CMSIS-NN at 098d54a, the files
Source/*/arm_*_get_buffer_sizes_s8.c and _s16.c), called by
tensorflow/lite/micro/kernels/cmsis_nn/*.cc of github.com/tensorflow/tflite-micro. The sizes differ
between cores with the M-profile vector extension ("mve": Cortex-M52, M55, M85), with the DSP
extension ("dsp": Cortex-M4, M7, M33, M35P) and without either ("plain": Cortex-M0 to M3, M23).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from edgekit.graph.types import Graph, Op
from edgekit.profiling.memory.shapes import Window, window

Core = Literal["plain", "dsp", "mve"]

_CHANNELS_AT_ONCE = 124  # CH_IN_BLOCK_MVE of arm_nnsupportfunctions.h
_REVERSE_ABOVE = 16  # REVERSE_TCOL_EFFICIENT_THRESHOLD of the same
_FAST_16_BIT = 512  # products that a 32-bit sum of 16x8-bit products holds


def convolution(graph: Graph, op: Op, core: Core) -> Iterator[int]:
    """arm_convolve_wrapper_s8_get_buffer_size and arm_convolve_wrapper_s16_get_buffer_size."""
    dtype = graph.tensors[op.inputs[0]].dtype
    shape = window(graph, op)
    if dtype == "int8":
        yield _convolve_s8(shape, core)
    elif dtype == "int16" and core == "dsp" and _sums_fit(shape):
        yield 2 * shape.patch * 2


def depthwise(graph: Graph, op: Op, core: Core) -> Iterator[int]:
    """arm_depthwise_conv_wrapper_s8_get_buffer_size and the s16 one."""
    dtype = graph.tensors[op.inputs[0]].dtype
    shape = window(graph, op)
    area = shape.kernel[0] * shape.kernel[1]
    plain = shape.channels == shape.filters and shape.batch == 1 and shape.dilation == (1, 1)
    if dtype == "int8" and plain:
        if core == "mve":
            yield 4 * _CHANNELS_AT_ONCE * area
        elif core == "dsp" and not (shape.kernel == (3, 3) and max(shape.padding) <= 1):
            yield 2 * shape.channels * area
    elif dtype == "int16" and plain and _sums_fit(shape) and core != "plain":
        yield 8 * shape.channels * area + 8 if core == "mve" else 2 * shape.channels * area


def kernel_sums(graph: Graph, op: Op, core: Core) -> int:
    """arm_fully_connected_s8_get_buffer_size and arm_svdf_s8_get_buffer_size.

    The sums of each row of weights, on MVE cores: computed once, so in the tail of the arena.
    """
    weights = graph.tensors[op.inputs[1]]
    quantized = graph.tensors[op.inputs[0]].dtype == "int8" and weights.dtype == "int8"
    return 4 * (weights.shape[0] or 1) if core == "mve" and quantized else 0


def average_pool(graph: Graph, op: Op, core: Core) -> Iterator[int]:
    """arm_avgpool_s8_get_buffer_size: a sum of 32 bits a channel."""
    source = graph.tensors[op.inputs[0]]
    if core == "dsp" and source.dtype in ("int8", "int16"):
        yield 4 * (source.shape[-1] or 1)


def transpose_convolution(graph: Graph, op: Op, core: Core) -> Iterator[int]:
    """arm_transpose_conv_s8_get_buffer_size, and the buffer for the reversed filter."""
    source, output = graph.tensors[op.inputs[2]], graph.tensors[op.outputs[0]]
    if source.dtype == "int16":
        yield 8 * output.elements
    if source.dtype != "int8":
        return
    shape = window(graph, op)
    if max(shape.stride) <= 2 and shape.channels > _REVERSE_ABOVE:
        yield _patches(shape.patch, core)
        yield shape.patch * shape.filters
    else:
        height = max(shape.kernel[0], shape.stride[0])
        width = (shape.input[1] - 1) * shape.stride[1] + max(shape.kernel[1], shape.stride[0])
        yield 4 * height * width * shape.filters


def _convolve_s8(shape: Window, core: Core) -> int:
    whole = shape.channels == shape.channels_per_group
    if whole and shape.kernel == (1, 1) and shape.padding == (0, 0) and shape.dilation == (1, 1):
        return 0  # but for Arm Compiler 6 on DSP cores, which takes 4 bytes a channel
    row = whole and shape.input[0] == 1 and shape.kernel[0] == 1 and shape.dilation[1] == 1
    if core == "mve" and row and shape.stride[1] * shape.channels % 4 == 0:
        return _row(shape)
    return _patches(shape.kernel[0] * shape.kernel[1] * shape.channels, core)


def _patches(length: int, core: Core) -> int:
    """Four patches of 8 bits in registers of 16 values, or two of 16 bits."""
    return 4 * (-(-length // 16) * 16) if core == "mve" else 2 * (-(-length // 4) * 4) * 2


def _row(shape: Window) -> int:
    """arm_convolve_1_x_n_s8_get_buffer_size_mve."""
    stride, kernel, left = shape.stride[1], shape.kernel[1], shape.padding[1]
    total = (shape.output[1] - 1) * stride + kernel - shape.input[1]
    odd = total % 2
    on_right = max(1, (left + odd + stride - 1) // stride) if left + odd else 0
    on_left = max(1, (left + stride - 1) // stride) if left else 0
    if on_right + on_left + max(shape.output[1] - on_right - on_left, 0) != shape.output[1]:
        return _patches(shape.patch, "mve")
    right = on_right if odd else left
    return shape.channels * max(kernel + left, kernel - 1 + right)


def _sums_fit(shape: Window) -> bool:
    return shape.patch < _FAST_16_BIT and shape.dilation == (1, 1)
