"""What scaling the channels between two layers does to their int8 noise, to first order.

Activations have one step for all channels, so that scaling small channels up quietens them;
weights have a step an output channel, which follows its largest scaled weight. The scaling of the
first layer's output channels costs nothing, as each has its own step there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.compress.activations import Activations
from edgekit.compress.channels import by_output, input_factors
from edgekit.models.calls import CallGraph

Values = NDArray[Any]

_STRENGTHS = (1.0, 0.75, 0.5, 0.25, 0.0)
_TINY = 1e-30


@dataclass(frozen=True)
class ChannelStatistics:
    """Largest magnitude and mean square of each channel of a value."""

    largest: Values
    power: Values


def channel_statistics(
    graph: CallGraph, batches: list[list[Any]], channels: dict[int, int]
) -> dict[int, ChannelStatistics]:
    """Statistics of values on samples.

    Args:
        graph: of the model.
        batches: of its inputs.
        channels: of each value of interest; flattened ones have each channel several times.
    """
    activations = Activations(graph, batches)
    found: dict[int, ChannelStatistics] = {}
    for call in graph.calls:
        for value in channels.keys() & set(call.inputs):
            rows = np.concatenate(
                [np.asarray(t, np.float64).reshape(-1, channels[value]) for t in activations[value]]
            )
            found[value] = ChannelStatistics(np.abs(rows).max(axis=0), np.square(rows).mean(axis=0))
        activations.step(call)
    return found


def noise(kind: str, kernel: Values, factors: Values, statistics: ChannelStatistics) -> float:
    """Noise over signal of the second layer's outputs, summed over them.

    Args:
        kind: of the second layer.
        kernel: its weights before scaling.
        factors: by which each channel that it takes is divided, and its weights multiplied.
        statistics: of the channels before scaling.
    """
    each = np.broadcast_to(input_factors(kind, kernel, np.arange(len(factors))), kernel.shape)
    index = by_output(kind, each)
    weights = by_output(kind, kernel).astype(np.float64)
    scaled, power = weights * factors[index], statistics.power[index]
    # Rounding adds a twelfth of the step squared; what is smaller than that is lost as a whole.
    step = (statistics.largest / factors).max() / 255
    of_activations = np.minimum(step**2 / 12, power / factors[index] ** 2)
    steps = np.abs(scaled).max(axis=0) / 127
    of_weights = np.minimum(steps**2 / 12, scaled**2)
    signal = np.sum(weights**2 * power, axis=0) + _TINY
    total = np.sum(of_activations * scaled**2, axis=0)
    total = total + np.sum(of_weights * power / factors[index] ** 2, axis=0)
    return float(np.sum(total / signal))


def best_strength(
    kind: str, kernel: Values, factors: Values, statistics: ChannelStatistics
) -> float:
    """The power of the factors, 0 to 1, that gives the least noise."""
    return min(_STRENGTHS, key=lambda power: noise(kind, kernel, factors**power, statistics))
