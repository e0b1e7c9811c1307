"""The command line: the list of commands, and how an error becomes an exit code."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated

import typer
from typer.exceptions import TyperException

import edgekit
from edgekit.base.errors import EdgekitError, InputError, ToolError
from edgekit.base.files import from_os_error
from edgekit.cli.output import report_error

COMMANDS = (
    "bench",
    "calibrate",
    "check",
    "compress",
    "debug",
    "doctor",
    "export",
    "gate",
    "init",
    "inspect",
    "memory",
    "package",
    "profile",
    "recipes",
    "report",
    "run",
    "schema",
    "targets",
    "train",
    "verify",
)

_INTERRUPTED = 130

app = typer.Typer(
    name="edgekit",
    help="From a Keras model to proven, profiled, packed files for edge devices.",
    rich_markup_mode=None,  # rich's help needs half of the start-up budget
    context_settings={"help_option_names": ["-h", "--help"]},
)
for name in COMMANDS:
    module = import_module(f"edgekit.cli.{name}")
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
    try:
        code = app(list(arguments) or ["--help"], standalone_mode=False, prog_name="edgekit")
    except BrokenPipeError:  # the reader of a pipe has seen enough
        return 0
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except Exception as error:  # noqa: BLE001 a user never sees a traceback unasked
        if "--verbose" in arguments or "-v" in arguments:
            traceback.print_exc()
        fault = _user_facing(error)
        report_error(fault, as_json="--json" in arguments)
        return fault.exit_code
    if code == _INTERRUPTED:  # what typer makes of Ctrl-C, without a word
        sys.stderr.write("interrupted\n")
    return code if isinstance(code, int) else 0


def _user_facing(error: Exception) -> EdgekitError:
    if isinstance(error, EdgekitError):
        return error
    if isinstance(error, TyperException):
        return InputError(error.format_message(), hint="see edgekit --help")
    if isinstance(error, OSError):
        return from_os_error(error)
    return ToolError(
        f"internal error: {type(error).__name__}: {error}",
        hint="run again with --verbose for the traceback, and report it",
    )


def main() -> None:
    """Entry point of the `edgekit` command."""
    sys.exit(run(sys.argv[1:]))
