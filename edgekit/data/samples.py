"""Arrays from .npz files: calibration and test samples given on the command line."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.base.errors import DataError
from edgekit.base.files import existing_file
from edgekit.data.checks import check_finite

Arrays = dict[str, NDArray[Any]]

_HOW_TO = "numpy.savez(file, x=..., y=...) writes one; arrays of objects are not read"


def load_samples(path: Path) -> tuple[Arrays, NDArray[Any] | None]:
    """Reads samples by input name and, if there is an array "y", their labels.

    Args:
        path: an .npz file; each array has the samples along its first axis.

    Returns:
        Arrays of shape (n, ...) and labels of n rows. float64 becomes float32, int64 becomes int32.

    Raises:
        DataError: the file is not one, or its arrays cannot be samples of a model.
    """
    arrays = read_npz(path)
    y = arrays.pop("y", None)
    if not arrays:
        raise DataError("holds no samples", where=str(path), hint="arrays by input name, such as x")
    counts = {name: len(array) for name, array in arrays.items()}
    if y is not None:
        counts["y"] = len(y)
    if len(set(counts.values())) > 1:
        raise DataError(f"the arrays differ in their number of samples: {counts}", where=str(path))
    if not next(iter(counts.values())):
        raise DataError("the arrays hold no samples", where=str(path))
    for name, array in arrays.items():
        check_finite(array, f"{path}: {name}")
    return {name: _narrow(array) for name, array in arrays.items()}, y


def read_npz(path: Path) -> Arrays:
    """All arrays of an .npz file; never unpickles.

    Raises:
        DataError: the file is missing, damaged, no .npz, or holds Python objects or scalars.
    """
    if not zipfile.is_zipfile(existing_file(path, what="data file")):
        raise DataError("is not an .npz file", where=str(path), hint=_HOW_TO)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception as error:  # noqa: BLE001 a damaged archive makes zipfile raise anything
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(
            f"cannot be read as .npz: {reason}", where=str(path), hint=_HOW_TO
        ) from None
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):  # a zip archive of other things: its bytes
            raise DataError("is not an .npz file", where=str(path), hint=_HOW_TO)
        if array.ndim == 0:
            raise DataError(f"array '{name}' is one number, not samples", where=str(path))
    return arrays


def _narrow(array: NDArray[Any]) -> NDArray[Any]:
    wide = {np.dtype(np.float64): np.float32, np.dtype(np.int64): np.int32}
    return array.astype(wide.get(array.dtype, array.dtype), copy=False)
