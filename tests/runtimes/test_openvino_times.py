"""Times of operators by OpenVINO's own profiler."""

from __future__ import annotations

import pytest

from edgekit.runtimes.openvino import later_times


def test_what_the_first_run_took_is_not_in_the_times() -> None:
    first = {0: (("dense",), 1200), 1: (("sum",), 3)}
    mean = {1: (("sum",), 3), 0: (("dense",), 70), 2: (("softmax",), 0)}  # of 24 runs

    times = later_times(first, mean, 23)

    assert [one.names for one in times] == [("dense",), ("sum",), ("softmax",)]
    dense, plain, short = (one.seconds for one in times)
    assert dense == pytest.approx(1e-6 * (24 * 70 - 1200) / 23 + 0.5e-6)
    assert plain == pytest.approx(3.5e-6)
    assert short == pytest.approx(0.5e-6)


def test_a_time_that_was_cut_off_is_never_nothing() -> None:
    times = later_times({0: (("dense",), 900)}, {0: (("dense",), 112)}, 7)

    assert times[0].seconds == pytest.approx(0.5e-6)
