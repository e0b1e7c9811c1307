"""What compression passes did, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from edgekit.report.tables import plain_table

_NUMBERS = {
    "weights": "{:,}",
    "zeros": "{:,}",
    "sparsity": "{:.1%}",
    "asked": "{:.1%}",
    "relative_change": "{:.1%}",
    "bits": "{}",
    "before": "{:,}",
    "after": "{:,}",
    "clusters": "{:,}",
    "codebook_bytes": "{:,}",
    "coded_bytes": "{:,}",
    "energy": "{:.1%}",
    "weights_before": "{:,}",
    "macs_before": "{:,}",
    "macs": "{:,}",
    "channels": "{:,}",
    "strength": "{:.2f}",
    "largest_factor": "{:.1f}",
    "weight_spread_before": "{:.1f}",
    "weight_spread": "{:.1f}",
    "snr_db_before": "{:.1f}",
    "snr_db": "{:.1f}",
    "rounded_otherwise": "{:.1%}",
    "largest_bias_shift": "{:.2g}",
}


def compression_view(reports: Sequence[Mapping[str, Any]]) -> RenderableType:
    """For each pass: what it did to each layer, what it could not treat, and the sums."""
    return Group(*(part for report in reports for part in _parts(report)))


def _parts(report: Mapping[str, Any]) -> Iterator[RenderableType]:
    layers = report.get("layers", ())
    sums = list(_sums(report)) or [f"{len(layers)} layers changed"]
    yield Text(f"{report['pass']}: {'; '.join(sums)}", style="bold")
    if layers:
        keys = list(layers[0])
        table = plain_table(
            *(key.replace("_", " ") + (">" if key in _NUMBERS else "") for key in keys)
        )
        for layer in layers:
            table.add_row(*(_NUMBERS.get(key, "{}").format(layer[key]) for key in keys))
        yield table
    for one in report.get("untreated", ()):
        yield Text(f"  not treated: {one['layer']}: {one['reason']}", style="yellow")
    for one in report.get("targets", ()):
        yield Text(f"  {one['text']}")
    for line in report.get("warnings", ()):
        yield Text(f"  {line}", style="yellow")


def _sums(report: Mapping[str, Any]) -> Iterator[str]:
    if "sparsity" in report:
        yield f"{report['sparsity']:.1%} of the weights are zero"
    if "parameters_before" in report:
        yield f"{report['parameters']:,} parameters (before: {report['parameters_before']:,})"
    if "gzip_bytes" in report:
        yield (
            f"weights after gzip {report['gzip_bytes']:,} bytes "
            f"(before: {report['gzip_bytes_before']:,})"
        )
    if "codebook_bytes" in report:
        yield (
            f"clustered weights coded {report['coded_bytes']:,} bytes, "
            f"{report['codebook_bytes']:,} of them codebooks"
        )
    for measure, now in report.get("costs", {}).items():
        before = report["costs_before"][measure]
        yield f"{now:,} {measure} ({before / now if now else 0:.2f}x fewer than {before:,})"
    if "precision" in report:
        yield f"{report['precision']} is planned"
    for who, metrics in report.get("metrics", {}).items():
        yield f"{who.replace('_', ' ')} " + ", ".join(f"{k} {v:.4g}" for k, v in metrics.items())
    if not report["modified"]:
        yield "the Keras model is unchanged"
