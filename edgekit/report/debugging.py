"""What `edgekit debug` found, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePath

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgekit.report.tables import plain_table
from edgekit.schema.debugging import Cause, DebugReport, FileDebug, LayerDifference, Trial
from edgekit.schema.units import NOTHING, show_figure

_LEGEND = (
    "SNR of each tensor against the Keras layer, the worst first. before: the lowest of the layers "
    "that it takes from; own: what rounding to this tensor's integers alone would leave."
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
        parts += [Text("tried", style="bold"), trial_table(report.trials)]
    return Group(*parts)


def layer_table(layers: Sequence[LayerDifference]) -> Table:
    """One row a layer: the operator that stands for it, its SNR, and its ranges."""
    table = plain_table(
        "layer", "kind", "op>", "operator", "dtype", "SNR dB>", "before>", "own>", "values",
        "representable",
    )  # fmt: skip
    for layer in layers:
        table.add_row(
            Text(layer.layer, style="bold"),
            layer.kind,
            str(layer.op),
            layer.operator,
            layer.dtype,
            "identical" if layer.snr_db is None else f"{layer.snr_db:.1f}",
            _decibels(layer.input_snr_db),
            _decibels(layer.own_snr_db),
            Text(_range((layer.low, layer.high))),
            Text(NOTHING if layer.representable is None else _range(layer.representable)),
        )
    return table


def trial_table(trials: Sequence[Trial]) -> Table:
    """Each proposal that was tried, with the outputs' SNR before and after."""
    table = plain_table("passes", "for", "precision", "SNR dB before>", "SNR dB>", "bytes>", "why")
    for trial in trials:
        table.add_row(
            Text(", ".join(trial.passes)),
            ", ".join(trial.causes),
            trial.precision or NOTHING,
            _decibels(trial.snr_db_before),
            "failed" if trial.failure else _decibels(trial.snr_db),
            NOTHING if trial.bytes is None else f"{trial.bytes:,}",
            Text(trial.failure or ""),
        )
    return table


def _file(file: FileDebug, rows: int | None) -> Iterator[RenderableType]:
    head = f"{PurePath(file.artifact).name}: outputs "
    head += "identical" if file.output_snr_db is None else f"{file.output_snr_db:.1f} dB"
    if file.latency_ms is not None and file.latency_ms.value is not None:
        head += f", {show_figure(file.latency_ms)} on this machine"
    yield Text(head, style="bold")
    explained: set[str] = set()
    for cause in file.causes:
        yield from _cause(cause, explain=cause.name not in explained)
        explained.add(cause.name)
    if not file.causes:
        yield Text("  no known cause of error", style="green")
    yield layer_table(file.layers[:rows])
    hidden = len(file.layers) - len(file.layers[:rows])
    if hidden:
        yield Text(f"  {hidden} more layers are better; --all shows them", style="dim")
    if file.unmatched:
        names = ", ".join(file.unmatched)
        yield Text(f"  joined with others, or not found: {names}", style="dim")


def _cause(cause: Cause, *, explain: bool) -> Iterator[Text]:
    place = f" in {cause.layer}" if cause.layer else ""
    yield Text(f"  {cause.name.replace('_', ' ')}{place}: {cause.found}", style="yellow")
    if not explain:
        return
    yield Text(f"    {cause.explanation}")
    yield Text(f"    do: {cause.proposal.text}")
    for line in (cause.proposal.recipe or "").splitlines():
        yield Text(f"      {line}", style="cyan")


def _decibels(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1f}"


def _range(limits: tuple[float, float]) -> str:
    return f"{limits[0]:.3g} to {limits[1]:.3g}"
