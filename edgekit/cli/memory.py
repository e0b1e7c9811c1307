"""`edgekit memory`: what is in memory while a model runs, and where the peak is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.completion import target_words
from edgekit.cli.output import JsonOption, Output, QuietOption, VerboseOption, examples, only_one

EXAMPLES = examples(
    "edgekit memory model.tflite --target stm32-l4r5-tflm",
    "edgekit memory model.tflite -t raspberry-pi-4 --svg arena.svg",
)


def command(
    file: Annotated[Path, typer.Argument(help="A .tflite, .onnx or OpenVINO .xml file.")],
    target: Annotated[
        list[str],
        typer.Option("--target", "-t", autocompletion=target_words, help="Name or .yaml file."),
    ],
    svg: Annotated[Path | None, typer.Option("--svg", help="Draw the arena to this file.")] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Show the arena over time: live bytes at each operator, the peak, and a better order."""
    from edgekit.profiling.memory.report import memory_file
    from edgekit.profiling.targets import load_target
    from edgekit.report.memory import memory_view, write_memory_svg

    output = Output(json=json, quiet=quiet, verbose=verbose)
    report = memory_file(file, load_target(only_one(target, "--target")))
    if svg is not None:
        write_memory_svg(report, svg)
    output.result(report, lambda console: console.print(memory_view(report)))
