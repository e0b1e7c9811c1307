"""Biases of a quantized model rounded to the integers that its int8 file stores.

A bias is an int32 in steps of the input's times the kernel's (Jacob et al. 2018, section 2.4).
Such a step is a small share of a step of the result, yet results near the middle of two steps go
to the other one for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgekit.models.calls import Call, call_graph

if TYPE_CHECKING:
    import keras

_LARGEST = 2**31 - 1 - 2**8
_NEARBY = 16  # steps, of some hundreds to one of the result
_STEPS = 255


def round_biases(model: keras.Model) -> None:
    """Rounds the biases of a `quantized_model`, in place.

    A file has a bias for each call of a layer, with the step of its input: where these differ, the
    bias becomes a value nearby that is nearly a whole number of all of them.
    """
    from edgekit.models.fakequant import Quantized, kernel_steps

    graph = call_graph(model)
    producers = graph.producers()
    for calls in graph.calls_of().values():
        layer = calls[0].layer
        bias = getattr(layer, "bias", None)
        if not isinstance(layer, Quantized) or bias is None or len(layer.rules) != 1:
            continue
        steps = {_step(call.inputs[0], producers) for call in calls}
        known = [step for step in steps if step is not None]
        if len(known) < len(steps):
            continue
        unit = kernel_steps(layer, next(iter(layer.rules))).reshape(-1)
        bias.assign(_rounded(np.asarray(bias, np.float64), np.outer(sorted(known), unit)))


def _rounded(bias: NDArray[np.float64], units: NDArray[np.float64]) -> NDArray[np.float32]:
    """The biases as nearly whole numbers of their units, of which each call has a row.

    Those with a unit of 0 stay: channels of zeros, whose biases files have to many digits.
    """
    known = units.min(axis=0) > 0
    units = np.where(known, units, 1.0)
    nearby = np.array(sorted(range(-_NEARBY, _NEARBY + 1), key=abs))
    whole = np.clip(np.round(bias / units[0]), -_LARGEST, _LARGEST)
    values = (whole + nearby[:, None]) * units[0]
    counts = values[:, None] / units
    error = np.abs(counts - np.round(counts)).max(axis=1)
    best = np.argmin(np.round(error, 6), axis=0)  # the nearest of those that are equally good
    chosen = np.where(known, values[best, np.arange(len(bias))], bias)
    return chosen.astype(np.float32)


def _step(value: int, producers: Mapping[int, Call]) -> float | None:
    """The step that a value has from the range before it, or None if there is no one range."""
    from edgekit.models.fakequant import FakeQuant, range_of

    while (call := producers.get(value)) is not None:
        if isinstance(call.layer, FakeQuant):
            low, high = range_of(call.layer)
            return (high - low) / _STEPS
        if getattr(call.layer, "weights", None) or not call.inputs:
            return None
        value = call.inputs[0]
    return None
