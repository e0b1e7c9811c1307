"""`csv:FILE`: a table of numeric features with a column of labels."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgekit.base.errors import DataError, did_you_mean
from edgekit.base.files import existing_file
from edgekit.data.raw import RawData, Source, SourceOptions


class Options(SourceOptions):
    """Options of `csv`.

    Attributes:
        label: name or index (negative from the end) of the label's column; null for none.
        header: whether the first line names the columns; by default found out: it does if any of
            its cells is no number and `label` is a name or another cell of that column is.
        delimiter: what separates cells.
        task: whether the labels are classes, or values to predict.
        shape: shape of one sample, if it is more than a row, such as [28, 28, 1].
    """

    label: str | int | None = -1
    header: bool | None = None
    delimiter: str = ","
    task: Literal["classes", "values"] = "classes"
    shape: tuple[int, ...] | None = None


def load(argument: str, options: Options, root: Path) -> RawData:
    """Features as float32 (n, columns - 1), labels as classes by name, or as float32 values."""
    path = existing_file(root / argument, what="data file")
    rows = _rows(path, options.delimiter)
    names = _header(rows, options)
    first_line = 2 if names else 1
    table = rows[1:] if names else rows
    if not table:
        raise DataError("holds no samples", where=str(path))
    column = _label_column(options.label, names, len(rows[0]), path)
    features = [i for i in range(len(rows[0])) if i != column]
    if not features:
        raise DataError("holds no columns of features", where=str(path))
    x = np.array(
        [_numbers(row, features, names, f"{path}:{first_line + n}") for n, row in enumerate(table)],
        np.float32,
    )
    if options.shape:
        x = _shaped(x, options.shape, path)
    if column is None:
        return RawData({"x": x}, None)
    if options.task == "values":
        values = [
            _numbers(row, [column], names, f"{path}:{first_line + n}")[0]
            for n, row in enumerate(table)
        ]
        return RawData({"x": x}, np.array(values, np.float32))
    y, labels = _classes([row[column].strip() for row in table], path)
    return RawData({"x": x}, y, labels)


def _rows(path: Path, delimiter: str) -> list[list[str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            rows = [row for row in csv.reader(handle, delimiter=delimiter) if row]
    except (UnicodeDecodeError, csv.Error, TypeError) as error:
        raise DataError(f"cannot be read as CSV: {error}", where=str(path)) from None
    if not rows:
        raise DataError("is empty", where=str(path))
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]):
            raise DataError(
                f"has {len(row)} cells, the first row has {len(rows[0])}", where=f"{path}:{number}"
            )
    return rows


def _header(rows: list[list[str]], options: Options) -> list[str] | None:
    cells = [cell.strip() for cell in rows[0]]
    if options.header is not None:
        return cells if options.header else None
    if isinstance(options.label, str):
        return cells
    # A first row is a header if it has a word where the second row has a number.
    below = rows[1] if len(rows) > 1 else []
    words = [
        not _is_number(cell) and _is_number(other)
        for cell, other in zip(cells, below, strict=False)
    ]
    return cells if any(words) else None


def _label_column(
    label: str | int | None, names: list[str] | None, columns: int, path: Path
) -> int | None:
    if label is None:
        return None
    if isinstance(label, int):
        if not -columns <= label < columns:
            raise DataError(
                f"there is no column {label}", where=str(path), hint=f"it has {columns} columns"
            )
        return label % columns
    if names is None:
        raise DataError(f"the label is named '{label}', but header is false", where=str(path))
    if label not in names:
        raise DataError(
            f"there is no column '{label}'", where=str(path), hint=did_you_mean(label, names)
        )
    return names.index(label)


def _numbers(
    row: list[str], columns: list[int], names: list[str] | None, where: str
) -> list[float]:
    try:
        return [float(row[column]) for column in columns]
    except ValueError:
        wrong = next(column for column in columns if not _is_number(row[column]))
        name = f"'{names[wrong]}'" if names else str(wrong)
        raise DataError(
            f"the cell of column {name} is {row[wrong]!r}, not a number",
            where=where,
            hint="features are numbers; for a header line set options.header: true",
        ) from None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _classes(cells: list[str], path: Path) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    words = sorted(set(cells))
    if all(_is_number(word) for word in words):
        if any(not float(word).is_integer() for word in words):
            raise DataError(
                "the labels are numbers with fractions, not classes",
                where=str(path),
                hint="to predict values, set options.task: values",
            )
        words.sort(key=float)
    index = {word: position for position, word in enumerate(words)}
    return np.array([index[cell] for cell in cells], np.int32), tuple(words)


def _shaped(x: NDArray[np.float32], shape: tuple[int, ...], path: Path) -> NDArray[np.float32]:
    if int(np.prod(shape)) != x.shape[1]:
        raise DataError(
            f"rows of {x.shape[1]} features do not fit the shape {list(shape)}", where=str(path)
        )
    return x.reshape(-1, *shape)


SOURCE = Source(load, Options, argument="FILE")
