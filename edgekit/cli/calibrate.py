"""`edgekit calibrate`: a target file of this machine, measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.output import JsonOption, Output, QuietOption, VerboseOption, examples

EXAMPLES = examples(
    "edgekit calibrate --output mybox.yaml",
    "edgekit calibrate -o mybox.yaml --runtime litert --runtime openvino --threads 1 --threads 2",
    "edgekit profile model.tflite -t mybox.yaml -t mybox.yaml@2",
)


def command(
    output_file: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The .yaml file to write.")
    ],
    runtime: Annotated[
        list[str] | None,
        typer.Option(help="litert, onnxruntime or openvino; may be repeated. By default all."),
    ] = None,
    precision: Annotated[
        list[str] | None, typer.Option(help="fp32 or int8; may be repeated. By default both.")
    ] = None,
    threads: Annotated[
        list[int] | None, typer.Option(min=1, help="May be repeated. By default 1.")
    ] = None,
    minutes: Annotated[
        float, typer.Option(min=0.1, max=600, help="About how long to measure.")
    ] = 5.0,
    device: Annotated[str, typer.Option(help="What to measure: local, this machine.")] = "local",
    busy: Annotated[
        bool, typer.Option("--busy", help="Measure although other programs run.")
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Measure this machine's kernels and write a target file that predicts any model on it.

    A run that was stopped goes on where it was.
    """
    from edgekit.pipeline.calibration.calibrate import calibrate
    from edgekit.report.calibration import calibration_view

    output = Output(json=json, quiet=quiet, verbose=verbose)
    with output.progress() as progress:
        report = calibrate(
            output_file,
            runtimes=runtime or ("litert", "onnxruntime", "openvino"),
            precisions=precision or ("fp32", "int8"),  # type: ignore[arg-type]  # checked there
            threads=threads or (1,),
            minutes=minutes,
            device=device,
            busy=busy,
            progress=progress,
        )
    output.result(report, lambda console: console.print(calibration_view(report)))
