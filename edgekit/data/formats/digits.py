"""`digits`: 1,797 scans of handwritten digits that scikit-learn brings along.

8x8 pixels, values 0 to 16 (Alpaydin and Kaynak 1998, UCI optical recognition of handwritten
digits, test part).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekit.base.extras import require
from edgekit.data.raw import RawData, Source, SourceOptions


def load(argument: str, options: SourceOptions, root: Path) -> RawData:  # noqa: ARG001
    """The scans as float32 (1797, 8, 8, 1), raw values 0 to 16."""
    datasets = require("sklearn.datasets", purpose="for the digits that come with it")
    x, y = datasets.load_digits(return_X_y=True)
    images = x.reshape(-1, 8, 8, 1).astype(np.float32)
    return RawData({"x": images}, y.astype(np.int32), tuple("0123456789"))


SOURCE = Source(load, SourceOptions)
