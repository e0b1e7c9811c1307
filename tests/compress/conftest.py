"""A small dataset that a small network learns in a second, and networks that learnt it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from edgekit.data.dataset import Dataset, Split
from edgekit.schema.artifact import Preprocessing
from tests.compress.precision_nets import bad_channels, mixed_net, plain_net
from tests.compress.qat_nets import NETS

CLASSES = 3


def blobs(count: int, seed: int) -> Split:
    """Images of 8x8 pixels in three classes: noise with a bright row, column or corner."""
    random = np.random.default_rng(seed)
    y = (np.arange(count) % CLASSES).astype(np.int32)
    x = random.normal(0, 0.4, (count, 8, 8, 1)).astype(np.float32)
    x[y == 0, 2] += 1
    x[y == 1, :, 5] += 1
    x[y == 2, 4:, 4:] += 1
    return Split({"x": x}, y)


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    return Dataset(
        train=blobs(240, 0),
        validation=blobs(60, 1),
        calibration=blobs(150, 2),
        test=blobs(120, 3),
        labels=("row", "column", "corner"),
        preprocessing=Preprocessing(),
    )


@pytest.fixture(scope="session")
def qat_nets(dataset: Dataset) -> Callable[[str], Any]:
    """The networks of `qat_nets.py`, each trained for a few epochs, once; not to be changed."""

    @cache
    def get(name: str) -> Any:
        return trained(NETS[name], dataset, epochs=4)

    return get


@pytest.fixture(scope="session")
def precision_nets(dataset: Dataset) -> Callable[[str], Any]:
    """The network `mixed`, and `bad`, which int8 breaks; trained once, not to be changed."""

    @cache
    def get(name: str) -> Any:
        model = trained(plain_net if name == "bad" else mixed_net, dataset, epochs=6)
        if name == "bad":
            bad_channels(model)
        return model

    return get


def trained(build: Callable[[], Any], dataset: Dataset, *, epochs: int) -> Any:
    """A network after some epochs."""
    import keras

    from edgekit.training.fit import fine_tune

    keras.utils.set_random_seed(1)
    model = build()
    fine_tune(model, dataset, epochs=epochs, learning_rate=0.01, batch_size=16, seed=0)
    return model
