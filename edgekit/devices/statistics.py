"""Statistics of run times: they are skewed and have outliers, so nothing here assumes a shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """What a series of times comes to, in its own unit.

    Attributes:
        low: lower end of the confidence interval of the median; None with too few times.
        high: its upper end.
        drift: relative change of the median from the first half of the series to the second.
    """

    runs: int
    median: float
    low: float | None
    high: float | None
    p90: float
    p99: float
    mean: float
    least: float
    drift: float

    @property
    def uncertainty(self) -> float:
        """Half the width of the interval relative to the median; infinite without interval."""
        if self.low is None or self.high is None:
            return math.inf
        return (self.high - self.low) / 2 / self.median if self.median else 0.0


def summarize(times: Sequence[float]) -> Summary:
    """Quantiles, interval and drift of times in the order in which they were taken."""
    values = np.asarray(times, np.float64)
    half = len(values) // 2
    first, second = np.median(values[: half or 1]), np.median(values[half:])
    ranks = median_ranks(len(values))
    ordered = np.sort(values)
    return Summary(
        runs=len(values),
        median=float(np.median(values)),
        low=None if ranks is None else float(ordered[ranks[0]]),
        high=None if ranks is None else float(ordered[ranks[1]]),
        p90=float(np.quantile(values, 0.9)),
        p99=float(np.quantile(values, 0.99)),
        mean=float(values.mean()),
        least=float(ordered[0]),
        drift=float(second / first - 1) if first else 0.0,
    )


def median_ranks(count: int, confidence: float = CONFIDENCE) -> tuple[int, int] | None:
    """The order statistics (from 0) between which the median lies with at least `confidence`.

    The number of samples below the median is binomial(count, 1/2), whatever the distribution is;
    so the interval between the k-th smallest and the k-th largest misses the median with twice
    the probability of fewer than k of count. See Conover, Practical Nonparametric Statistics, 3.2.

    Returns:
        None, if even the whole range of the samples does not reach the confidence.
    """
    allowed = (1 - confidence) / 2
    below, k = 0.0, 0
    while k < count:
        below += math.exp(_log_binomial(count, k) - count * math.log(2))
        if below > allowed:
            break
        k += 1
    return (k - 1, count - k) if k else None


def _log_binomial(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
