"""`edgekit memory --json`: the arena over time."""

from __future__ import annotations

from pydantic import Field

from edgekit.schema.base import Document
from edgekit.schema.figure import Figure


class MemoryStep(Document):
    """One operator, and the bytes that are in use while it runs."""

    index: int
    op: str
    layer: str
    live_bytes: int


class MemoryBlock(Document):
    """Memory of one tensor, or of several that share it.

    Attributes:
        tensor: its name; None: a scratch buffer of a kernel.
        first: index of the operator that first needs it.
        last: index of the operator that last needs it.
        offset: place in the arena, in bytes.
    """

    tensor: str | None
    bytes: int
    first: int
    last: int
    offset: int


class MemoryReport(Document):
    """How a runtime lays out a model's activations.

    Attributes:
        target: name of the target.
        arena_bytes: size of the arena.
        peak_bytes: largest sum of live blocks; no packing can do with less.
        peak: the operator where that is; None: there are no operators.
        ram: all that lies in RAM.
        flash: all that lies in flash; None: weights are in RAM.
        parts: what these are made of.
        steps: the operators in order.
        blocks: in order of their offsets.
        order: indices of the operators in an order with a lower peak; empty: the file's own is
            the best that was found.
        order_peak_bytes: the peak in that order.
        order_arena_bytes: the arena in that order.
        order_exact: whether no order has a lower peak.
        notes: what a reader must know of these figures.
    """

    artifact: str
    target: str
    arena_bytes: int
    peak_bytes: int
    peak: MemoryStep | None
    ram: Figure
    flash: Figure | None = None
    parts: dict[str, Figure] = Field(default_factory=dict)
    steps: tuple[MemoryStep, ...]
    blocks: tuple[MemoryBlock, ...]
    order: tuple[int, ...] = ()
    order_peak_bytes: int
    order_arena_bytes: int
    order_exact: bool
    notes: tuple[str, ...] = ()
