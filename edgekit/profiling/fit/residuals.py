"""What residuals say about the next prediction: errors, intervals and their coverage."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.base.extras import require

# With fewer residuals than this the interval reaches beyond the smallest and the largest of them.
_ENOUGH = 9
# Share of the next ratios above an interval, and below it: a tenth, less an eighth of that, because
# the terms of a fit were chosen on the very ratios that make the interval.
_TAIL = 0.0875
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


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """The 10th and 90th percentile of the next ratio, given earlier ones.

    It is made to hold 82.5% of next ratios. Nine and more: order statistics at the ranks
    0.0875 (n + 1) and 0.9125 (n + 1), within the n and interpolated, for the next of n + 1
    exchangeable values is as likely below the first as between any two (conformal prediction:
    Vovk, Gammerman and Shafer 2005; Lei et al. 2018). Fewer: normal logarithms, mean -+ t s
    sqrt(1 + 1/n) with t the 91.25th percentile of Student's t with n - 1 degrees of freedom, which
    is wider the fewer there are.

    Raises:
        ValueError: fewer than two ratios.
    """
    if len(ratios) < 2:
        raise ValueError("an interval needs two ratios")
    logs = np.log(np.asarray(ratios, dtype=np.float64))
    if len(logs) >= _ENOUGH:
        logs.sort()
        rank = max(_TAIL * (len(logs) + 1), 1.0)
        low, high = np.interp((rank, len(logs) + 1 - rank), np.arange(1, len(logs) + 1), logs)
        return math.exp(low), math.exp(high)
    special = require("scipy.special", purpose="to make intervals of few measurements")
    t = float(special.stdtrit(len(logs) - 1, 1 - _TAIL))
    half = t * float(np.std(logs, ddof=1)) * math.sqrt(1 + 1 / len(logs))
    middle = float(np.mean(logs))
    return math.exp(middle - half), math.exp(middle + half)


def method(count: int) -> str:
    """How `interval` made an interval of so many residuals, in words."""
    how = (
        "order statistics"
        if count >= _ENOUGH
        else "Student's t on logarithms, wide because models are few"
    )
    return (
        "measured over predicted, each model left out of the fit in turn, "
        f"widened to {1 - 2 * _TAIL:.1%} because terms were chosen on them; {how}"
    )


def unseen_interval(
    residuals: Sequence[Residual], by_family: Sequence[Residual]
) -> tuple[float, float]:
    """The interval for networks with operators that the fit never saw; never the narrower one.

    It is made of the residuals with whole families left out; where there are too few of those,
    the interval of `residuals` with its logarithms doubled, which is an assumption.
    """
    low, high = interval([r.ratio for r in residuals])
    if len({r.family for r in by_family}) > 2:
        wide = interval([r.ratio for r in by_family])
        return min(low, wide[0]), max(high, wide[1])
    return min(low, 1.0) ** _UNSEEN_FACTOR, max(high, 1.0) ** _UNSEEN_FACTOR


def coverage_pct(residuals: Sequence[Residual]) -> float:
    """Share of residuals within the interval that the other models' residuals make, in percent."""
    by_model: dict[str, list[float]] = defaultdict(list)
    for residual in residuals:
        by_model[residual.model].append(residual.ratio)
    inside = 0
    for model, ratios in by_model.items():
        low, high = interval([r.ratio for r in residuals if r.model != model])
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
