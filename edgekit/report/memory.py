"""Memory over time, in a terminal and as an SVG file."""

from __future__ import annotations

import html
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from edgekit.base.files import write_text
from edgekit.report.tables import plain_table
from edgekit.schema.memory import MemoryBlock, MemoryReport, MemoryStep
from edgekit.schema.units import show_bytes, show_figure

_BAR = 40
_WIDTH, _HEIGHT, _MARGIN = 960, 480, 60
_COLORS = ("#4c78a8", "#72b7b2", "#54a24b", "#eeca3b", "#b279a2", "#9d755d")
_SCRATCH = "#bab0ac"
_PEAK = "#e45756"


def memory_view(report: MemoryReport) -> RenderableType:
    """A bar an operator, as long as its live bytes; the peak is marked."""
    title = f"{report.artifact} on {report.target}: arena {show_bytes(report.arena_bytes)}"
    table = plain_table("#>", "operator", "layer", "live>", "")
    longest = max(report.peak_bytes, 1)
    for step in report.steps:
        peak = report.peak is not None and step.index == report.peak.index
        bar = Text("█" * max(round(_BAR * step.live_bytes / longest), 1))
        if peak:
            bar = Text("").join((Text(bar.plain, style="red"), Text(" peak", style="red bold")))
        cells = (str(step.index), step.op, step.layer, show_bytes(step.live_bytes))
        table.add_row(*map(Text, cells), bar)
    return Group(Text(title, style="bold"), table, *map(Text, _lines(report)))


def write_memory_svg(report: MemoryReport, path: Path) -> None:
    """Writes the arena as a picture: operators to the right, offsets upwards; self-contained.

    Raises:
        StorageError: the disk is full.
    """
    write_text(path, _svg(report))


def _lines(report: MemoryReport) -> list[str]:
    lines = [f"RAM {show_figure(report.ram)}"]
    lines += [f"  {name.replace('_', ' ')} {show_figure(f)}" for name, f in report.parts.items()]
    if report.flash is not None:
        lines.append(f"flash {show_figure(report.flash)}")
    if report.peak is not None:
        lines.append(f"peak {show_bytes(report.peak_bytes)} at {_name(report.peak)}")
    if report.order:
        lines.append(
            f"peak could be {show_bytes(report.order_peak_bytes)} with another order of the "
            f"operators (arena {show_bytes(report.order_arena_bytes)})"
        )
    elif report.order_exact:
        lines.append("no other order of the operators has a lower peak")
    return [*lines, *report.notes]


def _name(step: MemoryStep) -> str:
    return f"operator {step.index}, {step.op} {step.layer}".rstrip()


def _svg(report: MemoryReport) -> str:
    columns = max(len(report.steps), 1)
    right = (_WIDTH - 2 * _MARGIN) / columns
    up = (_HEIGHT - 2 * _MARGIN) / max(report.arena_bytes, 1)
    floor = _HEIGHT - _MARGIN
    parts = [_rectangle(block, i, columns, right, up) for i, block in enumerate(report.blocks)]
    if report.peak is not None:
        x = _MARGIN + (report.peak.index + 0.5) * right
        label = f"peak {show_bytes(report.peak_bytes)} at {_name(report.peak)}"
        parts.append(f'<path d="M{x:.1f} {floor}V{_MARGIN}" stroke="{_PEAK}" stroke-width="2"/>')
        parts.append(_text(_MARGIN, _MARGIN - 10, label, color=_PEAK))
    title = f"{report.artifact} on {report.target}: arena {show_bytes(report.arena_bytes)}"
    parts.append(_text(_MARGIN, 24, title))
    parts.append(_text(_MARGIN, _HEIGHT - 24, f"operators 0 to {columns - 1}"))
    size = f'width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="#fff"/>', *parts, "</svg>\n"])


def _rectangle(block: MemoryBlock, index: int, columns: int, right: float, up: float) -> str:
    last = min(block.last, columns - 1)
    x, width = _MARGIN + block.first * right, (last - block.first + 1) * right
    height = block.bytes * up
    y = _HEIGHT - _MARGIN - block.offset * up - height
    color = _SCRATCH if block.tensor is None else _COLORS[index % len(_COLORS)]
    name = html.escape(block.tensor or "scratch")
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    told = f"<title>{name}: {show_bytes(block.bytes)} at {block.offset}</title>"
    return f'<rect {place} fill="{color}" stroke="#fff">{told}</rect>'


def _text(x: float, y: float, text: str, color: str = "#333") -> str:
    return f'<text x="{x}" y="{y}" fill="{color}" font-size="15">{html.escape(text)}</text>'
