"""`edgekit train`: the training of a recipe, straight into a .keras file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.output import JsonOption, Output, QuietOption, VerboseOption, examples

if TYPE_CHECKING:
    from rich.console import Group

    from edgekit.training.command import TrainReport

EXAMPLES = examples(
    "edgekit train recipes/digits-cnn.yaml --output digits.keras",
    "edgekit train digits-cnn --set train.epochs=5 --set seed=1",
    "edgekit train my.yaml --json > training.json",
)


def command(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped recipe.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The .keras file to write.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="A.B=C", help="Replace a value of the recipe."),
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Train the model of a recipe. Interrupted, the same command goes on where it was."""
    from edgekit.pipeline.shipped import find_recipe
    from edgekit.training.command import train_recipe

    out = Output(json=json, quiet=quiet, verbose=verbose)
    with out.progress() as progress:
        report = train_recipe(
            find_recipe(recipe),
            output=output,
            overrides=tuple(overrides or ()),
            progress=progress,
        )
    out.result(report, lambda console: console.print(_view(report)))


def _view(report: TrainReport) -> Group:
    from rich.console import Group
    from rich.table import Table

    best = f", best {report.best_epoch + 1}" if report.best_epoch is not None else ""
    table = Table()
    names = sorted({name for metrics in report.metrics.values() for name in metrics})
    for column in ("split", "samples", *names):
        table.add_column(column, justify="left" if column == "split" else "right")
    for split, metrics in report.metrics.items():
        values = (f"{metrics[name]:.4f}" for name in names)
        table.add_row(split, str(report.samples[split]), *values)
    size = f"{report.parameters:,} parameters"
    time = f"{report.epochs} epochs{best} in {report.seconds:.1f} s"
    return Group(table, f"{report.model}: {size}, {time}; history in {report.history_file}")
