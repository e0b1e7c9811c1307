"""`edgekit report`: what a run found, in the terminal or as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.output import JsonOption, Output, QuietOption, VerboseOption, examples

EXAMPLES = examples(
    "edgekit report runs/digits-cnn-1a2b3c4d",
    "edgekit report digits.zip --html report.html",
)


def command(
    path: Annotated[Path, typer.Argument(help="A run directory, a run.json, or a bundle.")],
    html: Annotated[
        Path | None, typer.Option(help="Write a self-contained HTML file as well.")
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Show the results of a run."""
    from edgekit.bundle.load import load_report
    from edgekit.report.html import write_html
    from edgekit.report.tables import run_view

    output = Output(json=json, quiet=quiet, verbose=verbose)
    report = load_report(path)
    if html is not None:
        write_html(report, html)
        output.message(f"wrote {html}")
    output.result(report, lambda console: console.print(run_view(report)))
