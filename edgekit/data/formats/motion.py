"""`motion`: short recordings of an accelerometer and a gyroscope, for gesture recognition.

The classes differ in their dynamics only: how the frequency or the amplitude changes, which half
comes first, whether the turn goes with the circle or against it. Orientation, speed, phase,
direction and strength are random, so that no single value tells a class.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edgekit.data.formats.procedural import (
    Floats,
    ProceduralOptions,
    balanced_classes,
    chunks,
    uniform,
)
from edgekit.data.raw import RawData, Source

GESTURES = (
    "shake", "rising", "falling", "pulsed",
    "circle", "counter_circle", "shake_turn", "turn_shake",
)  # fmt: skip
_CHANNELS = 6


class Options(ProceduralOptions):
    """Options of `motion`.

    Attributes:
        steps: length of a recording.
        classes: how many gestures, from the front of the list.
    """

    steps: int = Field(48, ge=16, le=512)
    classes: int = Field(len(GESTURES), ge=2, le=len(GESTURES))


def load(argument: str, options: Options, root: Path) -> RawData:  # noqa: ARG001
    """Recordings as float32 (samples, steps, 6), most values within 2.

    Acceleration in g on three axes, then rates of turn about them.

    Raises:
        DataError: too many for the memory.
    """
    generator = np.random.default_rng(options.seed)
    y = balanced_classes(options.samples, options.classes, generator)
    parts = chunks(options.samples, options.steps * _CHANNELS, "motion")
    x = np.empty((options.samples, options.steps, _CHANNELS), np.float32)
    for part in parts:
        x[part] = _record(y[part], options.steps, options.difficulty, generator)
    return RawData({"x": x}, y, GESTURES[: options.classes])


def _record(
    y: NDArray[np.int32], steps: int, hard: float, generator: np.random.Generator
) -> Floats:
    count = len(y)
    acceleration, turn = _gesture(y, steps, generator)
    rotation = _rotations(count, hard, generator)
    strength = np.exp(uniform(generator, -0.4 * hard, 0.4 * hard, count, 1, 1))
    gravity = np.array([0, 0, 1], np.float32)
    x = np.concatenate(
        [
            (acceleration * strength + gravity) @ rotation,
            turn * strength @ rotation + uniform(generator, -0.2, 0.2, count, 1, 3) * hard,
        ],
        axis=-1,
    )
    level = uniform(generator, 0.15, 0.55, count, 1, 1) * hard
    noisy: Floats = x + level * generator.standard_normal(x.shape, np.float32)
    return noisy


def _gesture(
    y: NDArray[np.int32], steps: int, generator: np.random.Generator
) -> tuple[Floats, Floats]:
    """Acceleration and rates of turn in the hand's own axes, each (n, steps, 3)."""
    count = len(y)
    time = np.broadcast_to(np.linspace(0, 1, steps, dtype=np.float32), (count, steps))
    cycles = uniform(generator, 3.0, 5.5, count, 1)
    start = uniform(generator, 0, 1, count, 1)
    sweep = np.select([_is(y, "rising"), _is(y, "falling")], [0.6, -0.6], 0.0)[:, None]
    phase = 2 * np.pi * (cycles * (time + sweep * time * (time - 1)) + start)
    beat = 0.5 + 0.5 * np.cos(2 * np.pi * (2 * time + uniform(generator, 0, 1, count, 1)))
    middle = uniform(generator, 0.4, 0.6, count, 1)
    late = 1 / (1 + np.exp(-30 * (time - middle)))
    shaken = np.select(
        [_is(y, name)[:, None] for name in ("pulsed", "shake_turn", "turn_shake")],
        [1.4 * beat, 1 - late, late],
        1.0,
    )
    round_ = _is(y, "circle") | _is(y, "counter_circle")
    way = np.where(generator.random((count, 1)) < 0.5, -1.0, 1.0)
    acceleration = np.zeros((count, steps, 3))
    acceleration[..., 0] = shaken * np.cos(phase)
    acceleration[..., 1] = np.where(round_[:, None], way * np.sin(phase), 0.3 * np.sin(phase))
    turned = np.select(
        [
            _is(y, name)[:, None]
            for name in ("circle", "counter_circle", "shake_turn", "turn_shake")
        ],
        [way, -way, 1.2 * way * late, 1.2 * way * (1 - late)],
        0.0,
    )
    turn = np.zeros((count, steps, 3))
    turn[..., 2] = turned
    turn[..., 0] = 0.4 * shaken * np.sin(phase)
    return acceleration.astype(np.float32), turn.astype(np.float32)


def _is(y: NDArray[np.int32], name: str) -> NDArray[np.bool_]:
    return np.asarray(y == GESTURES.index(name))


def _rotations(count: int, hard: float, generator: np.random.Generator) -> Floats:
    """Turns by up to 60 degrees times the difficulty about random axes (Rodrigues), (n, 3, 3)."""
    axis = generator.standard_normal((count, 3))
    x, y, z = (axis / np.linalg.norm(axis, axis=1, keepdims=True)).T
    zero = np.zeros(count)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=1).reshape(count, 3, 3)
    angle = generator.uniform(0, np.pi / 3 * hard, (count, 1, 1))
    turned = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return np.asarray(turned, np.float32)


SOURCE = Source(load, Options)
