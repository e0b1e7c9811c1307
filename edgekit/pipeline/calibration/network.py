"""Small networks for measuring, described once for all formats.

Tensors are NHWC with a batch of one, (rows, features), or (heads, rows, features). Weights are
random: kernels take the same time whatever they multiply, as long as no value becomes denormal, so
layers keep the variance of their input (He et al. 2015).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

LayerKind = Literal[
    "input", "conv", "depthwise", "transpose_conv", "dense", "matmul",
    "add", "mul", "sub", "squared_difference", "scale", "shift", "rsqrt",
    "relu", "relu6", "hard_swish", "logistic", "tanh", "gelu", "softmax",
    "max_pool", "average_pool", "mean", "global_mean", "mean_channels", "concat", "pad", "slice",
    "transpose", "reshape", "resize", "split", "lstm",
]  # fmt: skip
_MOST_COLORS = 4
_ONLY_TFLITE = ("split", "lstm")
Pool = Literal["max_pool", "average_pool"]
Binary = Literal["add", "mul", "sub", "squared_difference"]
Activation = Literal["none", "relu", "relu6"]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """One layer.

    Attributes:
        inputs: numbers of the layers that it reads.
        shape: of its output.
        kernel: taps along height and along width; factor of a resize; margin of a pad.
        stride: of a convolution or a pool; step of a slice.
        activation: that ends it.
        groups: of a convolution.
        valid: whether it computes only where the kernel fits, else where its middle does.
        one_scale: whether a factor or a sum is one number, or the weights of a dense layer have one
            scale in .onnx files, as in those made of .tflite files; else one a column.
        begin: first row and column of a slice.
    """

    kind: LayerKind
    inputs: tuple[int, ...]
    shape: Shape
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    activation: Activation = "none"
    groups: int = 1
    valid: bool = False
    one_scale: bool = False
    begin: int = 0


class Network:
    """A network under construction; each method adds a layer and returns its number.

    Args:
        name: of the file.
        shape: of the input.
        family: networks of one family are alike; they are left out of a fit together.
        unsigned: whether its int8 form is the older one of .tflite files: uint8, and one scale for
            all filters.
    """

    def __init__(self, name: str, shape: Shape, family: str, *, unsigned: bool = False) -> None:
        self.name, self.family, self.unsigned = name, family, unsigned
        self.layers = [Layer("input", (), shape)]

    def as_unsigned(self) -> Network:
        """The same network in the older form."""
        other = Network(f"{self.name}-uint8", self.shape(0), f"{self.family}-uint8", unsigned=True)
        other.layers = list(self.layers)
        return other

    @property
    def only_tflite(self) -> bool:
        """Whether no other format has it."""
        return self.unsigned or any(layer.kind in _ONLY_TFLITE for layer in self.layers)

    @property
    def prepared(self) -> frozenset[int]:
        """An image of a few colors, and layers that only scale and shift these."""
        found: set[int] = set()
        for number, layer in enumerate(self.layers):
            image = layer.kind == "input" and len(layer.shape) == 4
            colors = image and layer.shape[-1] <= _MOST_COLORS
            if colors or (layer.kind in ("scale", "shift") and found.issuperset(layer.inputs)):
                found.add(number)
        return frozenset(found)

    @property
    def last(self) -> int:
        """Number of the newest layer."""
        return len(self.layers) - 1

    @property
    def outputs(self) -> tuple[int, ...]:
        """Layers that no other reads."""
        read = {number for layer in self.layers for number in layer.inputs}
        return tuple(n for n in range(len(self.layers)) if n not in read)

    def shape(self, number: int) -> Shape:
        """Shape of a layer's output."""
        return self.layers[number].shape

    def conv(
        self,
        source: int,
        channels: int,
        kernel: int | tuple[int, int] = 1,
        stride: int = 1,
        activation: Activation = "relu",
        *,
        groups: int = 1,
        valid: bool = False,
    ) -> int:
        """A convolution; a kernel of 1 is a pointwise one."""
        taps = _pair(kernel)
        shape = _slid(self.shape(source), taps, stride, channels, valid=valid)
        return self._add(Layer("conv", (source,), shape, taps, stride, activation, groups, valid))

    def depthwise(
        self, source: int, kernel: int = 3, stride: int = 1, activation: Activation = "relu"
    ) -> int:
        """A convolution of each channel with a filter of its own."""
        shape = self.shape(source)
        new = _slid(shape, _pair(kernel), stride, shape[-1], valid=False)
        return self._add(Layer("depthwise", (source,), new, _pair(kernel), stride, activation))

    def transpose_conv(self, source: int, channels: int, kernel: int = 3, stride: int = 2) -> int:
        """A transposed convolution, which enlarges by its stride."""
        _, height, width, _ = self.shape(source)
        new = (1, height * stride, width * stride, channels)
        return self._add(Layer("transpose_conv", (source,), new, _pair(kernel), stride))

    def pool(
        self,
        source: int,
        kind: Pool,
        kernel: int | tuple[int, int] = 2,
        stride: int = 2,
        *,
        valid: bool = False,
    ) -> int:
        """The largest or the mean value under a window."""
        shape = self.shape(source)
        new = _slid(shape, _pair(kernel), stride, shape[-1], valid=valid)
        return self._add(Layer(kind, (source,), new, _pair(kernel), stride, valid=valid))

    def dense(
        self,
        source: int,
        channels: int,
        activation: Activation = "relu",
        *,
        one_scale: bool = False,
    ) -> int:
        """A product with a matrix; all but the last axis stay."""
        shape = (*self.shape(source)[:-1], channels)
        layer = Layer("dense", (source,), shape, activation=activation, one_scale=one_scale)
        return self._add(layer)

    def matmul(self, left: int, right: int) -> int:
        """The products of computed matrices, (heads, m, k) by (heads, k, n)."""
        shape = (*self.shape(left)[:-1], self.shape(right)[-1])
        return self._add(Layer("matmul", (left, right), shape))

    def binary(
        self,
        kind: Binary,
        left: int,
        right: int,
        activation: Activation = "none",
    ) -> int:
        """Two tensors, value by value; the right one may be one row of channels."""
        return self._add(Layer(kind, (left, right), self.shape(left), activation=activation))

    def unary(
        self,
        kind: LayerKind,
        source: int,
        activation: Activation = "none",
        *,
        one_scale: bool = False,
    ) -> int:
        """An activation, or another function of each value; softmax along the last axis."""
        shape = self.shape(source)
        return self._add(Layer(kind, (source,), shape, activation=activation, one_scale=one_scale))

    def mean(self, source: int) -> int:
        """The mean over height and width, which stay as axes of one."""
        return self._add(Layer("mean", (source,), (1, 1, 1, self.shape(source)[-1])))

    def global_mean(self, source: int) -> int:
        """The mean over height and width, which are no axes any more."""
        return self._add(Layer("global_mean", (source,), (1, self.shape(source)[-1])))

    def mean_channels(self, source: int) -> int:
        """The mean over channels, which stay as an axis of one."""
        return self._add(Layer("mean_channels", (source,), (*self.shape(source)[:-1], 1)))

    def concat(self, sources: Sequence[int]) -> int:
        """Tensors side by side along the channels."""
        first = self.shape(sources[0])
        channels = sum(self.shape(source)[-1] for source in sources)
        return self._add(Layer("concat", tuple(sources), (*first[:-1], channels)))

    def pad(self, source: int, margin: int = 1) -> int:
        """Zeros around height and width."""
        _, height, width, channels = self.shape(source)
        new = (1, height + 2 * margin, width + 2 * margin, channels)
        return self._add(Layer("pad", (source,), new, _pair(margin)))

    def slice(self, source: int, channels: int, *, step: int = 1, begin: int = 0) -> int:
        """The first channels of every `step`-th row and column from `begin` on."""
        shape = self.shape(source)
        inner = tuple(math.ceil((size - begin) / step) for size in shape[1:-1])
        new = (1, *inner, channels)
        return self._add(Layer("slice", (source,), new, stride=step, begin=begin))

    def resize(self, source: int, factor: int = 2) -> int:
        """Bilinear enlargement."""
        _, height, width, channels = self.shape(source)
        new = (1, height * factor, width * factor, channels)
        return self._add(Layer("resize", (source,), new, _pair(factor)))

    def reshape(self, source: int, shape: Shape) -> int:
        """The same values in another shape."""
        return self._add(Layer("reshape", (source,), shape))

    def transpose(self, source: int) -> int:
        """The last two axes of three exchanged."""
        heads, rows, columns = self.shape(source)
        return self._add(Layer("transpose", (source,), (heads, columns, rows)))

    def split(self, source: int, parts: int) -> int:
        """The first of equal parts of the channels; the others are made too. .tflite only."""
        shape = self.shape(source)
        return self._add(Layer("split", (source,), (*shape[:-1], shape[-1] // parts)))

    def lstm(self, source: int, units: int) -> int:
        """A long short-term memory over (1, steps, features). .tflite only."""
        return self._add(Layer("lstm", (source,), (*self.shape(source)[:-1], units)))

    def _add(self, layer: Layer) -> int:
        self.layers.append(layer)
        return self.last


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


def _slid(shape: Shape, taps: tuple[int, int], stride: int, channels: int, *, valid: bool) -> Shape:
    sizes = []
    for size, tap in zip(shape[1:3], taps, strict=True):
        room = size - tap + 1 if valid else size
        sizes.append(max(1, math.ceil(room / stride)))
    return (1, *sizes, channels)
