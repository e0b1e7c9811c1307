"""`edgekit package`: a run or model files as one verified bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.output import JsonOption, Output, QuietOption, VerboseOption, examples

EXAMPLES = examples(
    "edgekit package runs/digits-cnn-1a2b3c4d -o digits.zip",
    "edgekit package model.tflite model.onnx -o model.zip   # with their sidecars beside them",
)


def command(
    paths: Annotated[list[Path], typer.Argument(help="A run directory, or model files.")],
    output_file: Annotated[
        Path | None, typer.Option("--output", "-o", help="The zip file to write.")
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Pack a run or model files into a reproducible, verified zip file."""
    from edgekit.bundle.pack import package
    from edgekit.report.tables import bundle_view

    output = Output(json=json, quiet=quiet, verbose=verbose)
    result = package(paths, output_file)
    output.result(result, lambda console: console.print(bundle_view(result)))
