"""`edgekit doctor`: what is installed, and what is missing for which work."""

from __future__ import annotations

from typing import Annotated

import typer

from edgekit.cli.output import JsonOption, Output, QuietOption, VerboseOption, examples

EXAMPLES = examples(
    "edgekit doctor",
    "edgekit doctor --strict train   # exit 3 if something of that extra is missing",
)


def command(
    strict: Annotated[
        str | None, typer.Option(metavar="EXTRA", help="An extra that must be complete.")
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Show the machine, what is installed, and what is missing."""
    from edgekit.devices.doctor import examine
    from edgekit.report.doctor import doctor_view

    output = Output(json=json, quiet=quiet, verbose=verbose)
    report = examine(strict)
    output.result(report, lambda console: console.print(doctor_view(report)))
