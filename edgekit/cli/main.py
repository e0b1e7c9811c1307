"""The command line: the list of commands, and how an error becomes an exit code."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.exceptions import TyperException

import edgekit
from edgekit.base.errors import EdgekitError, InputError, ToolError
from edgekit.base.files import from_os_error
from edgekit.cli import init, recipes, run, schema
from edgekit.cli.output import report_error

COMMANDS = (init, recipes, run, schema)

app = typer.Typer(
    name="edgekit",
    help="From a Keras model to proven, profiled, packed files for edge devices.",
    no_args_is_help=True,
    rich_markup_mode=None,  # rich's help needs half of the start-up budget
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in COMMANDS:
    name = module.__name__.rpartition(".")[2]
    app.command(name, epilog=module.EXAMPLES)(module.command)


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"edgekit {edgekit.__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    del version


def run(arguments: Sequence[str]) -> int:
    """Runs one command line and returns its exit code."""
    as_json = "--json" in arguments
    try:
        code = app(list(arguments), standalone_mode=False, prog_name="edgekit")
    except EdgekitError as error:
        fault = error
    except TyperException as error:
        fault = InputError(error.format_message(), hint="see edgekit --help")
    except BrokenPipeError:
        return 0
    except OSError as error:
        fault = from_os_error(error)
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write("interrupted\n")
        return 130
    except Exception as error:  # noqa: BLE001 a user never sees a traceback unasked
        fault = ToolError(
            f"internal error: {type(error).__name__}: {error}",
            hint="run again with --verbose for the traceback, and report it",
        )
    else:
        return code if isinstance(code, int) else 0
    if "--verbose" in arguments or "-v" in arguments:
        traceback.print_exc()
    report_error(fault, as_json=as_json)
    return fault.exit_code


def main() -> None:
    """Entry point of the `edgekit` command."""
    sys.exit(run(sys.argv[1:]))
