"""What residuals say about the next prediction: errors, intervals and their coverage."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekit.base.extras import require

# With fewer residuals than this the interval reaches beyond the smallest and the largest of them.
_ENOUGH = 9
# Share of the next ratios above an interval, and below it: a tenth, less an eighth of that, because
# the terms of a fit were chosen on the very ratios that make the interval.
_TAIL = 0.0875
ROUNDS = 0.031
"""How far another round of measurement is off, as a half width of an interval's logarithm.

The median of |median of log(latency in the other round / in this one)| over 17 pairs of rounds of
the same board and runtime (MLPerf Inference 1.0 to 3.0, open division, TFLite), of 23 to 33
networks each; 1% to 10%. The intervals then hold 76% of the networks of rounds that no fit saw, in
place of 68%, and 86% of those of its own round that were left out, in place of 83%."""

# Factor on the logarithm of the interval where no family could be left out: assumed.
_UNSEEN_FACTOR = 2.0


@dataclass(frozen=True)
class Residual:
    """One measurement that the fit had not seen.

    Attributes:
        model: name of the network.
        family: that the network belongs to.
        ratio: measured over predicted.
    """

    model: str
    family: str
    ratio: float

    @property
    def error_pct(self) -> float:
        """|predicted / measured - 1| in percent."""
        return abs(1 / self.ratio - 1) * 100


def interval(ratios: Sequence[float], *, rounds: float = 0.0) -> tuple[float, float]:
    """The 10th and 90th percentile of the next ratio, given earlier ones.

    It is made to hold 82.5% of next ratios. Nine and more: order statistics at the ranks
    0.0875 (n + 1) and 0.9125 (n + 1), within the n and interpolated, for the next of n + 1
    exchangeable values is as likely below the first as between any two (conformal prediction:
    Vovk, Gammerman and Shafer 2005; Lei et al. 2018). Fewer: normal logarithms, mean -+ t s
    sqrt(1 + 1/n) with t the 91.25th percentile of Student's t with n - 1 degrees of freedom, which
    is wider the fewer there are.

    Args:
        ratios: of one round of measurement.
        rounds: what the next one's round adds to half of the interval's logarithm, in quadrature:
            `ROUNDS`, or nothing if it is of the same round.

    Raises:
        ValueError: fewer than two ratios.
    """
    if len(ratios) < 2:
        raise ValueError("an interval needs two ratios")
    low, high = _next(np.log(np.asarray(ratios, dtype=np.float64)))
    middle, half = (low + high) / 2, math.hypot((high - low) / 2, rounds)
    return math.exp(middle - half), math.exp(middle + half)


def _next(logs: NDArray[np.float64]) -> tuple[float, float]:
    """The interval of the next logarithm of the same round."""
    if len(logs) >= _ENOUGH:
        rank = max(_TAIL * (len(logs) + 1), 1.0)
        ranks = np.arange(1, len(logs) + 1)
        low, high = np.interp((rank, len(logs) + 1 - rank), ranks, np.sort(logs))
        return float(low), float(high)
    special = require("scipy.special", purpose="to make intervals of few measurements")
    t = float(special.stdtrit(len(logs) - 1, 1 - _TAIL))
    half = t * float(np.std(logs, ddof=1)) * math.sqrt(1 + 1 / len(logs))
    middle = float(np.mean(logs))
    return middle - half, middle + half


def method(count: int, *, rounds: float = 0.0) -> str:
    """How `interval` made an interval of so many models that were left out one by one, in words."""
    return (
        "measured over predicted, each model left out of the fit in turn, "
        f"widened to {1 - 2 * _TAIL:.1%} because terms were chosen on them; "
        f"{rule(count, rounds=rounds)}"
    )


def rule(count: int, *, rounds: float = 0.0) -> str:
    """By what rule `interval` made an interval of so many residuals, in words."""
    how = (
        "order statistics"
        if count >= _ENOUGH
        else "Student's t on logarithms, wide because models are few"
    )
    wider = f"; with {rounds:.1%} in quadrature, by which rounds of measurement differ"
    return f"{how}{wider if rounds else ''}"


def unseen_interval(
    residuals: Sequence[Residual], by_family: Sequence[Residual]
) -> tuple[float, float]:
    """The interval, in any round, of networks with operators that the fit never saw.

    It is made of the residuals with whole families left out, and never narrower than that of all
    `residuals`; where there are too few families, the latter with its logarithms doubled, which is
    an assumption, and what is known of families within it.
    """
    low, high = interval([r.ratio for r in residuals], rounds=ROUNDS)
    families = [r.ratio for r in by_family]
    if len({r.family for r in by_family}) > 2:
        wide = interval(families, rounds=ROUNDS)
        return min(low, wide[0]), max(high, wide[1])
    doubled = min(low, 1.0) ** _UNSEEN_FACTOR, max(high, 1.0) ** _UNSEEN_FACTOR
    return min(*doubled, *families), max(*doubled, *families)


def coverage_pct(residuals: Sequence[Residual], *, rounds: float = 0.0) -> float:
    """Share of residuals within the interval that the other models' residuals make, in percent.

    Args:
        residuals: of one round.
        rounds: see `interval`.
    """
    by_model: dict[str, list[float]] = defaultdict(list)
    for residual in residuals:
        by_model[residual.model].append(residual.ratio)
    inside = 0
    for model, ratios in by_model.items():
        others = [r.ratio for r in residuals if r.model != model]
        low, high = interval(others, rounds=rounds)
        inside += sum(low <= ratio <= high for ratio in ratios)
    return 100 * inside / len(residuals)


def median_pct(residuals: Sequence[Residual]) -> float:
    """Median absolute percentage error."""
    return float(np.median([r.error_pct for r in residuals]))


def p90_pct(residuals: Sequence[Residual]) -> float:
    """90th percentile of the absolute percentage error."""
    return float(np.percentile([r.error_pct for r in residuals], 90))


def within_pct(residuals: Sequence[Residual], limit: float) -> float:
    """Share of predictions within `limit` percent of the measurement, in percent."""
    return 100 * sum(r.error_pct <= limit for r in residuals) / len(residuals)
