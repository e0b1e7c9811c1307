from __future__ import annotations

import math

import numpy as np
import pytest

from edgekit.profiling.fit.residuals import (
    ROUNDS,
    Residual,
    coverage_pct,
    interval,
    median_pct,
    method,
    p90_pct,
    unseen_interval,
    within_pct,
)


def residuals(ratios: list[float], families: int = 1) -> list[Residual]:
    return [Residual(f"m{i}", f"f{i % families}", ratio) for i, ratio in enumerate(ratios)]


@pytest.mark.parametrize(("count", "share"), [(3, 0.825), (4, 0.825), (8, 0.825), (9, 0.8),
                                              (10, 9 / 11), (11, 0.825), (15, 0.825), (18, 0.825),
                                              (40, 0.825)])  # fmt: skip
def test_the_next_ratio_is_in_the_interval_as_often_however_few_there_were(
    count: int, share: float
) -> None:
    rng = np.random.default_rng(count)
    draws = np.exp(rng.normal(0.05, 0.1, size=(4000, count + 1)))
    inside = 0
    for row in draws:
        low, high = interval(row[:-1].tolist())
        inside += low <= row[-1] <= high
    assert inside / len(draws) == pytest.approx(share, abs=0.02)


def test_the_width_does_not_jump_with_the_number_of_residuals() -> None:
    special = pytest.importorskip("scipy.special")
    widths = []
    for count in range(12, 60):
        shares = np.arange(1, count + 1) / (count + 1)  # where the order statistics lie on average
        low, high = interval(np.exp(0.1 * special.ndtri(shares)).tolist())
        widths.append(math.log(high / low))
    assert widths == pytest.approx([0.2 * special.ndtri(0.9125)] * len(widths), rel=0.02)


def test_few_residuals_give_a_wide_interval() -> None:
    few = [0.9, 1.0, 1.1]
    low, high = interval(few)
    assert low < min(few) < max(few) < high
    with pytest.raises(ValueError, match="two"):
        interval([1.0])


def test_percentages() -> None:
    found = residuals([1.0, 1.25, 0.8, 2.0])  # predicted: exact, 20% low, 25% high, 50% low
    assert median_pct(found) == pytest.approx(22.5)
    assert p90_pct(found) == pytest.approx(np.percentile([0, 20, 25, 50], 90))
    assert within_pct(found, 20.0001) == 50


def test_coverage_leaves_the_model_out() -> None:
    assert coverage_pct(residuals([1.0] * 9 + [5.0])) == 90  # all but the outlier
    assert coverage_pct(residuals([1.0, 1.0, 1.0, 2.0])) == 75


@pytest.mark.parametrize("count", [4, 40])
def test_another_round_widens_the_interval_in_quadrature(count: int) -> None:
    ratios = np.exp(np.random.default_rng(count).normal(0.05, 0.02, count)).tolist()
    low, high = np.log(interval(ratios))
    wide_low, wide_high = np.log(interval(ratios, rounds=0.03))
    assert wide_low + wide_high == pytest.approx(low + high)
    assert (wide_high - wide_low) / 2 == pytest.approx(math.hypot((high - low) / 2, 0.03))
    assert "3.0% in quadrature" in method(count, rounds=0.03)
    assert "quadrature" not in method(count)


def test_coverage_counts_what_another_round_adds() -> None:
    found = residuals([1.0] * 9 + [1.05])
    assert coverage_pct(found) == 90
    assert coverage_pct(found, rounds=0.06) == 100


def test_unseen_operators_widen_the_interval() -> None:
    found = residuals([0.95, 1.0, 1.05, 1.02, 0.97])
    low, high = interval([r.ratio for r in found], rounds=ROUNDS)
    # Without families: the logarithms doubled.
    wide = unseen_interval(found, [])
    assert wide == pytest.approx((math.exp(2 * math.log(low)), math.exp(2 * math.log(high))))
    # With families: their own residuals, and never the narrower interval.
    far = residuals([0.5, 1.0, 1.6, 1.2], families=4)
    assert unseen_interval(found, far) == interval([r.ratio for r in far], rounds=ROUNDS)
    near = residuals([1.0, 1.0, 1.0, 1.0], families=4)
    assert unseen_interval(found, near) == (low, high)
    # Two families make no percentiles, but are within the interval.
    two = residuals([0.5, 1.6, 1.0, 1.2], families=2)
    assert unseen_interval(found, two) == (0.5, 1.6)
