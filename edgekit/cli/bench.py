"""`edgekit bench`: latency, memory and energy of model files, measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.output import JsonOption, Output, QuietOption, VerboseOption, examples

EXAMPLES = examples(
    "edgekit bench model.tflite",
    "edgekit bench model.tflite model.onnx model.xml --threads 2 --json",
)


def command(
    files: Annotated[list[Path], typer.Argument(help=".tflite, .onnx or .xml files.")],
    device: Annotated[str, typer.Option(help="Where to measure: host is this machine.")] = "host",
    threads: Annotated[int, typer.Option(min=1, help="Threads that the runtime may use.")] = 1,
    max_seconds: Annotated[
        float, typer.Option(min=0.01, max=3600, help="Longest time of the timed runs of one file.")
    ] = 2.0,
    runtime: Annotated[
        str | None, typer.Option(help="litert, tflite-runtime, onnxruntime or openvino.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the random inputs.")] = 0,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Measure latency, memory and, with a meter, energy on this machine."""
    from edgekit.devices.bench import bench_files
    from edgekit.report.tables import profile_table

    output = Output(json=json, quiet=quiet, verbose=verbose)
    with output.progress() as progress:
        report = bench_files(
            files,
            device=device,
            threads=threads,
            max_seconds=max_seconds,
            runtime=runtime,
            seed=seed,
            progress=progress,
        )
    output.result(report, lambda console: console.print(profile_table(report.profiles)))
