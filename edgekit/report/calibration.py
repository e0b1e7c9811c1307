"""A calibration as a table."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgekit.schema.calibration import CalibrationReport


def calibration_view(report: CalibrationReport) -> RenderableType:
    """What was measured in each setting, and how far predictions of unseen networks are off."""
    table = Table(
        "runtime", "precision", "threads", "networks", "failed", "spread", "median error", "p90",
        "family left out", "p90",
        title=Text(f"{report.target}: {report.machine}"),
    )  # fmt: skip
    for one in report.settings:
        table.add_row(
            one.runtime,
            one.precision,
            str(one.threads),
            str(one.networks),
            str(len(one.failed)),
            f"{one.disturbed_pct:.1f}%",
            _percent(one.median_pct),
            _percent(one.p90_pct),
            _percent(one.family_median_pct),
            _percent(one.family_p90_pct),
        )
    lines = [Text(f"warning: {line}") for line in report.warnings]
    return Group(table, *lines, Text(f"wrote {report.file}"))


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f}%"
