"""`npz:FILE`: arrays by name in a NumPy archive."""

from __future__ import annotations

from pathlib import Path

from pydantic import field_validator

from edgekit.base.errors import DataError, did_you_mean
from edgekit.data.raw import RawData, Source, SourceOptions
from edgekit.data.samples import read_npz


class Options(SourceOptions):
    """Options of `npz`.

    Attributes:
        x: name of the array with the samples, or the names of several inputs.
        y: name of the array with the labels; null for data without labels.
    """

    x: str | tuple[str, ...] = "x"
    y: str | None = "y"

    @field_validator("x")
    @classmethod
    def _some(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if not value or (len(set(value)) != len(value) and not isinstance(value, str)):
            raise ValueError("must be one name, or several different names")
        return value


def load(argument: str, options: Options, root: Path) -> RawData:
    """The named arrays; one input is called "x", several keep their names."""
    path = root / argument
    arrays = read_npz(path)
    several = not isinstance(options.x, str)
    names = (options.x,) if isinstance(options.x, str) else options.x
    for name in (*names, *((options.y,) if options.y else ())):
        if name not in arrays:
            raise DataError(
                f"there is no array '{name}'", where=str(path), hint=did_you_mean(name, arrays)
            )
    x = {name if several else "x": arrays[name] for name in names}
    return RawData(dict(x), arrays[options.y] if options.y else None)


SOURCE = Source(load, Options, argument="FILE")
