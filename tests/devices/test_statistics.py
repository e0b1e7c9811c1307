from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.devices.statistics import median_ranks, summarize

# Published table: Conover, Practical Nonparametric Statistics; also R's binom.test. One-based.
KNOWN = {6: (1, 6), 10: (2, 9), 20: (6, 15), 30: (10, 21), 50: (18, 33), 100: (40, 61)}


@pytest.mark.parametrize(("count", "ranks"), KNOWN.items())
def test_ranks_are_those_of_the_published_table(count: int, ranks: tuple[int, int]) -> None:
    found = median_ranks(count)
    assert found is not None
    assert (found[0] + 1, found[1] + 1) == ranks


@given(st.integers(6, 3000))
def test_the_interval_is_the_narrowest_that_keeps_the_confidence(count: int) -> None:
    found = median_ranks(count)
    assert found is not None
    low, high = found
    assert high == count - 1 - low

    def missed(rank: int) -> float:  # exact: the median lies below order statistic `rank`
        return sum(math.comb(count, k) for k in range(rank + 1)) / 2**count

    assert 2 * missed(low) <= 0.05 + 1e-9
    assert 2 * missed(low + 1) > 0.05 - 1e-9


@pytest.mark.parametrize("count", range(1, 6))
def test_five_runs_are_too_few_for_an_interval(count: int) -> None:
    assert median_ranks(count) is None
    summary = summarize([1.0] * count)
    assert summary.low is None
    assert summary.uncertainty == math.inf


def test_the_interval_covers_the_median_of_a_skewed_distribution() -> None:
    generator = np.random.default_rng(0)
    times = generator.exponential(1.0, (2000, 40)) + 1
    covered = 0
    for row in times:
        summary = summarize(list(row))
        assert summary.low is not None
        assert summary.high is not None
        covered += summary.low <= 1 + math.log(2) <= summary.high
    assert 0.94 <= covered / 2000 <= 0.99


def test_quantiles_and_drift() -> None:
    summary = summarize([1.0] * 50 + [2.0] * 50)
    assert (summary.runs, summary.mean, summary.least) == (100, 1.5, 1.0)
    assert summary.drift == pytest.approx(1.0)
    summary = summarize([float(value) for value in range(1, 101)])
    assert summary.median == 50.5
    assert summary.p90 == pytest.approx(90.1)
    assert summary.p99 == pytest.approx(99.01)
    assert summarize([3.0]).median == 3.0
