"""`edgekit debug`: where and why a model file computes something else than its model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.output import JsonOption, Output, QuietOption, VerboseOption, examples

EXAMPLES = examples(
    "edgekit debug model.keras model-int8.tflite --data x.npz",
    "edgekit debug model.keras m-fp32.tflite m-int8.tflite m.onnx m.xml --data x.npz --all",
    "edgekit debug model.keras m-fp32.tflite m-int8.tflite --data x.npz \\",
    "    --target raspberry-pi-4                # is int8 slower, here or there, and why",
    "edgekit debug model.keras model-int8.tflite --data x.npz --try    # test what is proposed",
)


def command(
    model: Annotated[Path, typer.Argument(help="The .keras or .h5 file that all were made from.")],
    files: Annotated[list[Path], typer.Argument(help=".tflite, .onnx and .xml files.")],
    data: Annotated[Path, typer.Option(help=".npz of real samples by input name.")],
    samples: Annotated[int, typer.Option(min=1, help="How many of them to compare on.")] = 64,
    speed: Annotated[
        bool, typer.Option("--speed/--no-speed", help="Measure float and int8 files, 1 s each.")
    ] = True,
    target: Annotated[
        list[str] | None, typer.Option(help="Judge speed by its cost model; may be repeated.")
    ] = None,
    try_proposals: Annotated[
        bool, typer.Option("--try", help="Export again with each proposal, and compare.")
    ] = False,
    every: Annotated[bool, typer.Option("--all", help="Show all layers.")] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Rank the layers of model files by their error, name its causes, propose what to change."""
    from edgekit.pipeline.debug import debug_files
    from edgekit.report.debugging import debug_view

    output = Output(json=json, quiet=quiet, verbose=verbose)
    with output.progress() as progress:
        report = debug_files(
            model,
            files,
            data,
            samples=samples,
            speed=speed,
            targets=target or (),
            try_proposals=try_proposals,
            progress=progress,
        )
    rows = None if every else 10
    output.result(report, lambda console: console.print(debug_view(report, rows=rows)))
