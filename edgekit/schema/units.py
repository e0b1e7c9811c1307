"""Numbers as people read them: figures, bytes and shares, in one way everywhere."""

from __future__ import annotations

import math

from edgekit.schema.figure import Figure

_PREFIXES: dict[str, tuple[tuple[str, float], ...]] = {
    "ms": (("s", 1e3), ("ms", 1.0), ("µs", 1e-3), ("ns", 1e-6)),
    "mJ": (("J", 1e3), ("mJ", 1.0), ("µJ", 1e-3), ("nJ", 1e-6)),
    "J": (("MJ", 1e6), ("kJ", 1e3), ("J", 1.0), ("mJ", 1e-3), ("µJ", 1e-6)),
    "W": (("W", 1.0), ("mW", 1e-3), ("µW", 1e-6)),
    "bytes": (("GiB", 2.0**30), ("MiB", 2.0**20), ("KiB", 2.0**10), ("B", 1.0)),
}
NOTHING = "-"
_DIGITS = 3
_MOST_DIGITS = 5


def show_number(value: float, digits: int = _DIGITS) -> str:
    """A number with this many significant digits, without an exponent where it is not tiny."""
    if value == 0:
        return "0"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}" if abs(value) >= 1e-4 else f"{value:.{digits - 1}e}"


def show_bytes(count: float) -> str:
    """A size with an IEC prefix: 12.3 KiB."""
    name, factor = _prefix(count, "bytes")
    return f"{show_number(count / factor)} {name}"


def show_share(share: float) -> str:
    """A share between 0 and 1 as a percentage with one decimal."""
    return f"{100 * share:.1f}%"


def show_figure(figure: Figure, *, interval: bool = True) -> str:
    """A figure with its unit and interval; `~` marks what was not measured.

    An interval whose ends five digits do not tell apart is told by how far it reaches.

    A figure without a value gives a dash; its reason is `figure.reason`.

    Example:
        >>> show_figure(Figure(value=0.5, low=0.4, high=0.6, unit="ms", origin="estimated"))
        '~500 µs (400 to 600)'
    """
    if figure.value is None:
        return NOTHING
    unit, factor = _prefix(figure.value, figure.unit or "")
    ends = (figure.low, figure.high) if interval else (None, None)
    low, high = (None if end is None else end / factor for end in ends)
    digits = _digits(low, high)
    mark = "" if figure.origin == "measured" else "~"
    text = f"{mark}{show_number(figure.value / factor, digits)} {unit}".rstrip()
    if low is not None and high is not None:
        text += f" ({_show_interval(figure.value / factor, low, high, digits)})"
    return text


def _show_interval(value: float, low: float, high: float, digits: int) -> str:
    """Both ends; or, where they read alike, the farther one's distance, rounded up."""
    ends = show_number(low, digits), show_number(high, digits)
    if ends[0] != ends[1]:
        return " to ".join(ends)
    distance = max(value - low, high - value)
    if distance <= 0:
        return "\N{PLUS-MINUS SIGN}0"
    step = 10.0 ** math.floor(math.log10(distance))
    upper = math.ceil(round(distance / step, 6)) * step
    return f"\N{PLUS-MINUS SIGN}{show_number(upper, 1)}"


def _digits(low: float | None, high: float | None) -> int:
    """As many digits as it takes to tell the ends of an interval apart, from 3 to 5."""
    if low is None or high is None:
        return _DIGITS
    options = range(_DIGITS, _MOST_DIGITS)
    apart = (digits for digits in options if show_number(low, digits) != show_number(high, digits))
    return next(apart, _MOST_DIGITS if low != high else _DIGITS)


def _prefix(value: float, unit: str) -> tuple[str, float]:
    """The largest prefix that leaves at least 1 before the point; zero keeps the plain unit."""
    steps = _PREFIXES.get(unit, ((unit, 1.0),))
    if value == 0:
        return next(step for step in steps if step[1] == 1.0)
    return next((step for step in steps if abs(value) >= step[1]), steps[-1])
