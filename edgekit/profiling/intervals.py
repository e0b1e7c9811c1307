"""Intervals of predictions as factors, and how independent ones combine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from edgekit.schema.figure import Figure
from edgekit.schema.names import Precision
from edgekit.schema.target import PredictionError

_WIDER = "; wider, by {share:.3g}% of what it is between families of networks: it is extrapolated"


@dataclass(frozen=True)
class Range:
    """An interval around a prediction, as factors, and how it was made."""

    low: float
    high: float
    method: str

    def times(self, other: Range) -> Range:
        """The interval of the product of two independent factors.

        Logarithms of the middles add up, their half widths add in quadrature, as for independent
        lognormal factors.
        """
        middle = half = 0.0
        for one in (self, other):
            low, high = math.log(one.low), math.log(one.high)
            middle += (low + high) / 2
            half = math.hypot(half, (high - low) / 2)
        method = f"{self.method} and {other.method}, combined as independent lognormal factors"
        return Range(math.exp(middle - half), math.exp(middle + half), method)


def error_range(
    errors: Mapping[Precision, PredictionError] | None,
    charged: Precision | None,
    *,
    extrapolated: float,
) -> Range | None:
    """The interval of a network: between that of one like those measured and that of another.

    Args:
        errors: by precision.
        charged: the precision that the network is charged by.
        extrapolated: how far it is from what the fit saw, from 0 to 1.

    Returns:
        None: it is not known.
    """
    error = (errors or {}).get(charged) if charged else None
    if error is None:
        return None
    method = f"10th to 90th percentile of {error.method}"
    if extrapolated > 0:
        method += _WIDER.format(share=100 * extrapolated)
    return Range(
        error.low ** (1 - extrapolated) * error.unseen_low**extrapolated,
        error.high ** (1 - extrapolated) * error.unseen_high**extrapolated,
        method,
    )


def estimated(value: float, unit: str, method: str, span: Range | None = None) -> Figure:
    """An estimate with its interval; without one `method` says why."""
    return Figure(
        value=value,
        low=value * span.low if span else None,
        high=value * span.high if span else None,
        unit=unit,
        origin="estimated",
        method=method,
    )


def factors(figure: Figure) -> Range | None:
    """A figure's interval as factors on its value; None if it has none."""
    if not figure.value or figure.low is None or figure.high is None:
        return None
    return Range(figure.low / figure.value, figure.high / figure.value, "")
