"""A figure: a number that carries its unit, its origin and its error, or the reason of its absence.

An estimate is never shown as a measurement: `origin` says which one it is.
"""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from edgekit.schema.base import Document

Origin = Literal["measured", "estimated", "compiled"]


class Figure(Document):
    """A value, or None with a reason.

    Attributes:
        value: the number, in `unit`.
        low: lower end of the interval (what interval: see `method`).
        high: upper end of the interval.
        unit: "ms", "mJ", "bytes", ...
        origin: measured on a device, estimated by a model, or reported by a compiler.
        method: how it was found: the parameters of an estimate, the runs of a measurement.
        reason: why there is no value.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str | None = None
    origin: Origin | None = None
    method: str | None = None
    reason: str | None = None

    @model_validator(mode="after")
    def _explained(self) -> Figure:
        if self.value is None and not self.reason:
            raise ValueError("a figure without a value gives the reason")
        return self

    @classmethod
    def missing(cls, reason: str) -> Figure:
        """A figure that is not known, and why."""
        return cls(reason=reason)
