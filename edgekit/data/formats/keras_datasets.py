"""`keras:NAME`: the image datasets that Keras downloads and keeps in its cache."""

from __future__ import annotations

import importlib
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np

from edgekit.base.errors import DataError, MissingDependencyError, did_you_mean
from edgekit.base.extras import require
from edgekit.data.raw import RawData, Source, SourceOptions

_CIFAR10 = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
_FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip

# Name to the names of its classes, where Keras documents them; numbers stand for themselves.
_LABELS: dict[str, tuple[str, ...]] = {
    "cifar10": _CIFAR10,
    "cifar100": (),
    "fashion_mnist": _FASHION,
    "mnist": (),
}


class Options(SourceOptions):
    """Options of `keras`.

    Attributes:
        keep_test: the dataset's own test part is the test split, so that accuracies compare with
            published ones; else all samples are split anew.
    """

    keep_test: bool = True


def load(argument: str, options: Options, root: Path) -> RawData:  # noqa: ARG001
    """The images as uint8 (n, height, width, channels), raw values 0 to 255."""
    if argument not in _LABELS:
        raise DataError(
            f"unknown Keras dataset '{argument}'",
            where=f"keras:{argument}",
            hint=did_you_mean(argument, _LABELS),
        )
    require("keras", purpose="to load its datasets")
    module = importlib.import_module(f"keras.datasets.{argument}")
    try:
        with redirect_stdout(sys.stderr):  # Keras reports a download on standard output
            (train_x, train_y), (test_x, test_y) = module.load_data()
    except Exception as error:  # noqa: BLE001 Keras raises a bare one when a download fails
        raise _not_there(argument, error) from None
    images = np.concatenate([train_x, test_x])
    if images.ndim == 3:
        images = images[..., None]
    y = np.concatenate([train_y, test_y]).reshape(-1).astype(np.int32)
    test = np.arange(len(y)) >= len(train_y) if options.keep_test else None
    return RawData({"x": images}, y, _LABELS[argument], test=test)


def _not_there(name: str, error: Exception) -> MissingDependencyError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return MissingDependencyError(
        f"the dataset could not be downloaded: {reason}",
        where=f"keras:{name}",
        hint=f'connect once and run: python -c "import keras; keras.datasets.{name}.load_data()"; '
        "then copy ~/.keras/datasets to this machine (KERAS_HOME moves ~/.keras)",
    )


SOURCE = Source(load, Options, argument="NAME")
