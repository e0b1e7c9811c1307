"""Where ONNX Runtime moves the channels of integers last for its convolutions, and back.

Its integer convolutions read and write channels last. Transpositions around each are pushed
through what does not mind the order until they meet and cancel, with those of the file too
(optimizer/nhwc_transformer.cc and optimizer/transpose_optimization in its source).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from edgekit.graph.types import Op
from edgekit.profiling.links import Links

_LAST, _FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
_CONVOLUTIONS = frozenset({"conv", "pointwise", "depthwise"})
_POOLS = frozenset({"MaxPool", "AveragePool"})


class ChannelsLast:
    """Follows the order of the channels of images.

    Args:
        links: the file.
        skipped: operators that are computed once.
        is_integer: whether an integer kernel computes an operator.
    """

    def __init__(
        self, links: Links, skipped: Iterable[int], is_integer: Callable[[Op], bool]
    ) -> None:
        self._links = links
        self._is_integer = is_integer
        self._last: set[int] = set()  # images with the channels last
        self._both: set[int] = set()  # that were moved: they are there in both orders
        self.free: set[int] = set()
        """Transpositions that cancel."""
        self.moved: dict[int, int] = {}
        """Values that are moved for an operator's sake."""
        once = {*skipped}
        for op in links.graph.ops:
            if op.index not in once:
                self._visit(op)
        for port in links.graph.outputs:
            maker = links.producers.get(port.tensor)
            if maker is not None and port.tensor in self._last - self._both:
                self._move(maker, port.tensor)

    def _visit(self, op: Op) -> None:
        order = tuple(op.attributes.get("perm") or ()) if op.name == "Transpose" else ()
        images = [t.index for t in self._links.activations_in(op) if self._is_image(t.index)]
        integer = self._is_integer(op)
        if order == _FIRST:
            self.free.add(op.index)
            self._last |= {*op.outputs}
        elif order == _LAST:
            if {*op.inputs[:1]} <= self._last:
                self.free.add(op.index)
        elif op.kind in _CONVOLUTIONS and integer:
            self._wanted(op, [one for one in images if one not in self._last])
            self._last |= {*op.outputs}
        elif order or (op.name in _POOLS and not self._pools_last(op, integer)):
            self._wanted(op, [one for one in images if one in self._last])
        elif any(one in self._last - self._both for one in images):
            self._wanted(op, [one for one in images if one not in self._last])
            self._last |= {one for one in op.outputs if self._is_image(one)}

    def _pools_last(self, op: Op, integer: bool) -> bool:
        """Whether a pool reads channels last: means of integers if a convolution comes later.

        Only there a transposition comes that the one before them can meet.
        """
        if not integer or op.name == "MaxPool":
            return integer
        waiting, seen = [op], {op.index}
        while waiting:
            outputs = waiting.pop().outputs
            for reader in (r for out in outputs for r in self._links.consumers.get(out, [])):
                if reader.kind in _CONVOLUTIONS and self._is_integer(reader):
                    return True
                if reader.index not in seen and self._passes(reader):
                    seen.add(reader.index)
                    waiting.append(reader)
        return False

    def _passes(self, op: Op) -> bool:
        """Whether an operator does not mind the order of channels."""
        if op.name in _POOLS:
            return self._is_integer(op)
        return op.kind in ("elementwise", "activation", "quantize") or op.name in ("Concat", "Pad")

    def _wanted(self, op: Op, images: list[int]) -> None:
        """Moves images, each at most once."""
        for image in images:
            if image not in self._both:
                self._both.add(image)
                self._move(op, image)

    def _move(self, op: Op, image: int) -> None:
        elements = self._links.graph.tensors[image].elements
        self.moved[op.index] = self.moved.get(op.index, 0) + elements

    def _is_image(self, tensor: int) -> bool:
        """Whether it has more than one place: else there is nothing to move."""
        shape = self._links.graph.tensors[tensor].shape
        return len(shape) == 4 and any((size or 1) > 1 for size in shape[2:])
