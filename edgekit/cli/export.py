"""`edgekit export`: model files from a Keras model, or from a .tflite file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.completion import target_words
from edgekit.cli.output import JsonOption, Output, QuietOption, VerboseOption, examples

if TYPE_CHECKING:
    from rich.console import Console

    from edgekit.pipeline.export_files import ExportReport

EXAMPLES = examples(
    "edgekit export model.keras --format tflite --precision int8 --data calib.npz",
    "edgekit export model.keras --format tflite --format onnx --precision fp32 --precision fp16",
    "edgekit export master-int8.tflite --format onnx --format openvino   # the same int8 network",
    "edgekit export model.keras --format tflite --precision int8 --data calib.npz "
    "--target coral-usb",
    "edgekit export master-int8.tflite --format vela --target ethos-u55-128",
)


def command(
    source: Annotated[
        Path, typer.Argument(help="A .keras or .h5 file, or an int8 or mixed .tflite file.")
    ],
    formats: Annotated[
        list[str], typer.Option("--format", help="tflite, onnx, openvino or vela; may be repeated.")
    ],
    precisions: Annotated[
        list[str] | None,
        typer.Option(
            "--precision",
            help="fp32 (default), fp16, int8, int8-dynamic, int16x8, int4-weight; mixed, as the "
            "plan beside the model says; may be repeated.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help=".npz of representative inputs, by input name: needed for int8."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File or folder; default: by the source.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            "-t",
            autocompletion=target_words,
            help="Name or .yaml file of the target to compile for (vela), or that takes int8 dense "
            "layers with one scale only (Coral).",
        ),
    ] = None,
    opset: Annotated[int | None, typer.Option(min=13, max=23, help="ONNX only.")] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Convert a model; a file is kept only if it computes what the model computes."""
    from edgekit.pipeline.export_files import export_files

    out = Output(json=json, quiet=quiet, verbose=verbose)
    with out.progress() as progress:
        report = export_files(
            source,
            formats=formats,
            precisions=precisions or [],
            data=data,
            output=output,
            opset=opset,
            target=target,
            progress=progress,
        )
    out.result(report, lambda console: _render(report, console))


def _render(report: ExportReport, console: Console) -> None:
    from rich.table import Table

    table = Table("file", "format", "precision", "bytes", "parity", box=None)
    for sidecar in report.artifacts:
        figures = sidecar.parity.get("master") or sidecar.parity.get("model")
        words = sidecar.parity["runtime"]
        if figures:
            snr = figures["snr_db"]
            same = "identical" if snr is None else f"{snr:.1f} dB"
            words = f"{same} to {figures['reference']}"
        if "compiled" in sidecar.parity:
            words += " (of its master: the file runs on the accelerator only)" if figures else ""
        table.add_row(
            sidecar.file,
            sidecar.format,
            sidecar.precision,
            f"{sidecar.bytes:,}",
            words,
        )
    console.print(table)
    for sidecar in report.artifacts:
        for warning in sidecar.provenance.get("warnings", ()):
            console.print(f"{sidecar.file}: {warning}", style="yellow", highlight=False)
    console.print(f"in {report.directory}")
