"""Memory that a compiler has laid out: the file says where its tensors go.

Vela writes an offset a tensor, and TensorFlow Lite Micro keeps to it
(tensorflow/lite/micro/docs/memory_management.md, "Offline planned tensor allocations"). The scratch
tensor of the accelerator's operator holds what is alive within; inputs and outputs may lie in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgekit.graph.types import Graph

if TYPE_CHECKING:
    from edgekit.profiling.memory.arena import Block


def offline_offsets(graph: Graph) -> dict[int, int]:
    """Offsets in the arena, in bytes, by tensor; empty where the runtime plans everything."""
    offsets = graph.metadata.get("offline_offsets", ())
    return {tensor: offset for tensor, offset in enumerate(offsets) if offset >= 0}


def outermost(blocks: Sequence[Block]) -> list[Block]:
    """Blocks without those that lie within another one as long as they live."""
    return [
        block
        for number, block in enumerate(blocks)
        if not any(_holds(other, block, number < place) for place, other in enumerate(blocks))
    ]


def _holds(outer: Block, inner: Block, first: bool) -> bool:
    """Whether `inner` is within `outer`; of two that are the same, the first is the outer one."""
    if outer is inner:
        return False
    edges = [
        (outer.offset, inner.offset),
        (inner.offset + inner.bytes, outer.offset + outer.bytes),
        (outer.first, inner.first),
        (inner.last, outer.last),
    ]
    same = all(low == high for low, high in edges)
    return all(low <= high for low, high in edges) and not (same and first)
