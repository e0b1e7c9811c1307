"""The exceptions that a user may see, each with its exit code (see the CLI contract).

Exit codes: 1 a check failed, 2 bad usage or bad input, 3 something needed is not installed,
4 a runtime, compiler or device failed.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

_READABLE = 40  # words


class EdgekitError(Exception):
    """Base of all errors that edgekit raises on purpose.

    Args:
        message: what was wrong, with what was found.
        where: the place of the fault: a file, `file:line:column`, a layer, an option.
        hint: what to do about it.
    """

    exit_code: ClassVar[int] = 4

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = f"\n  {self.hint}" if self.hint else ""
        return f"{place}{self.message}{advice}"

    def to_dict(self) -> dict[str, str | None]:
        """The error as the CLI contract prints it with `--json`."""
        return {
            "type": type(self).__name__,
            "message": self.message,
            "where": self.where,
            "hint": self.hint,
        }


class CheckFailedError(EdgekitError):
    """A budget, parity or gate check failed."""

    exit_code = 1


class ParityError(CheckFailedError):
    """A converted model does not compute what its reference computes."""


class InputError(EdgekitError):
    """Bad usage or bad input."""

    exit_code = 2


class RecipeError(InputError):
    """A recipe that cannot be used."""


class TargetError(InputError):
    """A target description that cannot be used."""


class ModelFileError(InputError):
    """A model file that is missing, truncated, corrupt or of an unknown kind."""


class DataError(InputError):
    """A dataset that cannot be used."""


class BundleError(InputError):
    """A bundle that is corrupt, altered or unsafe."""


class RunLockedError(InputError):
    """Another process is working in the same run directory."""


class PreconditionError(InputError):
    """A compression pass was asked for something that its model or data do not allow."""


class MissingDependencyError(EdgekitError):
    """A needed extra, tool or device is not there."""

    exit_code = 3


class ToolError(EdgekitError):
    """A runtime, compiler or device failed."""

    exit_code = 4


class ConversionError(ToolError):
    """A converter failed, died, or passed its limit of time or memory."""


class PostconditionError(ToolError):
    """A compression pass did not keep what it promises of its result."""


class StorageError(EdgekitError):
    """The disk is full or cannot be written."""

    exit_code = 4


def from_dict(error: Mapping[str, Any], unknown: type[EdgekitError]) -> EdgekitError:
    """The exception that another process reported with `EdgekitError.to_dict`.

    Args:
        error: its type, message, where and hint.
        unknown: the class for a type that is not one of this module's.
    """
    kind: type[EdgekitError] = globals().get(error["type"], unknown)
    return kind(error["message"], where=error["where"], hint=error["hint"])


def nearest(word: str, allowed: Iterable[str]) -> str | None:
    """The allowed word that is closest to `word`, or None if none is close."""
    matches = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.5)
    return matches[0] if matches else None


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """A hint that names the nearest allowed word, if any, and all others if they can be read."""
    words = sorted(allowed)
    close = nearest(word, words)
    if close and len(words) > _READABLE:
        return f"did you mean '{close}'?"
    start = f"did you mean '{close}'? " if close else ""
    return f"{start}allowed: {', '.join(words)}"
