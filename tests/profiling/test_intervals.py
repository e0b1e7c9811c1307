"""Intervals of predictions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.profiling.intervals import error_range
from edgekit.profiling.profile import profile_graph
from edgekit.profiling.targets import load_target
from edgekit.schema.target import PredictionError
from tests.profiling.graphs import small_cnn

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
    assert "wider, by 100%" in found.method


@given(st.floats(0, 1), st.floats(0, 1))
def test_it_is_the_wider_the_more_is_extrapolated(one: float, other: float) -> None:
    less, more = (
        error_range({"int8": _ERROR}, "int8", extrapolated=share) for share in sorted((one, other))
    )

    assert less is not None
    assert more is not None
    assert more.low <= less.low + 1e-12
    assert more.high >= less.high - 1e-12


def test_a_network_with_little_that_is_new_is_nearly_as_sure_as_one_without() -> None:
    target = load_target("raspberry-pi-4")
    processor = target.processors[0]
    costs = processor.costs["int8"]

    def width(*unseen: str) -> float:
        seen = tuple(kind for kind in costs.seen if kind not in unseen)
        known = {"int8": costs.model_copy(update={"seen": seen, "seen_macs": None})}
        own = processor.model_copy(update={"costs": known})
        other = target.model_copy(update={"processors": (own, *target.processors[1:])})
        figure = profile_graph(small_cnn().graph(), other, "a").latency_ms
        assert figure.low is not None
        assert figure.high is not None
        return figure.high / figure.low

    assert width() < width("dense") < width("dense", "conv", "depthwise", "pointwise")
