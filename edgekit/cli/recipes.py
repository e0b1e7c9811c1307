"""`edgekit recipes`: the recipes that come with edgekit, and the check of one's own."""

from __future__ import annotations

from typing import Annotated

import typer

from edgekit.cli.output import JsonOption, Output, QuietOption, VerboseOption, examples

EXAMPLES = examples(
    "edgekit recipes",
    "edgekit recipes show digits-cnn > my.yaml",
    "edgekit recipes validate my.yaml --set train.epochs=2",
)


def command(
    action: Annotated[str, typer.Argument(help="list, show or validate")] = "list",
    recipe: Annotated[str | None, typer.Argument(help="Name or file of a recipe.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="A.B=C", help="Replace a value of the recipe."),
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """List, show or validate recipes."""
    from edgekit.pipeline.shipped import recipes_action

    output = Output(json=json, quiet=quiet, verbose=verbose)
    document, text = recipes_action(action, recipe, tuple(overrides or ()))
    output.result(document, lambda console: console.out(text, highlight=False))
