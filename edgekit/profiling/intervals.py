"""Intervals of predictions as factors, and how independent ones combine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from edgekit.schema.figure import Figure
from edgekit.schema.names import Precision
from edgekit.schema.target import PredictionError

_WIDER = "; wider, as between families of networks, because it is extrapolated"


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
    extrapolated: bool,
) -> Range | None:
    """The interval of a network, wider if it has anything that the fit never saw; None: unknown."""
    error = (errors or {}).get(charged) if charged else None
    if error is None:
        return None
    method = f"10th to 90th percentile of {error.method}"
    if extrapolated:
        return Range(error.unseen_low, error.unseen_high, method + _WIDER)
    return Range(error.low, error.high, method)


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
