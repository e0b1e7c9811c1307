"""Profiles side by side: one column a file and target."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgekit.report.notes import missing_notes, warning_notes
from edgekit.schema.figure import Figure
from edgekit.schema.results import Comparison, FlightProfile, Profile, ProfileReport, Usage
from edgekit.schema.units import show_figure, show_number

_TOP = 5
_TOLD = 0.01
_OUTSIDE = "outside operators"
_UNKNOWN = "unknown"
_FLIGHT: tuple[tuple[str, str], ...] = (
    ("inference in flight", "inference_w"),
    ("of hover power", "hover_share_pct"),
    ("flight lost to inference", "seconds_lost"),
    ("flight lost to the computer", "computer_seconds_lost"),
    ("flight time", "flight_min"),
    ("highest speed", "max_speed_m_s"),
)
_USAGE: tuple[tuple[str, str], ...] = (
    ("average power", "average_power_w"),
    ("energy a day", "energy_per_day_j"),
    ("battery lasts", "battery_h"),
)


def side_by_side(report: ProfileReport, *, layers: bool = False) -> RenderableType:
    """A table of all profiles, with what to know about them below.

    Args:
        report: the profiles; those of one file are on the same targets in the same order.
        layers: whether to list every operator.
    """
    profiles = report.profiles
    files = list(dict.fromkeys(profile.artifact for profile in profiles))
    table = Table(title=Text(files[0] if len(files) == 1 else "profiles"), caption=_caption(report))
    table.add_column("")
    for profile in profiles:
        name = profile.place if len(files) == 1 else f"{profile.place}\n{profile.artifact}"
        table.add_column(Text(name), overflow="fold")
    for title, cells in _rows(report):
        table.add_row(Text(title), *(Text(cell) for cell in cells))
    notes = [*missing_notes(profiles), *_flight_notes(profiles), *_budget_notes(profiles)]
    parts: list[RenderableType] = [table, *(Text(line, style="dim") for line in notes)]
    parts += [Text(line, style="yellow") for line in warning_notes(profiles)]
    if layers:
        parts += [_layer_table(profile) for profile in profiles]
    return Group(*parts)


def _caption(report: ProfileReport) -> str:
    text = "~ estimated, with the 10th to 90th percentile where predictions were compared"
    if any(profile.latency_ms.origin == "compiled" for profile in report.profiles):
        text += "; of a compiler's cost model where its target has one"
    if any(_told_outside(profile) for profile in report.profiles):
        text += f"; {_OUTSIDE}: what an inference costs once, and transfers"
    return text


def _rows(report: ProfileReport) -> list[tuple[str, list[str]]]:
    profiles = report.profiles

    rows = [
        ("placement", [_placement(profile) for profile in profiles]),
        ("latency", [_text(profile.latency_ms) for profile in profiles]),
        ("energy", [_text(profile.energy_mj) for profile in profiles]),
    ]
    if any(profile.power_w for profile in profiles):
        rows.append(("power", [_text(profile.power_w) for profile in profiles]))
    for title, name in _USAGE:
        if any(_of_usage(profile.usage, name) for profile in profiles):
            rows.append((title, [_text(_of_usage(p.usage, name)) for p in profiles]))
    rows.append(("peak memory", [_text(profile.peak_memory_bytes) for profile in profiles]))
    if any(profile.flight for profile in profiles):
        rows += [
            (title, [_text(_of_flight(p.flight, name)) for p in profiles])
            for title, name in _FLIGHT
        ]
    if report.comparisons:
        rows += _comparison_rows(profiles, report.comparisons)
    if any(profile.verdict for profile in profiles):
        rows.append(("verdict", [_verdict(profile) for profile in profiles]))
    rows.append(("top operators", [_top(profile) for profile in profiles]))
    return rows


def _of_usage(used: Usage | None, name: str) -> Figure | None:
    return None if used is None else getattr(used, name)


def _of_flight(flight: FlightProfile | None, name: str) -> Figure | None:
    return None if flight is None else getattr(flight, name)


def _text(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    return _UNKNOWN if figure.value is None else show_figure(figure)


def _placement(profile: Profile) -> str:
    if profile.placement is None:
        return "-"
    counts = profile.placement
    cpu = len(profile.layers) - counts.accelerator_ops - counts.unplaced_ops
    words = [f"{counts.accelerator_ops} accelerator"] if counts.accelerator_ops else []
    words.append(f"{cpu} CPU")
    if counts.unplaced_ops:
        words.append(f"{counts.unplaced_ops} nowhere")
    return " / ".join(words)


def _comparison_rows(
    profiles: Sequence[Profile], comparisons: Sequence[Comparison]
) -> list[tuple[str, list[str]]]:
    by_place = {(one.artifact, one.target): one for one in comparisons}
    found = [by_place.get((p.artifact, p.place)) for p in profiles]
    rows = []
    for title, name in (
        ("latency ratio", "latency_ratio"),
        ("energy ratio", "energy_ratio"),
        ("memory ratio", "memory_ratio"),
        ("faster by", "faster_m_s"),
        ("longer by", "longer_s"),
        ("worth a payload of", "lighter_g"),
    ):
        cells = [_text(None if one is None else getattr(one, name)) for one in found]
        if any(cell != "-" for cell in cells):
            rows.append((title, cells))
    return rows


def _verdict(profile: Profile) -> str:
    over = (
        f"{one.budget} {show_number(one.value)} > {show_number(one.limit)}"
        for one in profile.budgets
        if one.verdict == "over" and one.value is not None and one.limit is not None
    )
    return "\n".join((profile.verdict or "-", *over))


def _top(profile: Profile) -> str:
    timed = [(layer.latency_ms.value or 0.0, layer) for layer in profile.layers]
    total = profile.latency_ms.value
    if not total:
        return "-"
    timed.sort(key=lambda pair: -pair[0])
    lines = [f"{_share(value, total)} {layer.op} {layer.layer}" for value, layer in timed[:_TOP]]
    if outside := _told_outside(profile):
        lines.append(f"{_share(outside, total)} {_OUTSIDE}")
    return "\n".join(lines)


def _share(value: float, total: float) -> str:
    percent = 100 * value / total
    return f"{percent:.0f}%" if percent >= 0.5 or not value else "<1%"


def _told_outside(profile: Profile) -> float | None:
    """Milliseconds that are of no operator; None: hardly any, or something is unknown."""
    total = profile.latency_ms.value
    times = [layer.latency_ms.value for layer in profile.layers]
    if total is None or None in times:
        return None
    rest = total - sum(filter(None, times))
    return rest if rest >= _TOLD * total else None


def _flight_notes(profiles: Sequence[Profile]) -> list[str]:
    notes: dict[str, dict[str, None]] = {}
    for profile in profiles:
        if profile.flight is None or profile.latency_ms.value is None:
            continue
        for _, name in _FLIGHT:
            figure = getattr(profile.flight, name)
            if figure.value is None and figure.reason:
                notes.setdefault(figure.reason, {})[profile.place] = None
        speed = profile.flight.max_speed_m_s
        if speed.value is not None and speed.method:
            notes.setdefault(speed.method, {})[profile.place] = None
    return [f"flight ({', '.join(places)}): {why}" for why, places in notes.items()]


def _budget_notes(profiles: Sequence[Profile]) -> list[str]:
    lines: dict[str, None] = {}
    for profile in profiles:
        for one in profile.budgets:
            if one.reason and one.value is not None:
                lines[f"budget {one.budget} ({profile.place}): {one.reason}"] = None
        if profile.usage and (reason := profile.usage.average_power_w.reason):
            lines[f"no average power ({profile.place}): {reason}"] = None
        elif profile.usage and "lower bound" in (profile.usage.average_power_w.method or ""):
            lines[f"average power ({profile.place}): {profile.usage.average_power_w.method}"] = None
    return list(lines)


def _layer_table(profile: Profile) -> Table:
    origin = profile.latency_ms.origin or "estimated"
    table = Table(title=Text(f"{profile.artifact} on {profile.place}, {origin}"))
    for title in ("#", "operator", "layer", "where", "MACs", "bytes", "ms", "share"):
        right = title in ("#", "MACs", "bytes", "ms", "share")
        table.add_column(title, justify="right" if right else "left", overflow="fold")
    total = profile.latency_ms.value
    for layer in profile.layers:
        cells = (
            str(layer.index), layer.op, layer.layer, layer.where or "nowhere",
            f"{layer.macs:,}", f"{layer.bytes:,}", *_time(layer.latency_ms.value, total),
        )  # fmt: skip
        table.add_row(*map(Text, cells))
    if outside := _told_outside(profile):
        table.add_section()
        table.add_row("", Text(_OUTSIDE), "", "", "", "", *_time(outside, total))
    return table


def _time(value: float | None, total: float | None) -> tuple[str, str]:
    if value is None:
        return "-", "-"
    return f"{value:.4f}", _share(value, total) if total else "-"
