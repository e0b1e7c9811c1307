"""A small dataset that a small network learns in a second."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.data.dataset import Dataset, Split
from edgekit.schema.artifact import Preprocessing

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
