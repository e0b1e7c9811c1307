"""`edgekit gate`: does a run keep its budgets?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.output import JsonOption, Output, QuietOption, VerboseOption, examples

EXAMPLES = examples(
    "edgekit gate runs/digits-cnn-1a2b3c4d                 # the budgets of its recipe",
    "edgekit gate digits.zip --budgets budgets.yaml",
    'edgekit gate run.json --budget "accuracy_drop<=1.0" --budget "latency_ms@host:*int8*<=0.5"',
)


def command(
    path: Annotated[Path, typer.Argument(help="A run directory, a run.json, or a bundle.")],
    budgets: Annotated[
        Path | None, typer.Option(help="A recipe, or a YAML file with a list `budgets`.")
    ] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(metavar="BUDGET", help="METRIC[@TARGET][:ARTIFACT]<=NUMBER, or >=."),
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Check budgets: accuracy, bytes, latency, energy, memory, parity. Exit 1 if one is broken."""
    from edgekit.bundle.gate import gate_path
    from edgekit.report.tables import gate_table

    output = Output(json=json, quiet=quiet, verbose=verbose)
    report = gate_path(path, budgets_file=budgets, budgets=budget or ())
    output.result(report, lambda console: console.print(gate_table(report)))
    if not report.passed:
        raise typer.Exit(1)
