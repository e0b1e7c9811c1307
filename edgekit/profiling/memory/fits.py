"""Whether a target's memories hold what a model needs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from edgekit.schema.figure import Figure
from edgekit.schema.target import MemorySpec
from edgekit.schema.units import show_bytes


@dataclass(frozen=True)
class Held:
    """A memory with what is to be held in it.

    Attributes:
        memory: which.
        needed: bytes; its value may be missing.
        available: bytes.
    """

    memory: Literal["ram", "flash"]
    needed: Figure
    available: int

    @property
    def too_small(self) -> bool:
        """Whether more is needed than there is; no, where the need is unknown."""
        return self.needed.value is not None and self.needed.value > self.available


def held(ram: Figure, flash: Figure | None, spec: MemorySpec) -> tuple[Held, ...]:
    """The memories whose size is known, with what they are to hold.

    Args:
        ram: needed in RAM.
        flash: needed in flash; None: weights are in RAM.
        spec: of the target.
    """
    found = []
    limit = spec.arena_bytes or spec.ram_bytes
    if limit is not None:
        found.append(Held("ram", ram, limit))
    if flash is not None and spec.flash_bytes is not None:
        found.append(Held("flash", flash, spec.flash_bytes))
    return tuple(found)


def shortages(memories: Iterable[Held]) -> tuple[str, ...]:
    """One warning a memory that is too small."""
    names = {"ram": "RAM", "flash": "flash"}
    return tuple(
        f"does not fit: {show_bytes(one.needed.value or 0)} of {names[one.memory]} needed, "
        f"{show_bytes(one.available)} available"
        for one in memories
        if one.too_small
    )
