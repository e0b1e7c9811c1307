"""`image_folder:DIR`: images in one folder a class; the folders' names are the labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgekit.base.errors import DataError
from edgekit.base.extras import require
from edgekit.data.raw import RawData, Samples, Source, SourceOptions

_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


class Options(SourceOptions):
    """Options of `image_folder`.

    Attributes:
        size: height and width to resize to; recorded as the preprocessing's resize.
        channels: 1 grey, 3 RGB, 4 RGB with alpha.
    """

    size: tuple[int, int] | None = None
    channels: Literal[1, 3, 4] = 3


def load(argument: str, options: Options, root: Path) -> RawData:
    """The images as uint8 (height, width, channels) of their own sizes, classes by folder."""
    directory = root / argument
    if not directory.is_dir():
        raise DataError("is not a folder", where=str(directory))
    folders = sorted(path for path in directory.iterdir() if path.is_dir() and _visible(path))
    if len(folders) < 2:
        raise DataError(
            f"holds {len(folders)} folders; a classifier needs at least two classes",
            where=str(directory),
            hint="put the images of each class into a folder of its own",
        )
    images: list[NDArray[Any]] = []
    classes: list[int] = []
    for index, folder in enumerate(folders):
        files = sorted(
            path
            for path in folder.rglob("*")
            if path.suffix.lower() in _SUFFIXES and _visible(path)
        )
        if not files:
            raise DataError(
                f"the class '{folder.name}' is empty: no image lies in its folder",
                where=str(folder),
                hint=f"images are files that end in {', '.join(sorted(_SUFFIXES))}",
            )
        images += [_read(path, _MODES[options.channels]) for path in files]
        classes += [index] * len(files)
    same = len({image.shape for image in images}) == 1
    samples: Samples = np.stack(images) if same else images
    labels = tuple(folder.name for folder in folders)
    return RawData({"x": samples}, np.array(classes, np.int32), labels, size=options.size)


def _visible(path: Path) -> bool:
    return not path.name.startswith(".")


def _read(path: Path, mode: str) -> NDArray[np.uint8]:
    pil = require("PIL.Image", purpose="to read images")
    try:
        with pil.open(path) as image:
            pixels = np.asarray(image.convert(mode), np.uint8)
    except (OSError, ValueError, SyntaxError, pil.DecompressionBombError) as error:
        raise DataError(
            f"cannot be read as an image: {error}",
            where=str(path),
            hint="remove the file or replace it with a whole image",
        ) from None
    return pixels if pixels.ndim == 3 else pixels[..., None]


SOURCE = Source(load, Options, argument="DIR")
