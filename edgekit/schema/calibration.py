"""`edgekit calibrate --json`."""

from __future__ import annotations

from pydantic import Field

from edgekit.schema.base import Document
from edgekit.schema.names import Precision


class CalibratedSetting(Document):
    """One runtime, precision and number of threads.

    Attributes:
        failed: networks that the runtime did not run, with the reason.
        disturbed_pct: median of how much slower than on a quiet device other code ran meanwhile.
        median_pct: median error on composite networks that the fit had not seen.
        p90_pct: 90th percentile of the same.
        family_median_pct: median error on those of families that the fit had not seen.
        family_p90_pct: 90th percentile of the same.
    """

    runtime: str
    precision: Precision
    threads: int
    networks: int
    failed: dict[str, str] = Field(default_factory=dict)
    disturbed_pct: float
    median_pct: float | None
    p90_pct: float | None
    family_median_pct: float | None
    family_p90_pct: float | None


class CalibrationReport(Document):
    """What was measured and written."""

    target: str
    file: str
    machine: str
    settings: tuple[CalibratedSetting, ...]
    warnings: tuple[str, ...] = ()
