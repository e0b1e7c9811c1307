"""`edgekit schema`: the JSON Schema of the documents that edgekit reads and writes."""

from __future__ import annotations

from typing import Annotated

import typer

from edgekit.cli.output import JsonOption, Output, QuietOption, VerboseOption, examples

EXAMPLES = examples(
    "edgekit schema                 # the names",
    "edgekit schema recipe > recipe.schema.json",
)


def command(
    name: Annotated[str | None, typer.Argument(help="recipe, target, run, ...")] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Print the JSON Schema of a document."""
    from edgekit.schema.documents import DOCUMENTS, json_schema

    output = Output(json=json, quiet=quiet, verbose=verbose)
    if name is None:
        names = sorted(DOCUMENTS)
        output.result({"schemas": names}, lambda console: console.print("\n".join(names)))
    else:
        document = json_schema(name)
        output.result(document, lambda console: console.print_json(data=document))
