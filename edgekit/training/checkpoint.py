"""The state of a training between two epochs, in one file that is either whole or not there."""

from __future__ import annotations

import hashlib
import json
import time
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.base.files import atomic_path, canonical_json

if TYPE_CHECKING:
    import keras

History = dict[str, list[float]]
Weights = list[NDArray[Any]]

_FILE = "checkpoint.npz"
_META = "meta"


@dataclass(frozen=True)
class Checkpoint:
    """All that the epochs so far have changed.

    Attributes:
        history: one value an epoch, by metric.
        weights: of the model, as `keras.Model.get_weights` gives them.
        optimizer: the variables of the optimizer.
        best: the weights of the best epoch, if early stopping keeps them; else empty.
    """

    history: History
    weights: Weights
    optimizer: Weights
    best: Weights

    @property
    def epochs(self) -> int:
        """How many epochs are done."""
        return len(next(iter(self.history.values()), ()))


def fingerprint(model: keras.Model, settings: Any) -> str:
    """A hash of what a training starts from: the weights, and JSON-able settings."""
    digest = hashlib.sha256(canonical_json(settings).encode())
    for array in model.get_weights():
        digest.update(f"{array.shape}{array.dtype}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def save_checkpoint(directory: Path, key: str, checkpoint: Checkpoint) -> None:
    """Writes the state.

    Args:
        directory: where it is kept.
        key: the `fingerprint` of the training that it belongs to.
        checkpoint: the state.

    Raises:
        StorageError: the disk is full.
    """
    meta = json.dumps({"key": key, "history": checkpoint.history})
    arrays: dict[str, NDArray[Any]] = {_META: np.frombuffer(meta.encode(), np.uint8)}
    for group in ("weights", "optimizer", "best"):
        for index, array in enumerate(getattr(checkpoint, group)):
            arrays[f"{group}{index}"] = array
    with atomic_path(directory / _FILE) as temporary:
        np.savez(temporary, allow_pickle=False, **arrays)


def load_checkpoint(directory: Path, key: str) -> Checkpoint | None:
    """The state that a training left, or None if there is none of this training."""
    path = directory / _FILE
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as archive:
            meta = json.loads(archive[_META].tobytes())
            if meta["key"] != key:
                return None
            groups = {name: _group(archive, name) for name in ("weights", "optimizer", "best")}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None  # not ours, or damaged: train from the start
    return Checkpoint(meta["history"], **groups)


def discard_checkpoint(directory: Path) -> None:
    """Removes the state, if there is one."""
    (directory / _FILE).unlink(missing_ok=True)


def _group(archive: Any, name: str) -> Weights:
    count = sum(key.startswith(name) for key in archive.files)
    return [archive[f"{name}{index}"] for index in range(count)]


@dataclass
class Keeper:
    """Writes the state of a training from time to time.

    Attributes:
        directory: where it is kept.
        key: the `fingerprint` of the training.
        every_s: at least this many seconds between two states.
    """

    directory: Path
    key: str
    every_s: float
    last: float = 0.0

    def load(self) -> Checkpoint | None:
        """The state that an interrupted training left, if any."""
        self.last = time.monotonic()
        return load_checkpoint(self.directory, self.key)

    def is_due(self) -> bool:
        """Whether enough time has passed since the last state."""
        return time.monotonic() - self.last >= self.every_s

    def save(self, checkpoint: Checkpoint) -> None:
        """Writes a state."""
        save_checkpoint(self.directory, self.key, checkpoint)
        self.last = time.monotonic()
