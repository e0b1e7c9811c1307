"""`edgekit check`: whether a model runs on a target, and what to change if it does not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.completion import rules_words, target_words
from edgekit.cli.output import JsonOption, Output, QuietOption, VerboseOption, examples, only_one

if TYPE_CHECKING:
    from rich.console import Console

    from edgekit.schema.fixing import FixReport
    from edgekit.schema.results import CheckReport

EXAMPLES = examples(
    "edgekit check model.tflite --target coral-usb",
    "edgekit check model.tflite --target stm32-h7a3-cubeai --json",
    "edgekit check model.tflite --target coral-usb --fix -o fixed.tflite --data samples.npz",
    "edgekit check model.keras --target coral-usb --fix --allow-inexact -o fixed.keras",
    "edgekit check model.tflite --rules litert-gpu  # no board: `edgekit targets rules litert-gpu`",
)


def command(
    file: Annotated[
        Path,
        typer.Argument(help="A .tflite, .onnx or OpenVINO .xml file; with --fix .tflite, .keras."),
    ],
    target: Annotated[
        list[str] | None,
        typer.Option("--target", "-t", autocompletion=target_words, help="Name or .yaml file."),
    ] = None,
    rules: Annotated[
        str | None,
        typer.Option(
            autocompletion=rules_words, help="In place of a target: a rule set, on any board."
        ),
    ] = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="Apply known rewrites that prove right when run.")
    ] = False,
    output_file: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="With --fix: file to write; else only a report."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="With --fix: .npz of samples to compare results on.")
    ] = None,
    allow_inexact: Annotated[
        bool,
        typer.Option("--allow-inexact", help="With --fix: results may differ by --tolerance."),
    ] = False,
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="With --fix: largest difference over the range of the outputs. Default: 0.02.",
        ),
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Check that every operator, dtype, shape and memory need fits a target.

    Exits with 1 if the model does not run there.
    """
    from edgekit.base.errors import InputError
    from edgekit.profiling.check import check_file, runs
    from edgekit.profiling.rule_targets import target_or_rules

    output = Output(json=json, quiet=quiet, verbose=verbose)
    aim = target_or_rules(only_one(target, "--target") if target else None, rules)
    if fix:
        from edgekit.pipeline.fixing import TOLERANCE, fix_file

        with output.progress() as progress:
            fixed = fix_file(
                file,
                aim,
                output_file,
                data=data,
                allow_inexact=allow_inexact,
                tolerance=TOLERANCE if tolerance is None else tolerance,
                progress=progress,
            )
        output.result(fixed, lambda console: _render_fixes(console, fixed))
        if not runs(fixed.after):
            raise typer.Exit(1)
        return
    if allow_inexact or any(one is not None for one in (output_file, data, tolerance)):
        raise InputError("--output, --data, --allow-inexact and --tolerance are for --fix")
    with output.progress() as progress:
        report = check_file(file, aim, progress=progress)
    output.result(report, lambda console: _render(console, report))
    if not runs(report):
        raise typer.Exit(1)


def _render(console: Console, report: CheckReport) -> None:
    from edgekit.report.fitting import FittingTable
    from edgekit.schema.units import show_bytes, show_figure

    console.print(f"{report.artifact} on {report.target}: {report.verdict}", markup=False)
    faults = [("", "", finding) for finding in report.findings]
    faults += [
        (f"{op.index} {op.op} {op.layer}", op.where, finding)
        for op in report.ops
        for finding in op.findings
    ]
    if faults:
        rows = (
            (operator, where, one.severity, one.rule, one.found, one.allowed, one.fix)
            for operator, where, one in faults
        )
        heads = ("operator", "runs on", "severity", "rule", "found", "allowed", "fix")
        console.print(FittingTable(heads, rows))
    for name, figure in report.memory.items():
        if figure.value is not None:
            given = figure.origin is None
            size = show_bytes(figure.value) if given else show_figure(figure)
            origin = figure.origin or "published"
            title = name.replace("_", " ")
            console.print(f"{title}: {size}, {origin}", markup=False)


def _render_fixes(console: Console, report: FixReport) -> None:
    from edgekit.report.fixing import fix_view

    console.print(fix_view(report))
