"""Multiply-accumulate counts and convolution classes, the same for all formats.

One multiply-accumulate is one product of a weight and an activation, or of two activations. Biases,
activations, pooling and elementwise operators count none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from edgekit.graph.types import OpClass, Tensor


def conv(output: Tensor, weights: Tensor, out_channels: int) -> int:
    """A convolution, grouped and depthwise too: each output value sums its share of the kernel."""
    return output.elements * weights.elements // out_channels if out_channels else 0


def transposed_conv(data: Tensor, weights: Tensor, in_channels: int) -> int:
    """A transposed convolution: each input value is spread over its share of the kernel."""
    return data.elements * weights.elements // in_channels if in_channels else 0


def matmul(output: Tensor, inner: int) -> int:
    """A matrix product whose output values each sum `inner` products."""
    return output.elements * inner


def recurrent(data: Tensor, weights: Iterable[Tensor]) -> int:
    """A recurrent layer: each step of each sequence uses each weight once.

    Args:
        data: shape (batch, steps, features) in any order of the first two, or (batch, features).
        weights: the input, recurrent and projection matrices.
    """
    steps = math.prod(1 if size is None else size for size in data.shape[:-1])
    return steps * sum(tensor.elements for tensor in weights)


def conv_class(kernel: Sequence[int | None], *, groups: int, channels_per_group: int) -> OpClass:
    """The class of a convolution by its spatial kernel and its groups."""
    if groups > 1 and channels_per_group == 1:
        return "depthwise"
    return "pointwise" if all(size == 1 for size in kernel) else "conv"
