"""What `edgekit debug` found, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.text import Text

from edgekit.report.tables import plain_table
from edgekit.schema.debugging import Cause, DebugReport, FileDebug, LayerDifference, Trial
from edgekit.schema.units import NOTHING, show_figure

_WIDE = 120  # columns
_LEGEND = (
    "dB: SNR of each tensor against the Keras layer, the worst first. before: the lowest of the "
    "layers that it takes from; own: what rounding to this tensor's integers alone would leave."
)


def debug_view(report: DebugReport, *, rows: int | None = 10) -> RenderableType:
    """Each file with its causes and its worst layers, and what was tried.

    Args:
        report: what was found.
        rows: layers shown of each file; None: all.
    """
    parts = [part for file in report.files for part in _file(file, rows)]
    parts.append(Text(_LEGEND, style="dim"))
    if report.trials:
        parts += [Text("tried", style="bold"), *trial_lines(report.trials)]
    return Group(*parts)


@dataclass(frozen=True)
class LayerTable:
    """One row a layer: the operator that stands for it, its SNR, and its ranges.

    A narrow terminal is shown fewer columns, so that no word is broken.
    """

    layers: Sequence[LayerDifference]

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        """Draws the table for the width that there is."""
        wide = options.max_width >= _WIDE
        table = plain_table(
            "layer", *(("kind",) if wide else ()), "op>", "operator",
            *(("dtype",) if wide else ()), "dB>", "before>", "own>", "values",
            *(("representable",) if wide else ()),
        )  # fmt: skip
        for layer in self.layers:
            limits = layer.representable
            table.add_row(
                Text(layer.layer, style="bold"),
                *((layer.kind,) if wide else ()),
                str(layer.op),
                layer.operator,
                *((layer.dtype,) if wide else ()),
                "exact" if layer.snr_db is None else f"{layer.snr_db:.1f}",
                _decibels(layer.input_snr_db),
                _decibels(layer.own_snr_db),
                Text(_range((layer.low, layer.high))),
                *((Text(_range(limits) if limits else NOTHING),) if wide else ()),
            )
        yield table


def trial_lines(trials: Sequence[Trial]) -> Iterator[RenderableType]:
    """Each proposal that was tried, with the outputs' SNR before and after."""
    for trial in trials:
        causes = ", ".join(name.replace("_", " ") for name in trial.causes)
        yield _indented(f"{', '.join(trial.passes)}  (for {causes})", 2, "cyan")
        if trial.failure:
            yield _indented(f"failed: {trial.failure}", 4, "yellow")
            continue
        parts = [f"{_outputs(trial.snr_db_before)} before, {_outputs(trial.snr_db)} now"]
        if trial.latency_ms is not None and trial.latency_ms_before is not None:
            times = show_figure(trial.latency_ms_before), show_figure(trial.latency_ms)
            parts.append(f"{times[0]} before, {times[1]} now")
        size = "" if trial.bytes is None else f", {trial.bytes:,} bytes"
        yield _indented(f"{'; '.join(parts)}; {trial.precision}{size}", 4)


def _file(file: FileDebug, rows: int | None) -> Iterator[RenderableType]:
    head = f"{PurePath(file.artifact).name}: outputs "
    head += _outputs(file.output_snr_db)
    if file.latency_ms is not None and file.latency_ms.value is not None:
        head += f", {show_figure(file.latency_ms)} on this machine"
    yield Text(head, style="bold")
    explained: set[str] = set()
    for cause in file.causes:
        yield from _cause(cause, explain=cause.name not in explained)
        explained.add(cause.name)
    if not file.causes:
        yield Text("  no known cause of error", style="green")
    yield LayerTable(file.layers[:rows])
    hidden = len(file.layers) - len(file.layers[:rows])
    if hidden:
        yield Text(f"  {hidden} more layers are better; --all shows them", style="dim")
    if file.unmatched:
        names = ", ".join(file.unmatched)
        yield _indented(f"joined with others, or not found: {names}", 2, "dim")


def _cause(cause: Cause, *, explain: bool) -> Iterator[RenderableType]:
    place = f" in {cause.layer}" if cause.layer else ""
    yield _indented(f"{cause.name.replace('_', ' ')}{place}: {cause.found}", 2, "yellow")
    if not explain:
        return
    yield _indented(cause.explanation, 4)
    yield _indented(f"do: {cause.proposal.text}", 4)
    for line in (cause.proposal.recipe or "").splitlines():
        yield _indented(line, 6, "cyan")


def _indented(text: str, columns: int, style: str = "") -> RenderableType:
    return Padding(Text(text, style=style), (0, 0, 0, columns))


def _outputs(snr: float | None) -> str:
    return "identical" if snr is None else f"{snr:.1f} dB"


def _decibels(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1f}"


def _range(limits: tuple[float, float]) -> str:
    return f"{limits[0]:.3g} to {limits[1]:.3g}"
