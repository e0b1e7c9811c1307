"""What the costs of a target are fitted to, or taken from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgekit.schema.base import Document
from edgekit.schema.names import Origin, Precision

LatencyKind = Literal["single", "single_e2e", "recip_fps"]
"""What was measured: one inference alone; the same with what comes before and after it in the
vendor's program; or frames a second of overlapping inferences, whose reciprocal is shorter than the
latency of one."""


class Cores(Document):
    """The cores that compute a network together."""

    threads: int = Field(1, ge=1)
    cache_bytes: int = Field(
        32768,
        ge=1,
        description="largest data cache that one core has alone, on the core with the least",
    )
    uneven: bool = Field(False, description="some are slower: all wait for a slow one's last tile")


class Reference(Document):
    """Published measurements, in the words of the measurement table.

    Rounds of one board differ by up to a tenth, so `source` keeps them apart.
    """

    device: str
    runtime: str
    threads: int | None = None
    precision: Precision
    source: str | None = Field(None, description="title of the publication; None: all")
    latency_kind: LatencyKind = "single"
    notes: str | None = Field(None, description="words that the notes must have; None: any")
    cores: Cores | None = Field(
        None, description="of a prior: that share a product there; None: as many as in the fit"
    )


class FitSpec(Document):
    """What the costs of one processor and precision are fitted to, and with which parameters."""

    processor: str
    precision: Precision
    parameters: str = Field("cpu", description="a name of edgekit.profiling.fit.parameters")
    source: str = Field(description="id of the source")
    origin: Origin = "fitted"
    reference: tuple[Reference, ...] = Field(
        (), description="in place of the target's references of this precision"
    )
    prior: tuple[Reference, ...] = Field(
        (),
        description="measurements of the same runtime on other hardware: they help to find how "
        "the costs of this one relate to each other, each board at its own speed",
    )
    cores: Cores | None = Field(
        None, description="that share a product, for costs of tiles; None: one thread"
    )


class DerivedSpec(Document):
    """Costs that are those of another target's processor, each times a factor."""

    processor: str
    precision: Precision
    base: str = Field(description="name of the target whose costs they are")
    base_processor: str = "cpu"
    times: float = Field(1.0, gt=0)
    without: tuple[str, ...] = Field((), description="terms that are left out, such as inference")
    error: bool = Field(
        False, description="it is the same hardware and runtime: the base's error is this one's too"
    )
