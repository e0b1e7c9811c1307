"""The Edge TPU's parameter cache: bytes of weights that stay on the chip, and that are streamed.

The compiler lays weights out in its own form, and reserves a part of the 8 MB of on-chip memory
for instructions and activations; what then has no room is sent over the link at every inference
(https://coral.ai/docs/edgetpu/compiler/, "Parameter data caching").

The layout was inferred from Google's compiled files (google-coral/test_data: the offsets of the
weights in them). It gives the sizes of MobileNetV1 0.25 and 0.75, of DeepLab's mapped part and of
a PoseNet with a scale a channel to the byte:

- convolution and dense: output channels in multiples of 16, of 64 beyond 64; input channels in
  multiples of 4; one byte a weight.
- depthwise: four bytes a weight.
- a channel takes 4 bytes more for its bias, 12 where each channel has its own scale, 8 in a dense
  layer of int8 (a 256 x 256 one takes 66 KiB by the compiler's log).
- a softmax takes tables: 48,256 bytes for 1,001 classes; some 29,000 for 10, as far as that can be
  told from an LSTM's file, whose own tables are not known.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgekit.graph.types import Op
from edgekit.profiling.placement import OpPlacement
from edgekit.profiling.view import GraphView

RESERVED_BYTES = 1_310_720
"""What is left for weights is 6.75 MiB: compiler logs of nine networks that are too large for the
cache (google-coral/edgetpu issues 60, 427, 512, 518; edgetpu-compiler-log-parser) show 6.1 to
7.2 MiB for six of them, 1.9 to 4.2 MiB for three, for which no rule is known. It goes by network,
not by the compiler's age: used and remaining together are 6.9 MiB with version 2.1 (issue 60), 8.0
with 14.1 (173), 1.9, 7.2 and 8.2 with 15.0 (427, 518, 324), 1.1 and 7.0 with 16.0 (572, 671)."""

PROGRAM_BYTES = 160_000
"""Instructions of a compiled network, which the host sends with every inference: 118 to 199 kB in
Google's compiled files of whole networks, 160 kB on average, hardly more for larger ones."""

_SOFTMAX_BYTES = 28_800
_SOFTMAX_CLASS_BYTES = 19


@dataclass(frozen=True)
class ParameterCache:
    """Weights of the operators on an Edge TPU, in bytes of its own layout.

    Attributes:
        cached: stay on the chip between inferences.
        streamed: are sent over the link at every inference.
    """

    cached: int
    streamed: int

    @property
    def parameters(self) -> int:
        """All of them."""
        return self.cached + self.streamed

    @property
    def streamed_share(self) -> float:
        """Share that is streamed, 0 to 1."""
        return self.streamed / self.parameters if self.parameters else 0.0


def parameter_cache(
    view: GraphView, placed: Sequence[OpPlacement], processor: str, cache_bytes: int
) -> ParameterCache:
    """Predicts what the Edge TPU compiler caches and what it streams.

    Weights fill the cache in the file's order; an operator that is larger than all of it is
    streamed whole (a dense layer of 4096 x 4096 is, by the compiler's log).

    Args:
        view: the graph of the source file.
        placed: where its operators run.
        processor: name of the Edge TPU.
        cache_bytes: on-chip memory, of which `RESERVED_BYTES` are not for weights.
    """
    capacity = max(0, cache_bytes - RESERVED_BYTES)
    sizes = [
        parameter_bytes(view, op)
        for op, where in zip(view.graph.ops, placed, strict=True)
        if where.where == processor and op.index not in view.free
    ]
    cached = min(capacity, sum(size for size in sizes if size <= capacity))
    return ParameterCache(cached=cached, streamed=sum(sizes) - cached)


def parameter_bytes(view: GraphView, op: Op) -> int:
    """Bytes that an operator's constants take on an Edge TPU."""
    if op.name == "SOFTMAX":
        classes = view.graph.tensors[op.outputs[0]].shape[-1] or 1
        return _SOFTMAX_BYTES + _SOFTMAX_CLASS_BYTES * _up(classes, 64)
    return sum(_matrix_bytes(op, shape, per_axis) for shape, per_axis in _matrices(view, op))


def _matrices(view: GraphView, op: Op) -> Iterator[tuple[tuple[int, ...], bool]]:
    """Shape of each weight matrix, and whether each of its channels has a scale of its own."""
    if op.kind not in ("conv", "pointwise", "depthwise", "dense", "recurrent"):
        return
    for tensor in view.tensors(op.inputs):
        if tensor.constant and len(tensor.shape) > 1 and tensor.dtype in ("int8", "uint8"):
            scales = tensor.quantization.scale if tensor.quantization else ()
            yield tuple(size or 1 for size in tensor.shape), len(scales) > 1


def _matrix_bytes(op: Op, shape: tuple[int, ...], per_axis: bool) -> int:
    if op.kind == "depthwise":
        taps = math.prod(shape[:-1])
        return shape[-1] * (4 * taps + (12 if per_axis else 4))
    per_channel = 12 if per_axis else 8 if op.kind == "dense" else 4
    channels = _up(shape[0], 16 if shape[0] <= 64 else 64)
    return channels * (math.prod(shape[1:-1]) * _up(shape[-1], 4) + per_channel)


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
