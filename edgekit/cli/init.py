"""`edgekit init`: a commented recipe to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.output import JsonOption, Output, QuietOption, VerboseOption, examples

EXAMPLES = examples(
    "edgekit init my.yaml                       # asks a few questions",
    "edgekit init my.yaml --data image_folder:photos --model mobilenet_v1 \\",
    "    --target pixel-3 --target coral-usb --yes",
)


def command(
    path: Annotated[Path, typer.Argument(help="The recipe to write.")] = Path("recipe.yaml"),
    data: Annotated[str | None, typer.Option(help="Source of the samples.")] = None,
    model: Annotated[str | None, typer.Option(help="Family, FILE.py:FUNCTION or .keras.")] = None,
    target: Annotated[list[str] | None, typer.Option(help="Target; may be repeated.")] = None,
    precision: Annotated[list[str] | None, typer.Option(help="May be repeated.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Write a commented recipe from a few questions or flags."""
    import sys

    from edgekit.pipeline.init import Answers, write_recipe

    output = Output(json=json, quiet=quiet, verbose=verbose)
    answers = Answers()
    ask = sys.stdin.isatty() and not (yes or json)
    chosen = Answers(
        name=path.stem.lower(),
        data=data or (typer.prompt("Data", answers.data, err=True) if ask else answers.data),
        model=model or (typer.prompt("Model", answers.model, err=True) if ask else answers.model),
        targets=tuple(target or answers.targets),
        precisions=tuple(precision or answers.precisions),
    )
    recipe = write_recipe(path, chosen, overwrite=force)
    output.result(
        {"path": str(path), "recipe": recipe.model_dump(mode="json")},
        lambda console: console.print(f"wrote {path}; next: edgekit run {path}"),
    )
