"""The shapes of a convolution of a TFLite file, as kernels see them."""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.graph.types import Graph, Op


@dataclass(frozen=True)
class Window:
    """A two-dimensional convolution: pairs are height and width.

    Attributes:
        batch: samples at once.
        channels: of the input.
        channels_per_group: fewer than `channels` if the convolution is grouped.
        filters: channels of the output.
        padding: before the first row and column.
    """

    batch: int
    input: tuple[int, int]
    output: tuple[int, int]
    channels: int
    channels_per_group: int
    filters: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int]

    @property
    def patch(self) -> int:
        """Values of the input under one position of the kernel."""
        return self.kernel[0] * self.kernel[1] * self.channels


def window(graph: Graph, op: Op) -> Window:
    """Reads the shapes of CONV_2D, DEPTHWISE_CONV_2D or TRANSPOSE_CONV."""
    transposed = op.name == "TRANSPOSE_CONV"
    source = _sizes(graph, op.inputs[2 if transposed else 0])
    weights = _sizes(graph, op.inputs[1])
    output = _sizes(graph, op.outputs[0])
    kernel = (weights[1], weights[2])
    stride = _pair(op, "stride_h", "stride_w")
    dilation = _pair(op, "dilation_h_factor", "dilation_w_factor")
    small, large = (output, source) if not transposed else (source, output)
    padding = (0, 0)
    if op.attributes.get("padding") == "SAME":
        padding = (
            _before(small[1], large[1], kernel[0], stride[0], dilation[0]),
            _before(small[2], large[2], kernel[1], stride[1], dilation[1]),
        )
    return Window(
        batch=source[0],
        input=(source[1], source[2]),
        output=(output[1], output[2]),
        channels=source[3],
        channels_per_group=weights[3],
        filters=output[3],
        kernel=kernel,
        stride=stride,
        dilation=dilation,
        padding=padding,
    )


def _before(small: int, large: int, kernel: int, stride: int, dilation: int) -> int:
    return max((small - 1) * stride + (kernel - 1) * dilation + 1 - large, 0) // 2


def _sizes(graph: Graph, tensor: int) -> list[int]:
    sizes = [size or 1 for size in graph.tensors[tensor].shape]
    return (sizes + [1] * 4)[:4]


def _pair(op: Op, height: str, width: str) -> tuple[int, int]:
    return int(op.attributes.get(height, 1) or 1), int(op.attributes.get(width, 1) or 1)
