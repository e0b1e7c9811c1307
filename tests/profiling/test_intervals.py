"""Intervals of predictions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.profiling.intervals import error_range
from edgekit.schema.target import PredictionError

_ERROR = PredictionError(
    median_pct=3.0, p90_pct=9.0, low=0.9, high=1.2, coverage_pct=80.0, unseen_low=0.7,
    unseen_high=1.5, models=9, method="left out",
)  # fmt: skip


def test_it_is_that_of_networks_like_those_measured() -> None:
    found = error_range({"int8": _ERROR}, "int8", extrapolated=0.0)

    assert found is not None
    assert (found.low, found.high) == pytest.approx((0.9, 1.2))
    assert "wider" not in found.method


def test_it_is_that_of_other_families_where_all_is_extrapolated() -> None:
    found = error_range({"int8": _ERROR}, "int8", extrapolated=1.0)

    assert found is not None
    assert (found.low, found.high) == pytest.approx((0.7, 1.5))
    assert "wider, by 1e+02%" in found.method


@given(st.floats(0, 1), st.floats(0, 1))
def test_it_is_the_wider_the_more_is_extrapolated(one: float, other: float) -> None:
    less, more = (
        error_range({"int8": _ERROR}, "int8", extrapolated=share) for share in sorted((one, other))
    )

    assert less is not None
    assert more is not None
    assert more.low <= less.low + 1e-12
    assert more.high >= less.high - 1e-12
