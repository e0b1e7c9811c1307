"""What every dataset must be: numbers, finite, one label a sample, no empty class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.base.errors import DataError
from edgekit.data.raw import Samples

_SHOWN = 5


def check_finite(array: NDArray[Any], where: str) -> None:
    """Refuses arrays that do not hold finite numbers.

    Raises:
        DataError: the dtype is not a number's, or a value is NaN or infinite.
    """
    if array.dtype.kind not in "fiub":
        raise DataError(
            f"has dtype {array.dtype}, which is not a number",
            where=where,
            hint="numbers only: floats, integers or booleans",
        )
    if array.dtype.kind != "f":
        return
    # The sum is finite if all values are: one pass without a temporary array for the usual case.
    with np.errstate(over="ignore", invalid="ignore"):
        total = array.sum(dtype=np.float64)
    if np.isfinite(total):
        return
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        rows = sorted({int(place[0]) for place in bad})
        shown = ", ".join(str(row) for row in rows[:_SHOWN])
        more = ", ..." if len(rows) > _SHOWN else ""
        raise DataError(
            f"holds {len(bad)} values that are NaN or infinite, in the samples {shown}{more}",
            where=where,
            hint="remove these samples or fill their values in",
        )


def check_samples(x: dict[str, Samples], y: NDArray[Any] | None, where: str) -> int:
    """Refuses samples that do not fit together; returns how many there are.

    Raises:
        DataError: no samples, different counts, no numbers, NaN or infinite values.
    """
    counts = {name: len(samples) for name, samples in x.items()}
    if y is not None:
        counts["labels"] = len(y)
    if len(set(counts.values())) != 1:
        described = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise DataError(f"the numbers of samples differ: {described}", where=where)
    count = next(iter(counts.values()))
    if count == 0:
        raise DataError("there are no samples", where=where)
    for name, samples in x.items():
        if isinstance(samples, np.ndarray):
            if samples.ndim < 2:
                raise DataError(
                    f"'{name}' has shape {samples.shape}, one number a sample",
                    where=where,
                    hint="samples have the shape (n, features) or (n, height, width, channels)",
                )
            if 0 in samples.shape:
                raise DataError(f"'{name}' has the empty shape {samples.shape}", where=where)
            check_finite(samples, f"{where}: {name}")
        else:
            for index, sample in enumerate(samples):
                check_finite(sample, f"{where}: {name}[{index}]")
    return count


def to_targets(
    y: NDArray[Any], given: Sequence[str], where: str
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Labels as int32 classes with their names, or as float32 values without names.

    Integers, booleans and strings are classes, floats are values to predict.

    Args:
        y: as the source delivers them, of shape (n,), (n, 1), or (n, k) for values.
        given: names of the classes in order, if they are known.
        where: for messages.

    Raises:
        DataError: labels out of range, an empty class, fewer than two classes, not finite.
    """
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.dtype.kind == "f":
        check_finite(y, f"{where}: labels")
        if given:
            raise DataError(
                "the labels are floats, but names of classes are given",
                where=where,
                hint="classes are integers from 0 or strings",
            )
        return y.astype(np.float32), ()
    if y.ndim != 1:
        raise DataError(
            f"the labels have shape {y.shape}; classes have the shape (n,)",
            where=where,
            hint="turn one-hot rows into class numbers with argmax(axis=1)",
        )
    if y.dtype.kind == "U":
        return _named_classes(y, tuple(given), where)
    check_finite(y, f"{where}: labels")
    return _numbered_classes(y.astype(np.int64), tuple(given), where)


def _named_classes(
    y: NDArray[Any], given: tuple[str, ...], where: str
) -> tuple[NDArray[Any], tuple[str, ...]]:
    found = tuple(str(name) for name in np.unique(y))
    names = given or found
    unknown = sorted(set(found) - set(names))
    if unknown:
        raise DataError(
            f"the label '{unknown[0]}' is not among the given labels",
            where=where,
            hint=f"given: {', '.join(names)}",
        )
    position = {name: index for index, name in enumerate(names)}
    classes = np.array([position[str(name)] for name in y], np.int64)
    return _numbered_classes(classes, names, where)


def _numbered_classes(
    y: NDArray[np.int64], given: tuple[str, ...], where: str
) -> tuple[NDArray[Any], tuple[str, ...]]:
    lowest, highest = int(y.min()), int(y.max())
    if lowest < 0 or (given and highest >= len(given)):
        wrong = lowest if lowest < 0 else highest
        allowed = f"0 to {len(given) - 1}" if given else "0 and up"
        raise DataError(
            f"the label {wrong} is out of range", where=where, hint=f"allowed: {allowed}"
        )
    if highest >= len(y):  # at least one class is empty; do not count up to a huge number
        raise DataError(
            f"the label {highest} is larger than the number of samples, so classes are empty",
            where=where,
            hint="number the classes from 0 without gaps",
        )
    names = given or tuple(str(index) for index in range(highest + 1))
    if len(names) < 2:
        raise DataError("there is only one class; a classifier needs at least two", where=where)
    counts = np.bincount(y, minlength=len(names))
    empty = [name for name, count in zip(names, counts, strict=True) if not count]
    if empty:
        raise DataError(
            f"no sample has the class {', '.join(empty[:_SHOWN])}",
            where=where,
            hint="add samples of it, or leave it out of the labels",
        )
    return y.astype(np.int32), names
