"""`digits`: 1,797 scans of handwritten digits that scikit-learn brings along.

8x8 pixels, values 0 to 16 (Alpaydin and Kaynak 1998, UCI optical recognition of handwritten
digits, test part). They can be enlarged, distorted, coloured and repeated, to make a task out of
them that is not solved at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from edgekit.base.extras import require
from edgekit.data.formats.procedural import Floats, chunks, pixel_places, smooth_fields, uniform
from edgekit.data.raw import RawData, Source, SourceOptions

_TOP = 16.0
_TEST = 0.25


class Options(SourceOptions):
    """Options of `digits`.

    Attributes:
        size: side in pixels that the scans are enlarged to, with bilinear interpolation.
        distort: strength of random turns, shears, scales, shifts, uneven grounds, noise; 0 is none.
        colour: random colours of ground and, lighter, digit; three channels.
        copies: how often each scan appears, each time distorted anew.
        seed: of the distortions.
    """

    size: int = Field(8, ge=8, le=256)
    distort: float = Field(0.0, ge=0, le=2)
    colour: bool = False
    copies: int = Field(1, ge=1, le=64)
    seed: int = Field(0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _copies_differ(self) -> Self:
        if self.copies > 1 and not self.distort and not self.colour:
            raise ValueError("'copies' without 'distort' or 'colour' would all be the same")
        return self


def load(argument: str, options: Options, root: Path) -> RawData:  # noqa: ARG001
    """The scans as float32 (n, size, size, 1 or 3), raw values 0 to 16.

    With several copies, a quarter of the scans is set aside: all their copies are the test split.

    Raises:
        DataError: too many for the memory.
    """
    datasets = require("sklearn.datasets", purpose="for the digits that come with it")
    x, y = datasets.load_digits(return_X_y=True)
    images = x.reshape(-1, 8, 8).astype(np.float32)
    y = y.astype(np.int32)
    labels = tuple("0123456789")
    if options.size == 8 and not options.distort and not options.colour:
        return RawData({"x": images[..., None]}, y, labels)
    generator = np.random.default_rng(options.seed)
    aside = generator.permutation(len(y)) < round(_TEST * len(y))
    which = np.tile(np.arange(len(y)), options.copies)
    size, channels = options.size, 3 if options.colour else 1
    parts = chunks(len(which), size * size * channels, "digits")
    drawn = np.empty((len(which), size, size, channels), np.float32)
    for part in parts:
        ink = _placed(images[which[part]] / _TOP, size, options.distort, generator)
        drawn[part] = _TOP * _painted(ink, options, generator)
    return RawData(
        {"x": drawn}, y[which], labels, test=aside[which] if options.copies > 1 else None
    )


def _placed(images: Floats, size: int, distort: float, generator: np.random.Generator) -> Floats:
    """The scans through random affine maps, (n, size, size); 0 outside them."""
    count, side = images.shape[:2]
    angle = uniform(generator, -0.5 * distort, 0.5 * distort, count)
    shear = uniform(generator, -0.3 * distort, 0.3 * distort, count)
    zoom = np.exp(uniform(generator, -0.35 * distort, 0.25 * distort, 2, count))
    shift = uniform(generator, -1.0 * distort, 1.0 * distort, 2, count)
    cos, sin = np.cos(angle), np.sin(angle)
    # Pixels of the output at the places of the scan that they show, both about the centre.
    place = pixel_places(size) * side
    row, column = place[None, :, None], place[None, None, :]

    def along(a: Floats, b: Floats, c: Floats) -> Floats:
        turned = row * a[:, None, None] + column * b[:, None, None]
        mapped: Floats = turned + c[:, None, None] + (side - 1) / 2
        return mapped

    rows = along(cos / zoom[0], -sin / zoom[0], shift[0])
    columns = along((sin + shear * cos) / zoom[1], (cos - shear * sin) / zoom[1], shift[1])
    return _bilinear(images, rows, columns)


def _bilinear(images: Floats, rows: Floats, columns: Floats) -> Floats:
    """Values of each image at fractional places (n, height, width); 0 outside."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    side = padded.shape[1]
    rows = np.clip(rows + 1, 0, side - 1.001)
    columns = np.clip(columns + 1, 0, side - 1.001)
    top, left = rows.astype(np.int32), columns.astype(np.int32)
    down, right = rows - top, columns - left
    flat = padded.reshape(-1)
    first = np.arange(len(images), dtype=np.int32)[:, None, None] * side**2 + top * side + left
    above = flat[first] * (1 - right) + flat[first + 1] * right
    below = flat[first + side] * (1 - right) + flat[first + side + 1] * right
    values: Floats = above * (1 - down) + below * down
    return values


def _painted(ink: Floats, options: Options, generator: np.random.Generator) -> Floats:
    """Ink of 0 to 1 on paper, (n, size, size, channels), 0 to 1."""
    count, size = ink.shape[:2]
    channels = 3 if options.colour else 1
    paper = np.zeros((count, channels), np.float32)
    pen = np.ones((count, channels), np.float32)
    if options.colour:
        paper = uniform(generator, 0.1, 0.6, count, channels)
        direction = np.abs(generator.standard_normal((count, channels), np.float32))
        direction *= np.sqrt(channels) / np.linalg.norm(direction, axis=1, keepdims=True)
        pen = paper + uniform(generator, 0.25, 0.5, count, 1) * direction
    uneven = smooth_fields(generator, (count, channels, 5, 5), size)
    ground = paper[:, :, None, None] + 0.12 * options.distort * uneven
    image = ground + ink[:, None] * (pen[:, :, None, None] - ground)
    level = uniform(generator, 0, 0.15 * options.distort, count, 1, 1, 1)
    image = image + level * generator.standard_normal(image.shape, np.float32)
    return np.asarray(np.moveaxis(np.clip(image, 0, 1), 1, -1), np.float32)


SOURCE = Source(load, Options)
