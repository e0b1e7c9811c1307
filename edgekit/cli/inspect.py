"""`edgekit inspect`: what is in a model file or a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.output import JsonOption, Output, QuietOption, VerboseOption, examples

EXAMPLES = examples(
    "edgekit inspect model.tflite",
    "edgekit inspect model.onnx --layers",
    "edgekit inspect bundle.zip --json",
)


def command(
    file: Annotated[Path, typer.Argument(help="A .tflite, .onnx, .xml, .keras, .h5 or .zip file.")],
    layers: Annotated[
        bool, typer.Option("--layers", help="List all operators, one by one.")
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Show a model's inputs, outputs, operators, weights and memory."""
    from edgekit.pipeline.inspect import inspect_file
    from edgekit.report.inspection import inspection_view

    output = Output(json=json, quiet=quiet, verbose=verbose)
    with output.progress() as progress:
        found = inspect_file(file, progress=progress)
    output.result(found, lambda console: console.print(inspection_view(found, layers=layers)))
