"""Networks drawn layer by layer as the graphs that exporters write, without Keras and weights.

For networks that come from PyTorch: normalizations fold into the convolutions before them, and so
do ReLUs; shapes are those of TFLite (channels last).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from structures import Writer

from edgekit.graph.types import Graph, OpClass, Port

_FUSED = {"linear", "relu", "relu6", "leaky"}
_OPERATORS = {
    "sigmoid": "LOGISTIC", "hard_swish": "HARD_SWISH", "hard_sigmoid": "HARD_SIGMOID",
    "gelu": "GELU", "softmax": "SOFTMAX", "tanh": "TANH", "prelu": "PRELU", "exp": "EXP",
}  # fmt: skip


class Layers:
    """A graph in the making; tensors are known by their index.

    Args:
        activation: that convolutions end with unless they are told another.
    """

    def __init__(self, activation: str = "relu") -> None:
        self._writer = Writer()
        self._inputs: list[Port] = []
        self.activation = activation

    def input(self, *shape: int) -> int:
        """An input without its batch axis."""
        index = self._writer.tensor((1, *shape))
        self._inputs.append(Port(f"x{len(self._inputs)}", index))
        return index

    def shape(self, x: int) -> tuple[int, ...]:
        """Shape of a tensor."""
        return tuple(size or 1 for size in self._writer.tensors[x].shape)

    def channels(self, x: int) -> int:
        """Length of the last axis."""
        return self.shape(x)[-1]

    def _op(self, name: str, kind: OpClass, inputs: list[int], shape: tuple[int, ...]) -> int:
        return self._writer.op(name, kind, name.lower(), inputs, shape)

    def conv(
        self,
        x: int,
        filters: int,
        kernel: int | tuple[int, int] = 3,
        stride: int = 1,
        act: str | None = None,
        *,
        groups: int = 1,
        bias: bool = True,
    ) -> int:
        """A convolution that keeps its input's size but for the stride."""
        _, height, width, channels = self.shape(x)
        size = (kernel, kernel) if isinstance(kernel, int) else kernel
        shape = (1, math.ceil(height / stride), math.ceil(width / stride), filters)
        weights = (filters, *size, channels // groups)
        kind: OpClass = "pointwise" if size == (1, 1) else "conv"
        name = "CONV_2D"
        if groups == channels > 1:
            kind, name, weights = "depthwise", "DEPTHWISE_CONV_2D", (1, *size, filters)
        macs = math.prod(shape) * math.prod(size) * channels // groups
        constants = (weights, (filters,)) if bias else (weights,)
        out = self._writer.op(name, kind, name.lower(), [x], shape, constants, macs)
        return self.act(out, act or self.activation)

    def depthwise(self, x: int, kernel: int = 3, stride: int = 1, act: str | None = None) -> int:
        """A depthwise convolution."""
        return self.conv(x, self.channels(x), kernel, stride, act, groups=self.channels(x))

    def whole(self, x: int) -> int:
        """A depthwise convolution as large as the image, of which one value a channel is left."""
        _, height, width, filters = self.shape(x)
        weights = ((1, height, width, filters), (filters,))
        macs = height * width * filters
        return self._writer.op(
            "DEPTHWISE_CONV_2D", "depthwise", "whole", [x], (1, 1, 1, filters), weights, macs
        )

    def transposed(self, x: int, filters: int, kernel: int = 2, stride: int = 2) -> int:
        """A transposed convolution without activation."""
        _, height, width, channels = self.shape(x)
        shape = (1, height * stride, width * stride, filters)
        macs = height * width * kernel**2 * channels * filters
        weights = ((filters, kernel, kernel, channels), (filters,))
        return self._writer.op(
            "TRANSPOSE_CONV", "conv", "transpose_conv", [x], shape, weights, macs
        )

    def act(self, x: int, function: str) -> int:
        """An activation, unless it is part of the operator before it."""
        if function in _FUSED:
            return x
        if function == "silu":
            return self.mul(x, self.act(x, "sigmoid"))
        return self._op(_OPERATORS[function], "activation", [x], self.shape(x))

    def add(self, x: int, other: int) -> int:
        """A sum; the second may be broadcast."""
        return self._op("ADD", "elementwise", [x, other], self.shape(x))

    def mul(self, x: int, other: int) -> int:
        """A product; the second may be broadcast."""
        return self._op("MUL", "elementwise", [x, other], self.shape(x))

    def scale(self, x: int, *shape: int) -> int:
        """A product with constants, by default one a channel."""
        constant = shape or self.shape(x)[-1:]
        return self._writer.op("MUL", "elementwise", "scale", [x], self.shape(x), (constant,))

    def shift(self, x: int, *shape: int) -> int:
        """A sum with constants, by default one a channel."""
        constant = shape or self.shape(x)[-1:]
        return self._writer.op("ADD", "elementwise", "shift", [x], self.shape(x), (constant,))

    def norm(self, x: int) -> int:
        """Layer normalization over the last axis."""
        constants = (self.shape(x)[-1:],) * 2
        return self._writer.op("LAYER_NORM", "normalization", "norm", [x], self.shape(x), constants)

    def concat(self, parts: Sequence[int], axis: int = -1) -> int:
        """Tensors side by side."""
        shape = list(self.shape(parts[0]))
        shape[axis] = sum(self.shape(part)[axis] for part in parts)
        return self._op("CONCATENATION", "data", list(parts), tuple(shape))

    def split(self, x: int, parts: int) -> list[int]:
        """Equal parts of the last axis."""
        shape = (*self.shape(x)[:-1], self.channels(x) // parts)
        first = self._op("SPLIT", "data", [x], shape)
        outputs = [first, *(self._writer.tensor(shape) for _ in range(parts - 1))]
        self._writer.ops[-1] = replace(self._writer.ops[-1], outputs=tuple(outputs))
        return outputs

    def to_space(self, x: int, factor: int) -> int:
        """Channels as pixels: an image `factor` times as high and as wide."""
        _, height, width, channels = self.shape(x)
        shape = (1, height * factor, width * factor, channels // factor**2)
        return self._op("DEPTH_TO_SPACE", "data", [x], shape)

    def slice(self, x: int, *shape: int) -> int:
        """A part of a tensor, of a shape."""
        return self._op("STRIDED_SLICE", "data", [x], (1, *shape))

    def reshape(self, x: int, *shape: int) -> int:
        """The same values in another shape."""
        return self._op("RESHAPE", "data", [x], (1, *shape))

    def transpose(self, x: int, *shape: int) -> int:
        """The same values in another order."""
        return self._op("TRANSPOSE", "data", [x], (1, *shape))

    def pool(self, x: int, size: int = 2, stride: int = 2, kind: str = "MAX") -> int:
        """A maximum (`MAX`) or a mean (`AVERAGE`) over windows."""
        _, height, width, channels = self.shape(x)
        shape = (1, math.ceil(height / stride), math.ceil(width / stride), channels)
        made = self._op(f"{kind}_POOL_2D", "pool", [x], shape)
        attributes = {"filter_height": size, "filter_width": size, "stride_h": stride}
        self._writer.ops[-1] = replace(self._writer.ops[-1], attributes=attributes)
        return made

    def mean(self, x: int) -> int:
        """The mean over height and width, which stay as axes of one."""
        return self._op("MEAN", "reduce", [x], (1, 1, 1, self.channels(x)))

    def largest(self, x: int) -> int:
        """The maximum over the last axis."""
        return self._op("REDUCE_MAX", "reduce", [x], self.shape(x)[:-1])

    def argmax(self, x: int) -> int:
        """Where the maximum over the last axis is."""
        return self._op("ARG_MAX", "reduce", [x], self.shape(x)[:-1])

    def resize(self, x: int, height: int, width: int, kind: str = "BILINEAR") -> int:
        """An enlarged tensor; `kind`: BILINEAR or NEAREST_NEIGHBOR."""
        shape = (1, height, width, self.channels(x))
        return self._op(f"RESIZE_{kind}", "resize", [x], shape)

    def upsample(self, x: int, factor: int = 2, kind: str = "NEAREST_NEIGHBOR") -> int:
        """A tensor enlarged by a factor."""
        _, height, width, _ = self.shape(x)
        return self.resize(x, height * factor, width * factor, kind)

    def like(self, x: int, other: int, kind: str = "BILINEAR") -> int:
        """A tensor enlarged to the size of another."""
        _, height, width, _ = self.shape(other)
        return self.resize(x, height, width, kind)

    def dense(self, x: int, units: int, act: str = "linear", *, bias: bool = True) -> int:
        """A product with a constant matrix over the last axis."""
        shape, features = self.shape(x), self.channels(x)
        constants = ((units, features), (units,)) if bias else ((units, features),)
        out = (*shape[:-1], units)
        macs = math.prod(out) * features
        made = self._writer.op("FULLY_CONNECTED", "dense", "dense", [x], out, constants, macs)
        return self.act(made, act)

    def embedding(self, x: int, rows: int, width: int) -> int:
        """Rows of a table by their numbers."""
        shape = (*self.shape(x), width)
        return self._writer.op("GATHER", "data", "embedding", [x], shape, ((rows, width),))

    def matmul(self, x: int, other: int, *, transposed: bool = False) -> int:
        """A product of two tensors, the second transposed or not."""
        columns = self.shape(other)[-2 if transposed else -1]
        shape = (*self.shape(x)[:-1], columns)
        macs = math.prod(shape) * self.channels(x)
        return self._writer.op("BATCH_MATMUL", "matmul", "matmul", [x, other], shape, (), macs)

    def classifier(self, x: int, classes: int = 1000) -> Graph:
        """The graph with a mean over the image and a dense layer as its end."""
        pooled = self.reshape(self.mean(x), self.channels(x))
        return self.graph(self.dense(pooled, classes))

    def graph(self, *outputs: int) -> Graph:
        """What was drawn, with these outputs."""
        ports = tuple(Port(f"y{number}", index) for number, index in enumerate(outputs))
        tensors = tuple(self._writer.tensors)
        size = sum(tensor.bytes for tensor in tensors if tensor.constant)
        return Graph(
            "tflite", "drawn", tensors, tuple(self._writer.ops), tuple(self._inputs), ports, size
        )
