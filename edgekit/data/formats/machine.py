"""`machine`: spectrograms of a running machine, for anomaly detection by an autoencoder.

As in MLPerf Tiny's anomaly detection, a sample is five frames of 128 log-mel bands, 640 values.
A normal machine hums in harmonics of its speed, each as loud as its resonances make it, over
broadband noise; speed and load drift within a sample and differ between samples. An anomalous
one has the same parts put together wrongly: a harmonic off its place, one missing, side tones of a
damaged bearing, or a load that does not fit the speed. All anomalies are in the test split.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edgekit.data.formats.procedural import Floats, ProceduralOptions, chunks, uniform
from edgekit.data.raw import RawData, Source

LABELS = ("normal", "anomaly")
_FRAMES, _BANDS = 5, 128
_HARMONICS = 12
_TOP_HZ = 8000.0
_FLOOR = 1e-4
_FAULTS = 4


class Options(ProceduralOptions):
    """Options of `machine`.

    Attributes:
        test_share: share of the samples that is set aside for testing; half of them are anomalies.
    """

    test_share: float = Field(0.3, gt=0, lt=1)


def load(argument: str, options: Options, root: Path) -> RawData:  # noqa: ARG001
    """Samples as float32 (samples, 640), natural logarithms of the power, about -9 to 2.

    Labels are 0 for normal and 1 for anomalies. An autoencoder needs the option `target: input`.

    Raises:
        DataError: too many for the memory.
    """
    generator = np.random.default_rng(options.seed)
    order = generator.permutation(options.samples)
    tested = round(options.samples * options.test_share)
    test = order < tested
    y = (order < tested // 2).astype(np.int32)
    parts = chunks(options.samples, _FRAMES * _BANDS, "machine")
    x = np.empty((options.samples, _FRAMES * _BANDS), np.float32)
    for part in parts:
        power = _running(y[part] == 1, options.difficulty, generator)
        x[part] = np.log(power + _FLOOR).reshape(len(power), -1)
    return RawData({"x": x}, y, LABELS, test=test)


def _running(faulty: NDArray[np.bool_], hard: float, generator: np.random.Generator) -> Floats:
    """Power (n, frames, bands)."""
    count = len(faulty)
    time = np.linspace(-0.5, 0.5, _FRAMES, dtype=np.float32)
    speed = uniform(generator, 60, 500, count, 1)
    drift = uniform(generator, -0.03, 0.03, count, 1) * time
    tones = np.arange(1, _HARMONICS + 1, dtype=np.float32)
    load = 0.35 * (speed - 60) / 440 + uniform(generator, 0, 0.65, count, 1)
    fault = np.where(faulty, generator.integers(1, _FAULTS + 1, count), 0)[:, None]
    struck = np.eye(_HARMONICS, dtype=np.float32)[generator.integers(1, 7, count)]

    place = tones * np.ones((count, 1), np.float32)
    side = np.where(generator.random((count, 1)) < 0.5, -1, 1)
    place += (fault == 1) * struck * side * uniform(generator, 0.2, 0.5, count, 1)
    heard_load = np.where(fault == 4, 1 - load, load)
    frequency = place[:, None, :] * (speed * (1 + drift))[..., None]
    loud = _resonance(tones * speed, heard_load)
    loud *= 1 - 0.97 * (fault == 2) * struck
    loud *= np.exp(0.25 * hard * generator.standard_normal(loud.shape, np.float32))
    power = _spread(frequency, loud)

    # A bearing that is worn at one place modulates one tone: two more beside it.
    ratio = uniform(generator, 0.3, 0.45, count, 1)
    beside = (fault == 3) * struck * uniform(generator, 0.3, 0.8, count, 1) * loud
    for sign in (-1, 1):
        power += _spread(frequency + sign * (ratio * speed)[..., None], beside)

    flow = np.exp(-np.arange(_BANDS, dtype=np.float32) / 60)
    flow = 0.03 * flow * (0.3 + heard_load**2)
    hiss = np.exp(0.35 * hard * generator.standard_normal(power.shape, np.float32))
    gain = np.exp(uniform(generator, -0.3 * hard, 0.3 * hard, count, 1, 1))
    total: Floats = (power + flow[:, None, :] * hiss) * gain
    return total


def _resonance(frequency: Floats, load: Floats) -> Floats:
    """How loud the body of the machine makes each tone, (n, harmonics); it grows with the load."""
    body = 0.15 + sum(
        height / (1 + ((frequency - centre) / width) ** 2)
        for centre, width, height in ((420.0, 90.0, 1.0), (900.0, 160.0, 0.7), (1900.0, 300.0, 0.5))
    )
    loud: Floats = np.asarray(body * (0.2 + load) * np.exp(-frequency / 2500), np.float32)
    return loud


def _spread(frequency: Floats, loud: Floats) -> Floats:
    """Tones as bumps over the mel bands: (n, frames, harmonics), (n, harmonics) to power."""
    mel = 1127 * np.log1p(np.maximum(frequency, 0) / 700)
    centres = np.linspace(0, 1127 * np.log1p(_TOP_HZ / 700), _BANDS, dtype=np.float32)
    width = 1.2 * (centres[1] - centres[0])
    power = np.zeros((*frequency.shape[:2], _BANDS), np.float32)
    for tone in range(frequency.shape[-1]):
        away = (centres - mel[..., tone, None]) / width
        power += loud[:, None, None, tone] * np.exp(-0.5 * away**2)
    return power


SOURCE = Source(load, Options)
