"""Reading an untrusted FlatBuffer through its generated classes.

FlatBuffers for Python has no verifier. Offsets that leave the file raise inside `struct` or NumPy;
what remains dangerous is a small file whose vectors overlap so that it unfolds into a huge one.
So every vector and string is paid for out of a budget in proportion to the file's size.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

from edgekit.base.errors import ModelFileError

# What the generated classes raise when an offset or a length is wrong.
_FAULTS = (
    AttributeError,
    IndexError,
    KeyError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)
_HELPERS = re.compile(r"Init|GetRootAs.*|.*BufferHasIdentifier|.*(AsNumpy|Length|IsNone)")
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class Fault(ValueError):  # noqa: N818 a fault of the file, which becomes a ModelFileError
    """What is wrong with a file, in words for its user."""


@contextmanager
def faults_as_errors(what: str, where: str | None) -> Iterator[None]:
    """Turns the faults of a corrupt file into one clear error.

    Raises:
        ModelFileError: the block raised what the generated classes raise on a corrupt file.
    """
    try:
        yield
    except _FAULTS as error:
        found = error if isinstance(error, Fault) else "what it refers to is not in it"
        raise ModelFileError(
            f"not a readable {what}: truncated or corrupt ({found})",
            where=where,
            hint="copy or download it again, and compare its size with the original's",
        ) from error


class StrictBytes(bytes):
    """A file's content that refuses to cut a string (and the zero after it) short at its end."""

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice) and key.stop is not None and key.stop >= len(self):
            raise Fault("a string ends after the file")
        return super().__getitem__(key)


class Budget:
    """How much more may be read before a file counts as hostile."""

    def __init__(self, file_bytes: int) -> None:
        # An honest file spends at most one unit for each of its bytes; some share vectors.
        self._left = 4 * file_bytes + 1024

    def spend(self, amount: int) -> None:
        """Takes `amount` units.

        Raises:
            ModelFileError: the file unfolds into more than its size allows.
        """
        self._left -= amount
        if amount < 0 or self._left < 0:
            raise ModelFileError("corrupt: it unfolds into more than its size allows")

    def items(self, owner: Any, field: str) -> list[Any]:
        """The tables of a vector field."""
        length = getattr(owner, f"{field}Length")()
        self.spend(length + 1)
        get = getattr(owner, field)
        return [get(position) for position in range(length)]

    def numbers(self, owner: Any, field: str) -> list[Any]:
        """The numbers of a vector field, as Python numbers."""
        if getattr(owner, f"{field}IsNone")():
            return []
        array = getattr(owner, f"{field}AsNumpy")()
        self.spend(len(array) + 1)
        values: list[Any] = array.tolist()
        return values

    def text(self, value: bytes | None) -> str:
        """A string field's value as text."""
        self.spend(len(value or b"") + 1)
        return (value or b"").decode(errors="replace")


@cache
def _fields(kind: Hashable) -> tuple[tuple[str, str, bool], ...]:
    """The fields of a generated class: method name, snake_case name, whether it is a vector."""
    methods = [name for name in vars(kind) if name[0].isupper() and not _HELPERS.fullmatch(name)]
    return tuple(
        (name, _WORD.sub("_", name).lower(), hasattr(kind, f"{name}AsNumpy")) for name in methods
    )


def plain_fields(table: Any, budget: Budget) -> dict[str, Any]:
    """The scalar, string and numeric vector fields of a table, by snake_case name."""
    found: dict[str, Any] = {}
    for method, name, is_vector in _fields(cast("Hashable", type(table))):
        if is_vector:
            found[name] = budget.numbers(table, method)
        elif not hasattr(table, f"{method}Length"):
            value = getattr(table, method)()
            if isinstance(value, bytes):
                found[name] = budget.text(value)
            elif isinstance(value, bool | int | float):
                found[name] = value
    return found
