"""Times of operators by OpenVINO's own profiler."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.runtimes.openvino import Reading, later_times

_OPERATORS = {"dense": ("MatMul_1", "Relu_2"), "sum": ("Add_3",), "softmax": ("Softmax_4",)}


def _readings(blocks: list[tuple[int, float, dict[str, float]]]) -> list[Reading]:
    """What a profiler tells after blocks of so many runs, seconds and microseconds of each run."""
    runs, sums, found = 0, dict.fromkeys(_OPERATORS, 0.0), []
    for count, seconds, microseconds in blocks:
        runs += count
        sums = {name: sums[name] + count * microseconds.get(name, 0.0) for name in sums}
        told = {name: int(total // runs) for name, total in sums.items() if total >= runs}
        found.append(Reading(runs, seconds, told))
    return found


def test_what_the_first_runs_took_is_not_in_the_times() -> None:
    readings = _readings(
        [(3, 0.0, {"dense": 400.0, "sum": 3.0}), *[(7, 1e-4, {"dense": 70.0, "sum": 3.0})] * 3]
    )

    times = later_times(_OPERATORS, readings)

    assert [one.names for one in times] == list(_OPERATORS.values())
    dense, plain, short = (one.seconds for one in times)
    assert dense == pytest.approx(70e-6, abs=1e-6)
    assert plain == pytest.approx(3.5e-6)
    assert short == pytest.approx(0.5e-6)


def test_runs_that_were_disturbed_are_left_out() -> None:
    quiet = (10, 1e-4, {"dense": 70.0})
    readings = _readings([(3, 0.0, {"dense": 400.0}), quiet, (10, 2e-3, {"dense": 900.0}), quiet])

    times = later_times(_OPERATORS, readings)

    assert times[0].seconds == pytest.approx(70e-6, abs=3e-6)


def test_a_time_that_was_cut_off_is_never_nothing() -> None:
    readings = [Reading(1, 0.0, {"dense": 900}), Reading(8, 1e-3, {"dense": 112})]

    assert later_times({"dense": ("MatMul_1",)}, readings)[0].seconds == pytest.approx(0.5e-6)


@given(
    st.floats(1, 5000),
    st.lists(st.tuples(st.integers(4, 60), st.floats(0.95, 1.05)), min_size=3, max_size=3),
)
def test_whole_microseconds_are_off_by_one_run_in_each_at_most(
    microseconds: float, blocks: list[tuple[int, float]]
) -> None:
    runs = [(count, 1e-4 * share, {"dense": microseconds}) for count, share in blocks]

    times = later_times(_OPERATORS, _readings([(3, 0.0, {"dense": 5e4}), *runs]))

    assert times[0].seconds == pytest.approx(1e-6 * microseconds, abs=1.6e-6)
