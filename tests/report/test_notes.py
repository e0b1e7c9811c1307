"""What stands below a table."""

from __future__ import annotations

from edgekit.report.notes import short_warning_notes
from edgekit.schema.results import RunReport


def test_a_memory_that_is_too_small_is_told_where_other_doubts_are_counted(
    report: RunReport,
) -> None:
    _, estimate = report.profiles
    short, doubt = "64 KiB of RAM wanted, 16 KiB there", "extrapolated: no such kernel was measured"
    doubtful = estimate.model_copy(update={"warnings": (short, doubt), "shortages": (short,)})
    place, counted = short_warning_notes([doubtful])
    assert place.endswith(f": {short}")
    assert counted.startswith("estimates beyond what was measured on their target: 1;")
