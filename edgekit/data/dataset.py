"""A dataset: four disjoint splits, with labels and the preprocessing that the device repeats."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.base.errors import DataError
from edgekit.base.files import atomic_path, existing_file, write_json
from edgekit.schema.artifact import Preprocessing

Arrays = dict[str, NDArray[Any]]

SPLITS = ("train", "validation", "calibration", "test")
_INDEX_FILE = "dataset.json"
_MAP_FROM_BYTES = 64 << 20


@dataclass(frozen=True)
class Split:
    """Samples of one split.

    Attributes:
        x: preprocessed arrays of shape (n, ...), float32 or int32, by input name.
        y: int32 classes of shape (n,); or float32 targets of shape (n, ...).
    """

    x: Arrays
    y: NDArray[Any]

    def __len__(self) -> int:
        return len(self.y)

    def take(self, count: int) -> Split:
        """The first `count` samples; splits are ordered so that these are stratified too."""
        return Split({name: array[:count] for name, array in self.x.items()}, self.y[:count])


@dataclass(frozen=True)
class Dataset:
    """Four disjoint splits.

    Attributes:
        labels: names of the classes; empty where the targets are values, not classes.
        preprocessing: what was done to the raw samples.
    """

    train: Split
    validation: Split
    calibration: Split
    test: Split
    labels: tuple[str, ...]
    preprocessing: Preprocessing

    @property
    def classes(self) -> int | None:
        """How many classes there are, or None where the targets are values."""
        return len(self.labels) or None

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one sample, by input name."""
        return {name: array.shape[1:] for name, array in self.train.x.items()}


def save_dataset(dataset: Dataset, directory: Path) -> None:
    """Writes a dataset as .npy files with an index.

    Raises:
        StorageError: the disk is full.
    """
    for name in SPLITS:
        split: Split = getattr(dataset, name)
        _write(directory / f"{name}.y.npy", split.y)
        for key, array in split.x.items():
            _write(directory / f"{name}.x.{key}.npy", array)
    index = {
        "inputs": list(dataset.train.x),
        "labels": dataset.labels,
        "preprocessing": dataset.preprocessing.model_dump(mode="json"),
    }
    write_json(directory / _INDEX_FILE, index)


def load_saved(directory: Path) -> Dataset:
    """Reads what `save_dataset` wrote; large arrays are mapped, not copied.

    Raises:
        DataError: a file is missing or damaged.
    """
    path = existing_file(directory / _INDEX_FILE, what="dataset")
    try:
        index = json.loads(path.read_text())
        splits = {
            name: Split(
                {key: _read(directory / f"{name}.x.{key}.npy") for key in index["inputs"]},
                _read(directory / f"{name}.y.npy"),
            )
            for name in SPLITS
        }
        preprocessing = Preprocessing.model_validate(index["preprocessing"])
        return Dataset(**splits, labels=tuple(index["labels"]), preprocessing=preprocessing)
    except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
        raise DataError(f"the saved dataset is damaged: {error}", where=str(directory)) from None


def _write(path: Path, array: NDArray[Any]) -> None:
    with atomic_path(path) as temporary:
        np.save(temporary, array, allow_pickle=False)


def _read(path: Path) -> NDArray[Any]:
    large = path.stat().st_size > _MAP_FROM_BYTES
    array: NDArray[Any] = np.load(path, mmap_mode="r" if large else None, allow_pickle=False)
    return array
