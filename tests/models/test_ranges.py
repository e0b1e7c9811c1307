"""Ranges of activations: properties of what is chosen, and the least error found by hand."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgekit.models.ranges import Calibration, Histogram, choose_range, squared_error

EVERY: tuple[Calibration, ...] = get_args(Calibration)
samples = arrays.arrays(
    np.float32, st.integers(1, 400), elements=st.floats(-1e4, 1e4, width=32, allow_subnormal=False)
)


def histogram(values: Any) -> Histogram:
    made = Histogram.between(float(values.min()), float(values.max()))
    made.add(values)
    return made


@given(samples, st.sampled_from(EVERY))
def test_ranges_contain_zero_and_nothing_that_was_not_seen(values: Any, how: Calibration) -> None:
    low, high = choose_range(histogram(values), how)
    assert min(float(values.min()), 0) <= low <= 0 <= high <= max(float(values.max()), 0)
    if np.any(values):
        assert low < high


@given(samples, st.integers(1, 5))
def test_batches_give_what_all_values_give_at_once(values: Any, parts: int) -> None:
    whole = histogram(values)
    split = Histogram.between(float(values.min()), float(values.max()))
    for part in np.array_split(values, parts):
        split.add(part)
    np.testing.assert_array_equal(split.counts, whole.counts)
    assert (split.least, split.most, split.zeros) == (whole.least, whole.most, whole.zeros)


def test_minmax_is_what_was_seen_even_if_less_than_expected() -> None:
    wide = Histogram.between(-10, 10)
    wide.add(np.array([-1.0, 2.0]))
    assert choose_range(wide, "minmax") == (-1, 2)


@pytest.mark.parametrize("percent", [99.0, 99.9])
def test_percentile_leaves_out_as_many_values(percent: float) -> None:
    values = np.random.default_rng(0).normal(size=200_000)
    low, high = choose_range(histogram(values), "percentile", percent)
    outside = np.mean((values < low) | (values > high))
    assert outside == pytest.approx(1 - percent / 100, rel=0.2)
    tail = (100 - percent) / 2
    np.testing.assert_allclose([low, high], np.percentile(values, [tail, 100 - tail]), atol=0.02)


@pytest.mark.parametrize("relu", [False, True])
def test_mse_is_the_least_error_of_the_real_grid(relu: bool) -> None:
    """Against the rounding itself, on all ends that are tried."""
    values = np.random.default_rng(0).laplace(size=100_000)
    values = np.maximum(values, 0) if relu else values
    values[:3] = 40

    def error(low: float, high: float) -> float:
        step = (high - low) / 255
        zero = np.round(-128 - low / step)
        codes = np.clip(np.round(values / step) + zero, -128, 127)
        return float(np.mean(((codes - zero) * step - values) ** 2))

    seen = histogram(values)
    low, high = choose_range(seen, "mse")
    assert squared_error(seen, low, high) == pytest.approx(error(low, high), rel=0.1)
    lows = [0.0] if relu else np.linspace(1, 0.2, 21) * values.min()
    best = min(error(a, b) for a in lows for b in np.linspace(1, 0.2, 41) * values.max())
    assert error(low, high) <= 1.03 * best
    assert error(low, high) < error(min(values.min(), 0), values.max())


def test_entropy_drops_a_lone_outlier_and_keeps_a_uniform_range() -> None:
    random = np.random.default_rng(0)
    even = random.uniform(0, 1, 100_000)
    assert choose_range(histogram(even), "entropy")[1] > 0.95
    values = np.abs(random.normal(size=100_000))
    values[0] = 60
    assert choose_range(histogram(values), "entropy")[1] < 30


def test_exact_zeros_weigh_nothing() -> None:
    values = np.abs(np.random.default_rng(0).normal(size=10_000))
    padded = np.concatenate([values, np.zeros(90_000)])
    assert choose_range(histogram(padded), "mse") == choose_range(histogram(values), "mse")
    assert histogram(padded).outside(0, 1) == pytest.approx(np.mean(padded > 1), abs=2e-4)
