"""`shapes`: colour images of one large shape among clutter, for image classification.

Ten kinds of outline, textured, of random place, size, turn and proportions, over an uneven
background with small shapes and in part behind a bar, with noise. Nothing but the outline tells
the class, so that a linear model of the pixels learns little.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edgekit.data.formats.procedural import (
    Floats,
    ProceduralOptions,
    balanced_classes,
    chunks,
    pixel_places,
    smooth_fields,
    uniform,
)
from edgekit.data.raw import RawData, Source

KINDS = (
    "disc", "triangle", "square", "star", "cross",
    "ring", "flower", "half_disc", "frame", "pentagon",
)  # fmt: skip
_HOLES = {"ring": 0.55, "frame": 0.55}
_STEPS = 720  # of the angle in the table of outlines
_SMALL_SHAPES = 3


class Options(ProceduralOptions):
    """Options of `shapes`.

    Attributes:
        size: side of the square images in pixels.
        classes: how many kinds of shapes, from the front of the list.
        difficulty: at 0.4 ResNet-8 learns most of it from some thousand images, at 1 little.
    """

    difficulty: float = Field(0.4, ge=0, le=2)
    size: int = Field(32, ge=16, le=256)
    classes: int = Field(len(KINDS), ge=2, le=len(KINDS))


@dataclass(frozen=True)
class Shape:
    """One shape in each image; arrays of shape (n,), lengths as shares of the image's side."""

    kind: NDArray[np.int32]
    x: Floats
    y: Floats
    radius: Floats
    angle: Floats
    aspect: Floats


def load(argument: str, options: Options, root: Path) -> RawData:  # noqa: ARG001
    """Images as uint8 (samples, size, size, 3), raw values 0 to 255.

    Raises:
        DataError: too many for the memory.
    """
    size, hard = options.size, options.difficulty
    generator = np.random.default_rng(options.seed)
    y = balanced_classes(options.samples, options.classes, generator)
    parts = chunks(options.samples, size * size * 3, "shapes")
    images = np.empty((options.samples, size, size, 3), np.uint8)
    for part in parts:
        drawn = _draw(y[part], size, hard, generator)
        np.clip(np.rint(drawn * 255), 0, 255, out=drawn)
        images[part] = np.moveaxis(drawn, 1, -1)
    return RawData({"x": images}, y, KINDS[: options.classes])


def _draw(
    kind: NDArray[np.int32], size: int, hard: float, generator: np.random.Generator
) -> Floats:
    """Images as float32 (n, 3, size, size), about 0 to 1."""
    count = len(kind)
    ground = uniform(generator, 0.25, 0.75, count, 3)
    colour = ground[:, :, None, None]
    image = colour + 0.12 * hard * smooth_fields(generator, (count, 3, 5, 5), size)
    for _ in range(_SMALL_SHAPES):
        small = _random_shape(
            generator.integers(0, len(KINDS), count, np.int32), (0.05, 0.11), 0.5, generator
        )
        image = _paint(image, small, ground, hard, generator, strength=hard)
    # The larger a shape, the nearer to the centre, so that most of it is in the image.
    large = _random_shape(kind, (0.24, 0.38), 0.14 * min(1.0, 0.5 + hard / 2), generator)
    image = _paint(image, large, ground, hard, generator)
    image = _bar(image, ground, hard, generator)
    light = uniform(generator, 1 - 0.25 * hard, 1 + 0.25 * hard, count, 1, 1, 1)
    noise = uniform(generator, 0, 0.09 * hard, count, 1, 1, 1)
    noisy: Floats = image * light + noise * generator.standard_normal(image.shape, np.float32)
    return noisy


def _random_shape(
    kind: NDArray[np.int32],
    radius: tuple[float, float],
    spread: float,
    generator: np.random.Generator,
) -> Shape:
    count = len(kind)
    return Shape(
        kind,
        x=uniform(generator, -spread, spread, count),
        y=uniform(generator, -spread, spread, count),
        radius=uniform(generator, *radius, count),
        angle=uniform(generator, 0, 2 * np.pi, count),
        aspect=uniform(generator, 0.75, 1.0, count),
    )


def _paint(
    image: Floats,
    shape: Shape,
    ground: Floats,
    hard: float,
    generator: np.random.Generator,
    strength: float = 1.0,
) -> Floats:
    """Lays a striped shape over the images, in a colour apart from the ground's."""
    count, _, size, _ = image.shape
    u, v = _own_axes(shape, size)
    distance = np.hypot(u, v)
    step = ((np.arctan2(v, u) / (2 * np.pi)) % 1 * _STEPS).astype(np.int32) % _STEPS
    edge = _OUTLINES[shape.kind[:, None, None], step]
    pixels = (shape.radius * size)[:, None, None]
    cover = np.clip((edge - distance) * pixels + 0.5, 0, 1)
    hole = _HOLE[shape.kind][:, None, None]
    cover *= np.clip((distance - hole * edge) * pixels + 0.5, 0, 1)
    cover *= min(strength, 1.0)
    wave, turn = uniform(generator, 2, 7, count), uniform(generator, 0, np.pi, count)
    along = u * np.cos(turn)[:, None, None] + v * np.sin(turn)[:, None, None]
    stripes = np.sin(along * wave[:, None, None] + uniform(generator, 0, 6, count, 1, 1))
    texture = uniform(generator, 0, 0.2 * hard, count, 3)[:, :, None, None] * stripes[:, None]
    painted = _apart(ground, hard, generator)[:, :, None, None] + texture
    mixed: Floats = image + cover[:, None] * (painted - image)
    return mixed


def _own_axes(shape: Shape, size: int) -> tuple[Floats, Floats]:
    """The pixels' places on the shapes' own axes, in radii; each (n, size, size)."""
    place = pixel_places(size)
    x = place[None, None, :] - shape.x[:, None, None]
    y = place[None, :, None] - shape.y[:, None, None]
    cos = (np.cos(shape.angle) / shape.radius)[:, None, None]
    sin = (np.sin(shape.angle) / shape.radius)[:, None, None]
    across = (y * cos - x * sin) / shape.aspect[:, None, None]
    return np.asarray(x * cos + y * sin, np.float32), np.asarray(across, np.float32)


def _apart(ground: Floats, hard: float, generator: np.random.Generator) -> Floats:
    """Colours (n, 3) that differ from the ground's, the less the harder."""
    contrast = uniform(generator, 0.4 / (1 + 1.5 * hard), 0.45, len(ground), 1)
    direction = generator.standard_normal(ground.shape, np.float32)
    direction *= np.sqrt(3) / np.linalg.norm(direction, axis=1, keepdims=True)
    return ground + contrast * direction


def _bar(image: Floats, ground: Floats, hard: float, generator: np.random.Generator) -> Floats:
    """Lays a straight bar of random place and turn over the images."""
    count, _, size, _ = image.shape
    place = pixel_places(size)
    turn = uniform(generator, 0, np.pi, count)[:, None, None]
    away = place[None, None, :] * np.cos(turn) + place[None, :, None] * np.sin(turn)
    away = np.abs(away - uniform(generator, -0.4, 0.4, count, 1, 1))
    width = uniform(generator, 0, 0.04 * hard, count, 1, 1)
    cover = np.clip((width - away) * size + 0.5, 0, 1) * min(hard, 1.0)
    colour = _apart(ground, hard, generator)[:, :, None, None]
    laid: Floats = image + cover[:, None] * (colour - image)
    return laid


def _outlines() -> Floats:
    """Distance of each outline from its centre by angle, (kinds, steps); 1 at the farthest."""
    angle = (np.arange(_STEPS) + 0.5) / _STEPS * 2 * np.pi
    fold = np.abs((angle + np.pi / 4) % (np.pi / 2) - np.pi / 4)  # 0 to an eighth of a turn
    centre = 0.4 * np.sin(angle)  # the half disc's inner point lies 0.4 above its straight edge
    arc = -centre + np.sqrt(centre**2 + 1 - 0.4**2)
    straight = np.where(np.sin(angle) < 0, 0.4 / np.maximum(-np.sin(angle), 1e-6), np.inf)
    outlines = {
        "disc": np.ones(_STEPS),
        "triangle": _polygon(angle, 3),
        "square": _polygon(angle, 4),
        "star": 0.4 + 0.6 * np.abs((angle * 5 / (2 * np.pi)) % 1 * 2 - 1),
        "cross": np.minimum(1 / np.cos(fold), 0.34 / np.sin(fold)),
        "ring": np.ones(_STEPS),
        "flower": 0.72 + 0.28 * np.cos(5 * angle),
        "half_disc": np.minimum(arc, straight),
        "frame": _polygon(angle, 4),
        "pentagon": _polygon(angle, 5),
    }
    return np.stack([outlines[kind] for kind in KINDS]).astype(np.float32)


def _polygon(angle: NDArray[np.float64], corners: int) -> NDArray[np.float64]:
    sector = 2 * np.pi / corners
    outline: NDArray[np.float64] = np.cos(sector / 2) / np.cos(angle % sector - sector / 2)
    return outline


_OUTLINES = _outlines()
_HOLE = np.array([_HOLES.get(kind, -1.0) for kind in KINDS], np.float32)

SOURCE = Source(load, Options)
