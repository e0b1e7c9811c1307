"""`edgekit run`: a recipe to proven, profiled, packed model files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.completion import recipe_words
from edgekit.cli.output import JsonOption, Output, QuietOption, VerboseOption, examples

EXAMPLES = examples(
    "edgekit run recipes/digits-cnn.yaml",
    "edgekit run digits-cnn --set train.epochs=2 --until export",
    "edgekit run my.yaml --json > run.json",
)


def command(
    recipe: Annotated[
        str,
        typer.Argument(
            autocompletion=recipe_words, help="A recipe file, or the name of a shipped recipe."
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="A.B=C", help="Replace a value of the recipe."),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(metavar="STAGE", help="Last stage to run, such as train, export or bench."),
    ] = None,
    runs_dir: Annotated[Path, typer.Option(help="Where run directories are.")] = Path("runs"),
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Run a recipe: train, compress, export, prove, profile, pack. Resumable."""
    from edgekit.cli.stagelines import stage_lines
    from edgekit.pipeline.run import run_recipe
    from edgekit.pipeline.shipped import find_recipe
    from edgekit.report.tables import run_view

    output = Output(json=json, quiet=quiet, verbose=verbose)
    with output.progress() as progress:
        report = run_recipe(
            find_recipe(recipe),
            overrides=tuple(overrides or ()),
            until=until,
            runs_dir=runs_dir,
            progress=progress,
            listen=stage_lines(output),
        )
    cached = sum(stage.cached for stage in report.stages)
    output.message(f"{cached} of {len(report.stages)} stages came from the cache")
    output.result(report, lambda console: console.print(run_view(report, full=verbose)))
    if not report.passed:
        raise typer.Exit(1)
