from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.compress.schedule import PolynomialSchedule

SHARES = st.floats(0, 0.99)


def published(t: int, t0: int, n: int, dt: int, initial: Fraction, final: Fraction) -> Fraction:
    """Zhu and Gupta 2017, equation 1, in exact arithmetic."""
    return final + (initial - final) * (1 - Fraction(t - t0, n * dt)) ** 3


@given(st.integers(0, 1000), st.integers(1, 100), st.integers(1, 60), SHARES, SHARES)
def test_it_is_the_published_formula(
    begin: int, frequency: int, updates: int, initial: float, final: float
) -> None:
    schedule = PolynomialSchedule(begin, frequency, updates)
    for k in range(updates + 1):
        step = begin + k * frequency
        expected = published(step, begin, updates, frequency, Fraction(initial), Fraction(final))
        found = schedule.sparsity(step, initial=initial, final=final)
        assert found == pytest.approx(float(expected), abs=1e-12)
        assert schedule.is_update(step)


def test_values_by_hand() -> None:
    schedule = PolynomialSchedule(begin=100, frequency=10, updates=10)
    found = [
        schedule.sparsity(step, initial=0.0, final=0.8) for step in (0, 99, 100, 150, 159, 200, 999)
    ]
    # 0.8 (1 - (1 - 0.5)^3) = 0.7 halfway; it holds until the next removal.
    assert found == pytest.approx([0.0, 0.0, 0.0, 0.7, 0.7, 0.8, 0.8])
    assert not schedule.is_update(155)
    assert not schedule.is_update(210)


@given(
    st.integers(1, 5000),
    st.floats(0, 0.9),
    st.floats(0.01, 1),
    st.none() | st.integers(1, 50),
)
def test_it_rises_to_the_end_within_the_training(
    steps: int, begin: float, length: float, frequency: int | None
) -> None:
    end = min(1.0, begin + length)
    schedule = PolynomialSchedule.over(
        steps, begin=begin, end=end, frequency=frequency, exponent=3.0
    )
    values = [schedule.sparsity(step, initial=0.1, final=0.9) for step in range(steps + 2)]
    assert values == sorted(values)
    assert schedule.sparsity(schedule.end, initial=0.1, final=0.9) == pytest.approx(0.9)
    if frequency is None and int(end * steps) > int(begin * steps):
        assert schedule.end <= steps
