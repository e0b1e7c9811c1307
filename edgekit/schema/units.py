"""Numbers as people read them: figures, bytes and shares, in one way everywhere."""

from __future__ import annotations

from edgekit.schema.figure import Figure

_PREFIXES: dict[str, tuple[tuple[str, float], ...]] = {
    "ms": (("s", 1e3), ("ms", 1.0), ("µs", 1e-3), ("ns", 1e-6)),
    "mJ": (("J", 1e3), ("mJ", 1.0), ("µJ", 1e-3), ("nJ", 1e-6)),
    "bytes": (("GiB", 2.0**30), ("MiB", 2.0**20), ("KiB", 2.0**10), ("B", 1.0)),
}
NOTHING = "-"


def show_number(value: float) -> str:
    """Three significant digits, without an exponent for the sizes that occur here."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 1e-4 else f"{value:.2e}"


def show_bytes(count: float) -> str:
    """A size with an IEC prefix: 12.3 KiB."""
    name, factor = _prefix(count, "bytes")
    return f"{show_number(count / factor)} {name}"


def show_share(share: float) -> str:
    """A share between 0 and 1 as a percentage with one decimal."""
    return f"{100 * share:.1f}%"


def show_figure(figure: Figure, *, interval: bool = True) -> str:
    """A figure with its unit and interval; `~` marks what was not measured.

    A figure without a value gives a dash; its reason is `figure.reason`.

    Example:
        >>> show_figure(Figure(value=0.5, low=0.4, high=0.6, unit="ms", origin="estimated"))
        '~500 µs (400 to 600)'
    """
    if figure.value is None:
        return NOTHING
    unit, factor = _prefix(figure.value, figure.unit or "")
    mark = "" if figure.origin == "measured" else "~"
    text = f"{mark}{show_number(figure.value / factor)} {unit}".rstrip()
    if interval and figure.low is not None and figure.high is not None:
        low, high = show_number(figure.low / factor), show_number(figure.high / factor)
        text += f" ({low} to {high})"
    return text


def _prefix(value: float, unit: str) -> tuple[str, float]:
    """The largest prefix that leaves at least 1 before the point; zero keeps the plain unit."""
    steps = _PREFIXES.get(unit, ((unit, 1.0),))
    if value == 0:
        return next(step for step in steps if step[1] == 1.0)
    return next((step for step in steps if abs(value) >= step[1]), steps[-1])
