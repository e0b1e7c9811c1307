"""Checks of a calibration set: are its samples what the model will see? NumPy only.

A bad calibration set gives a bad quantized model without any error, so its faults are named.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.data.dataset import Split

FEWEST = 100  # ranges settle between 100 and 500 samples in published practice
_MOST_DUPLICATES = 0.05
_MOST_OUTSIDE = 0.01
_WIDEST = 2.0
_FARTHEST_MEAN = 0.5


def check_calibration(
    calibration: Split,
    rest: Split,
    *,
    dtypes: dict[str, str],
    labels: tuple[str, ...] = (),
) -> tuple[dict[str, Any], list[str]]:
    """Figures of a calibration set, and what is suspicious about it.

    Args:
        calibration: the samples that set the ranges of activations.
        rest: other samples of the same kind, such as the training split; may be empty.
        dtypes: of the model's inputs, by name; one input fits one array of any name.
        labels: names of the classes, if `y` holds classes.

    Returns:
        Figures by name, JSON-able, and warnings in words, each with its advice.
    """
    names = list(calibration.x)
    wanted = dict(zip(names, dtypes.values(), strict=False)) if len(names) == 1 else dtypes
    figures: dict[str, Any] = {"samples": len(calibration), "inputs": {}}
    warnings: list[str] = []
    if len(calibration) < FEWEST:
        warnings.append(
            f"{len(calibration)} calibration samples are few: take {FEWEST} or more, "
            "so that the ranges of activations are seen"
        )
    for name, values in calibration.x.items():
        if wanted.get(name, str(values.dtype)) != str(values.dtype):
            warnings.append(
                f"'{name}' holds {values.dtype}, the model takes {wanted[name]}: "
                "were the samples preprocessed as in training?"
            )
        other = rest.x.get(name) if len(rest) else None
        found, said = _check_values(name, values, other)
        figures["inputs"][name] = found
        warnings += said
    figures["duplicates"] = duplicates = count_duplicates(calibration)
    if duplicates > _MOST_DUPLICATES * len(calibration):
        warnings.append(
            f"{duplicates} of {len(calibration)} calibration samples repeat others and add nothing"
        )
    if labels:
        counts = np.bincount(calibration.y, minlength=len(labels))
        figures["classes"] = dict(zip(labels, counts.tolist(), strict=False))
        missing = [label for label, count in zip(labels, counts, strict=False) if not count]
        if missing:
            warnings.append(
                f"no calibration sample shows the class {_listed(missing)}: "
                "its activations may exceed the ranges"
            )
    return figures, warnings


def _check_values(
    name: str, values: NDArray[Any], rest: NDArray[Any] | None
) -> tuple[dict[str, Any], list[str]]:
    low, high = float(values.min()), float(values.max())
    figures: dict[str, Any] = {"min": low, "max": high, "dtype": str(values.dtype)}
    warnings = []
    if low == high:
        warnings.append(f"'{name}' is {low:g} everywhere: this is no calibration data")
    if rest is None or values.dtype.kind != "f" or low == high:
        return figures, warnings
    outside = float(np.mean((rest < low) | (rest > high)))
    spread = float(rest.max()) - float(rest.min())
    shift = abs(float(values.mean()) - float(rest.mean())) / max(float(rest.std()), 1e-12)
    figures |= {"outside": outside, "mean_shift": shift}
    where = f"'{name}' of the calibration set ranges from {low:g} to {high:g}"
    there = f"that of the training data from {float(rest.min()):g} to {float(rest.max()):g}"
    if outside > _MOST_OUTSIDE:
        warnings.append(f"{where}, {there}: {outside:.0%} of its values would saturate")
    elif spread and (high - low) / spread > _WIDEST:
        warnings.append(f"{where}, {there}: were they preprocessed alike?")
    elif shift > _FARTHEST_MEAN:
        warnings.append(
            f"the mean of '{name}' is {shift:.1f} standard deviations from that of the training "
            "data: is the calibration set a fair sample of it?"
        )
    return figures, warnings


def count_duplicates(split: Split) -> int:
    """How many samples equal an earlier one in all inputs."""
    rows = [np.ascontiguousarray(array).reshape(len(split), -1) for array in split.x.values()]
    seen = {b"".join(row[index].tobytes() for row in rows) for index in range(len(split))}
    return len(split) - len(seen)


def _listed(words: list[str]) -> str:
    shown = ", ".join(words[:5])
    return shown if len(words) <= 5 else f"{shown} and {len(words) - 5} more"
