"""`keywords`: spectrograms of spoken nonsense words, for keyword spotting.

A source and filter synthesis (Fant 1960): a sawtooth of gliding pitch, or noise, filtered by
formants that move from sound to sound (those of vowels after Peterson and Barney 1952). The words
are anagrams of one another, so the order of their sounds tells the class and their mean spectrum
does not. Voice, tempo, onset, loudness and background noise are random.
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

# Formants in Hz, the share that is voiced, and the amplitude.
_SOUNDS = {
    "a": ((730.0, 1090.0, 2440.0), 1.0, 1.0),
    "i": ((270.0, 2290.0, 3010.0), 1.0, 0.9),
    "u": ((300.0, 870.0, 2240.0), 1.0, 0.9),
    "n": ((250.0, 1100.0, 2500.0), 1.0, 0.4),
    "s": ((3300.0, 3500.0, 3700.0), 0.0, 0.5),
    "S": ((1900.0, 2300.0, 2900.0), 0.0, 0.6),
    "k": ((900.0, 1600.0, 2600.0), 0.0, 0.1),
}
WORDS = (
    "sani", "nasi", "kaSu", "Saku", "sina", "nisa",
    "kuSa", "Suka", "anis", "isan", "akuS", "uSak",
)  # fmt: skip
_RATE = 8000  # Hz; one second a sample
_WINDOW, _HOP = 320, 160
_FRAMES = (_RATE - _WINDOW) // _HOP + 1
_BANDS = 10
_BANDWIDTH = 140.0
_FLOOR = 1e-5
_BURSTS = 3


class Options(ProceduralOptions):
    """Options of `keywords`.

    Attributes:
        classes: how many words, from the front of the list.
    """

    classes: int = Field(len(WORDS), ge=2, le=len(WORDS))


def load(argument: str, options: Options, root: Path) -> RawData:  # noqa: ARG001
    """Spectrograms as float32 (samples, 49, 10, 1), about -8 to 3.

    They are natural logarithms of the power in ten mel bands, in windows of 40 ms every 20 ms.

    Raises:
        DataError: too many for the memory.
    """
    generator = np.random.default_rng(options.seed)
    y = balanced_classes(options.samples, options.classes, generator)
    parts = chunks(options.samples, _FRAMES * _BANDS, "keywords")
    x = np.empty((options.samples, _FRAMES, _BANDS, 1), np.float32)
    for part in parts:
        power = _spoken(y[part], options.difficulty, generator)
        x[part, ..., 0] = np.log(power @ _MEL + _FLOOR)
    names = tuple(word.replace("S", "sh") for word in WORDS[: options.classes])
    return RawData({"x": x}, y, names)


def _spoken(y: NDArray[np.int32], hard: float, generator: np.random.Generator) -> Floats:
    """Power spectra of words in noise, (n, frames, bins)."""
    count = len(y)
    presence = _presence(count, hard, generator)
    sounds = _WORD_SOUNDS[y]
    share = presence / np.maximum(presence.sum(-1, keepdims=True), 1e-3)
    voice = uniform(generator, 1 - 0.2 * hard, 1 + 0.2 * hard, count, 1, 1)
    formants = np.einsum("nfs,nsk->nfk", share, _FORMANTS[sounds]) * voice
    voiced = np.einsum("nfs,ns->nf", share, _VOICED[sounds])[..., None]
    level = np.einsum("nfs,ns->nf", presence, _LEVELS[sounds])[..., None]
    bins = np.fft.rfftfreq(_WINDOW, 1 / _RATE).astype(np.float32)
    tract = np.zeros((count, _FRAMES, len(bins)), np.float32)
    for index, loudness in enumerate((1.0, 0.6, 0.35)):
        away = (bins - formants[..., index, None]) / _BANDWIDTH
        tract += loudness / (1 + away**2)
    shape = (count, _FRAMES, len(bins))
    breath = generator.standard_exponential(shape, np.float32)
    excitation = voiced * _voice_power(count, hard, generator) + (1 - voiced) * breath
    gain = np.exp(uniform(generator, -1.2 * hard, 1.2 * hard, count, 1, 1))
    speech = excitation * (tract * level) ** 2 * gain
    tilt = uniform(generator, 0, 3, count, 1, 1) / _RATE
    colour = np.exp(-tilt * bins)
    noise = 0.03 * hard * np.exp(uniform(generator, -2, 2.5, count, 1, 1)) * colour
    noise = noise + _bursts(count, bins, generator) * hard
    heard: Floats = speech + noise * generator.standard_exponential(shape, np.float32)
    return heard


def _bursts(count: int, bins: Floats, generator: np.random.Generator) -> Floats:
    """Power of short noises of random time, pitch and length, (n, frames, bins)."""
    shape = (_BURSTS, count, 1, 1)
    frame = np.arange(_FRAMES, dtype=np.float32)[:, None]
    early = (frame - uniform(generator, 0, _FRAMES, *shape)) / uniform(generator, 1, 3, *shape)
    pitch = uniform(generator, 200, 3800, *shape)
    high = (bins - pitch) / uniform(generator, 150, 600, *shape)
    loud = np.exp(uniform(generator, -5, 0.5, *shape))
    power: Floats = (loud * np.exp(-0.5 * early**2) * np.exp(-0.5 * high**2)).sum(axis=0)
    return power


def _presence(count: int, hard: float, generator: np.random.Generator) -> Floats:
    """How much of each sound is heard in each frame, (n, frames, sounds of a word), 0 to 1."""
    sounds = _WORD_SOUNDS.shape[1]
    lengths = uniform(generator, 1 - 0.4 * hard / 2, 1 + 0.4 * hard / 2, count, sounds)
    lengths *= uniform(generator, 0.22, 0.6, count, 1) / lengths.sum(1, keepdims=True)
    spare = 0.96 - lengths.sum(1)
    early = uniform(generator, 0.5 - 0.5 * min(hard, 1.0), 0.5 + 0.5 * min(hard, 1.0), count)
    ends = 0.02 + (spare * early)[:, None] + np.cumsum(lengths, axis=1)
    starts = ends - lengths
    time = ((np.arange(_FRAMES) * _HOP + _WINDOW / 2) / _RATE).astype(np.float32)[None, :, None]
    slope = uniform(generator, 90, 160, count, 1, 1)
    rise = np.tanh(slope / 2 * (time - starts[:, None]))
    fall = np.tanh(slope / 2 * (time - ends[:, None]))
    presence: Floats = (rise - fall) / 2
    return presence


def _voice_power(count: int, hard: float, generator: np.random.Generator) -> Floats:
    """Power spectra of a sawtooth whose pitch glides, (n, frames, bins), of mean 1."""
    time = np.arange(_RATE, dtype=np.float32) / _RATE
    pitch = uniform(generator, 170 - 80 * min(hard, 1.0), 170 + 80 * min(hard, 1.0), count, 1)
    glide = uniform(generator, -0.25 * hard, 0.25 * hard, count, 1)
    phase = pitch * (time + glide * time * (time - 1)) + uniform(generator, 0, 1, count, 1)
    wave = phase % 1 - 0.5
    frames = np.lib.stride_tricks.sliding_window_view(wave, _WINDOW, axis=1)[:, ::_HOP]
    spectrum = np.fft.rfft(frames * np.hanning(_WINDOW).astype(np.float32), axis=-1)
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    # The tract of a speaker falls off towards high tones; a sawtooth alone falls twice as fast.
    power *= np.arange(power.shape[-1], dtype=np.float32)
    level: Floats = power / power.mean(axis=(1, 2), keepdims=True)
    return level


def _mel_filters() -> Floats:
    """Triangles of equal width on the mel scale over the bins, (bins, bands), each of sum 1."""
    bins = np.fft.rfftfreq(_WINDOW, 1 / _RATE)
    mel = 1127 * np.log1p(bins / 700)
    centres = np.linspace(mel[2], mel[-1], _BANDS + 2)
    width = centres[1] - centres[0]
    filters = np.maximum(0, 1 - np.abs(mel[:, None] - centres[1:-1]) / width)
    return np.asarray(filters / filters.sum(axis=0), np.float32)


_MEL = _mel_filters()
_ORDER = tuple(_SOUNDS)
_FORMANTS = np.array([_SOUNDS[sound][0] for sound in _ORDER], np.float32)
_VOICED = np.array([_SOUNDS[sound][1] for sound in _ORDER], np.float32)
_LEVELS = np.array([_SOUNDS[sound][2] for sound in _ORDER], np.float32)
_WORD_SOUNDS = np.array([[_ORDER.index(sound) for sound in word] for word in WORDS], np.int32)

SOURCE = Source(load, Options)
