"""What all commands share: the output options, results, progress and errors.

With `--json`, standard output holds one JSON document and nothing else; progress and messages go
to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.base.errors import EdgekitError, InputError
from edgekit.base.progress import Progress, silent

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no messages.")]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", "-v", help="Say more; show the traceback of an error.")
]

_SHOW_PROGRESS_AFTER_S = 0.5
_FILE_WIDTH = 136


def examples(*lines: str) -> str:
    """The epilog of a command's help: its examples, kept line by line."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def only_one(given: Sequence[str], option: str) -> str:
    """The value of an option that other commands take several times, and this one once.

    Raises:
        InputError: it was given more than once; to take the last would leave the others unanswered.
    """
    if len(given) > 1:
        raise InputError(f"one at a time, not {' and '.join(given)}", where=option)
    return given[0]


class Output:
    """Where a command's results, messages and progress go."""

    def __init__(self, *, json: bool, quiet: bool, verbose: bool) -> None:
        self.json = json
        self.quiet = quiet
        self.verbose = verbose

    def result(
        self, document: BaseModel | Mapping[str, Any], render: Callable[[Console], None]
    ) -> None:
        """Prints the result: the document with `--json`, else whatever `render` draws."""
        if self.json:
            plain = document if isinstance(document, Mapping) else document.model_dump(mode="json")
            sys.stdout.write(json.dumps(plain, indent=2) + "\n")
        else:
            from rich.console import Console

            console = Console()
            if not (console.is_terminal or "COLUMNS" in os.environ):
                console.width = _FILE_WIDTH  # a file or a pipe has no width of its own
            render(console)

    def message(self, text: str) -> None:
        """Prints a line for people on standard error."""
        if not self.quiet:
            sys.stderr.write(text + "\n")

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """A `Progress` that draws a bar on standard error for work that takes a while."""
        if self.quiet or not sys.stderr.isatty():
            yield silent if self.quiet else _plain_progress()
            return
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
            task = bars.add_task("", total=None)

            def report(text: str, done: float = 0.0, total: float | None = None) -> None:
                bars.update(task, description=text, completed=done, total=total)

            yield report


def _plain_progress() -> Progress:
    """Progress for a log file: one line a text, at most two a second."""
    shown, shown_at = "", -_SHOW_PROGRESS_AFTER_S

    def report(text: str, done: float = 0.0, total: float | None = None) -> None:  # noqa: ARG001
        nonlocal shown, shown_at
        now = time.monotonic()
        if text != shown and now - shown_at >= _SHOW_PROGRESS_AFTER_S:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()
            shown, shown_at = text, now

    return report


def report_error(error: EdgekitError, *, as_json: bool) -> None:
    """Prints an error as the CLI contract says: JSON on stdout, or words on stderr."""
    if as_json:
        with suppress(OSError):  # standard output itself may be what failed
            sys.stdout.write(json.dumps({"error": error.to_dict()}, indent=2) + "\n")
            sys.stdout.flush()
            return
    sys.stderr.write(f"error: {error}\n")
