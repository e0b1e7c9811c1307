"""The range of an activation's 8-bit grid, chosen from a histogram of its values. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Calibration = Literal["minmax", "percentile", "mse", "entropy"]
Values = NDArray[Any]

_BINS = 2048
_LEVELS = 255
_SHARES = np.linspace(1, 0.2, 81)  # of the min-max range, for those that search
_ROUNDS = 3
_SMOOTHING = 1e-4


@dataclass
class Histogram:
    """Counts of values between two ends that contain zero.

    Attributes:
        low: lower end, at most zero.
        high: upper end, at least zero.
        counts: in bins of one width; without exact zeros, which every grid holds.
        zeros: how many values are exactly zero.
        least: the smallest value, or zero.
        most: the largest value, or zero.
    """

    low: float
    high: float
    counts: Values
    zeros: int = 0
    least: float = 0.0
    most: float = 0.0

    @classmethod
    def between(cls, low: float, high: float) -> Histogram:
        """An empty one."""
        return cls(min(low, 0.0), max(high, 0.0), np.zeros(_BINS, np.int64))

    def add(self, values: Values) -> None:
        """Counts values; those outside the ends count at the ends."""
        some = values[values != 0]
        self.zeros += values.size - some.size
        self.least = min(self.least, float(some.min(initial=0)))
        self.most = max(self.most, float(some.max(initial=0)))
        inside = np.clip(some, self.low, self.high)
        self.counts += np.histogram(inside, _BINS, (self.low, self.high))[0]

    @property
    def centers(self) -> Values:
        """The middle of each bin, float64."""
        width = (self.high - self.low) / len(self.counts)
        return self.low + width * (np.arange(len(self.counts)) + 0.5)

    def outside(self, low: float, high: float) -> float:
        """Share of the values beyond a range."""
        beyond = (self.centers < low) | (self.centers > high)
        return float(self.counts[beyond].sum() / max(self.counts.sum() + self.zeros, 1))


def choose_range(
    histogram: Histogram, calibration: Calibration, percentile: float = 99.99
) -> tuple[float, float]:
    """The ends of the grid's range; they contain zero.

    Args:
        histogram: of all values of one scale.
        calibration: minmax: all values; percentile: as many of them, in the middle; mse: the least
            squared error; entropy: the least divergence of the rounded values' distribution
            (TensorRT's, Migacz 2017, for a range that need not be symmetric).
        percentile: in percent, for that.
    """
    if calibration == "minmax" or not histogram.counts.any():
        return histogram.least, histogram.most
    if calibration == "percentile":
        return _percentile(histogram, percentile)
    return _least_error(histogram) if calibration == "mse" else _least_divergence(histogram)


def _percentile(histogram: Histogram, percentile: float) -> tuple[float, float]:
    edges = np.linspace(histogram.low, histogram.high, len(histogram.counts) + 1)
    below = np.concatenate([[0], np.cumsum(histogram.counts)]).astype(np.float64)
    below[edges > 0] += histogram.zeros
    cut = (1 - percentile / 100) / 2 * below[-1]
    low = edges[np.searchsorted(below, cut, side="right") - 1]
    high = edges[np.searchsorted(below, below[-1] - cut, side="left")]
    low, high = max(min(float(low), 0), histogram.least), min(max(float(high), 0), histogram.most)
    return (low, high) if high > low else (histogram.least, histogram.most)


def _least_error(histogram: Histogram) -> tuple[float, float]:
    """One end after the other, until both stay."""
    low, high = histogram.least, histogram.most
    for _ in range(_ROUNDS):
        before = low, high
        high = min(_SHARES * histogram.most, key=lambda end: squared_error(histogram, low, end))
        low = min(_SHARES * histogram.least, key=lambda end: squared_error(histogram, end, high))
        if (low, high) == before:
            break
    return float(low), float(high)


def squared_error(histogram: Histogram, low: float, high: float) -> float:
    """Mean squared error of rounding to 256 levels of a range, and of saturating at its ends."""
    centers, counts = histogram.centers, histogram.counts
    beyond = np.where(centers > high, centers - high, np.minimum(centers - low, 0))
    step = (high - low) / _LEVELS
    error = np.sum(counts * beyond**2) + counts[beyond == 0].sum() * step**2 / 12
    return float(error / (counts.sum() + histogram.zeros))


def _least_divergence(histogram: Histogram) -> tuple[float, float]:
    share = min(_SHARES, key=lambda share: _divergence(histogram, share))
    return histogram.least * float(share), histogram.most * float(share)


def _divergence(histogram: Histogram, share: float) -> float:
    """Of the distribution saturated to a share of the range from its form in 255 levels."""
    centers, counts = histogram.centers, histogram.counts
    kept = (centers >= histogram.least * share) & (centers <= histogram.most * share)
    first, last = int(np.argmax(kept)), len(kept) - int(np.argmax(kept[::-1]))
    inside = counts[first:last].astype(np.float64)
    saturated = inside.copy()
    saturated[0] += counts[:first].sum()
    saturated[-1] += counts[last:].sum()
    level = np.arange(len(inside)) * _LEVELS // len(inside)
    filled = np.bincount(level, inside > 0, _LEVELS)
    mean = np.bincount(level, inside, _LEVELS) / np.maximum(filled, 1)
    rounded = np.where(inside > 0, mean[level], 0)
    p, q = (_smoothed(values) for values in (saturated, rounded))
    return float(np.sum(p * np.log(p / q)))


def _smoothed(counts: Values) -> Values:
    positive: Values = counts + _SMOOTHING * max(counts.sum(), 1) / len(counts)
    shares: Values = positive / positive.sum()
    return shares
