"""What a source delivers: samples as they were recorded, before any preprocessing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgekit.schema.base import Document

Samples = NDArray[Any] | list[NDArray[Any]]


@dataclass(frozen=True)
class RawData:
    """Samples of a source.

    Attributes:
        x: by input name; an array of shape (n, ...), or a list of images of several sizes.
        y: classes or values, one row a sample; None where there are none.
        labels: names of the classes 0, 1, ..., if the source knows them.
        test: the samples that the source itself sets aside for testing, as a mask of shape (n,).
        size: height and width that an option of the source asks for.
    """

    x: dict[str, Samples]
    y: NDArray[Any] | None
    labels: tuple[str, ...] = ()
    test: NDArray[np.bool_] | None = None
    size: tuple[int, int] | None = None


class SourceOptions(Document):
    """Options of every source.

    Attributes:
        target: what is learnt: the labels, or the input itself (an autoencoder).
    """

    target: Literal["labels", "input"] = "labels"


@dataclass(frozen=True)
class Source:
    """A kind of source.

    Attributes:
        load: reads the samples; gets what stands after the colon, the options and the folder that
            relative paths start from.
        options: the model that validates the options.
        argument: what must stand after the colon, in words; None if nothing may.
    """

    load: Callable[[str, Any, Path], RawData]
    options: type[SourceOptions]
    argument: str | None = None
