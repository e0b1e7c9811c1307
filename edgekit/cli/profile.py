"""`edgekit profile`: what a model costs on targets, estimated."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.completion import target_words
from edgekit.cli.output import JsonOption, Output, QuietOption, VerboseOption, examples

if TYPE_CHECKING:
    from rich.console import Console

    from edgekit.schema.figure import Figure
    from edgekit.schema.results import Profile, ProfileReport

EXAMPLES = examples(
    "edgekit profile model.tflite --target raspberry-pi-4 --target coral-usb",
    "edgekit profile model.tflite -t drone-x500-cm4 --layers",
)

_TOP = 5


def command(
    file: Annotated[Path, typer.Argument(help="A .tflite, .onnx or OpenVINO .xml file.")],
    target: Annotated[
        list[str],
        typer.Option(
            "--target",
            "-t",
            autocompletion=target_words,
            help="Name or .yaml file; may be repeated.",
        ),
    ],
    layers: Annotated[bool, typer.Option("--layers", help="Show every operator.")] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Estimate latency, energy and memory of a model on targets."""
    from edgekit.profiling.profile import profile_report
    from edgekit.profiling.targets import load_target

    output = Output(json=json, quiet=quiet, verbose=verbose)
    report = profile_report(file, [load_target(name) for name in target])
    output.result(report, lambda console: _render(console, report, layers=layers))


def _render(console: Console, report: ProfileReport, *, layers: bool) -> None:
    from rich.table import Table

    table = Table(title=report.profiles[0].artifact, caption=_caption(report))
    table.add_column("")
    for profile in report.profiles:
        table.add_column(profile.target or profile.device)
    for title, cells in _rows(report.profiles):
        table.add_row(title, *cells)
    console.print(table)
    for profile in report.profiles:
        for warning in profile.warnings:
            console.print(f"{profile.target}: {warning}", markup=False)
        if layers:
            console.print(_layer_table(profile))


def _caption(report: ProfileReport) -> str:
    origins = {profile.latency_ms.origin for profile in report.profiles}
    if "compiled" in origins:
        return "Estimated figures are edgekit's; compiled ones are of the compiler's cost model."
    return "All figures are estimated."


def _rows(profiles: tuple[Profile, ...]) -> list[tuple[str, list[str]]]:
    rows = [
        ("placement", [_placement(profile) for profile in profiles]),
        ("latency", [_text(profile.latency_ms) for profile in profiles]),
        ("energy", [_text(profile.energy_mj) for profile in profiles]),
    ]
    if any(profile.flight_s_per_h for profile in profiles):
        rows.append(("flight lost", [_text(profile.flight_s_per_h) for profile in profiles]))
    rows.append(("peak memory", [_text(profile.peak_memory_bytes) for profile in profiles]))
    rows.append(("top operators", [_top(profile) for profile in profiles]))
    return rows


def _placement(profile: Profile) -> str:
    if profile.placement is None:
        return "-"
    counts = profile.placement
    cpu = len(profile.layers) - counts.accelerator_ops
    if counts.accelerator_ops:
        return f"{counts.accelerator_ops} accelerator / {cpu} CPU"
    return f"{cpu} CPU"


def _text(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    if figure.value is None:
        return f"unknown: {figure.reason}"
    if figure.unit == "bytes":
        return f"{figure.value / 1024:,.1f} KiB {figure.origin}"
    interval = ""
    if figure.low is not None and figure.high is not None:
        interval = f" ({figure.low:.3g} to {figure.high:.3g})"
    return f"{figure.value:.3g} {figure.unit}{interval} {figure.origin}"


def _top(profile: Profile) -> str:
    timed = [(layer.latency_ms.value or 0.0, layer) for layer in profile.layers]
    total = profile.latency_ms.value
    if not total:
        return "-"
    timed.sort(key=lambda pair: -pair[0])
    return "\n".join(
        f"{100 * value / total:.0f}% {layer.op} {layer.layer}" for value, layer in timed[:_TOP]
    )


def _layer_table(profile: Profile) -> object:
    from rich.table import Table

    origin = profile.latency_ms.origin or "estimated"
    table = Table(title=f"{profile.target}, {origin}")
    for title in ("#", "operator", "layer", "where", "MACs", "bytes", "ms"):
        table.add_column(
            title, justify="right" if title in ("#", "MACs", "bytes", "ms") else "left"
        )
    for layer in profile.layers:
        value = layer.latency_ms.value
        table.add_row(
            str(layer.index),
            layer.op,
            layer.layer,
            layer.where or "nowhere",
            f"{layer.macs:,}",
            f"{layer.bytes:,}",
            "-" if value is None else f"{value:.4f}",
        )
    return table
