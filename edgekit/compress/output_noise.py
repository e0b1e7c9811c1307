"""How far the outputs of a quantized network are from those of the float one, batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgekit.verify.metrics import classification_metrics, is_classification

Values = NDArray[np.float64]

_TINY = 1e-30


@dataclass(frozen=True)
class Noise:
    """What quantization does to the outputs.

    Attributes:
        noise: power of the error over that of the signal, the mean over the outputs.
        kl: mean divergence of the class probabilities, in nats; None if there are no classes.
        metric: `accuracy` (0 to 1) or `mse`, of the first output; None without labels.
    """

    noise: float
    kl: float | None
    metric: dict[str, float] | None

    @property
    def sqnr_db(self) -> float:
        """Decibels of signal over noise."""
        return float(-10 * np.log10(max(self.noise, _TINY)))


def points_lost(found: Noise, reference: Noise) -> float:
    """The points of accuracy that are lost, or the per cent by which the mse is larger.

    Raises:
        ValueError: there were no labels.
    """
    if found.metric is None or reference.metric is None:
        raise ValueError("there were no labels")
    if "accuracy" in reference.metric:
        return 100 * (reference.metric["accuracy"] - found.metric["accuracy"])
    before = max(reference.metric["mse"], _TINY)
    return 100 * (found.metric["mse"] - before) / before


@dataclass
class Comparison:
    """Collects `Noise` over batches."""

    _signal: list[float] = field(default_factory=list)
    _noise: list[float] = field(default_factory=list)
    _kl: float = 0.0
    _classes: bool = False
    _metric: dict[str, float] = field(default_factory=dict)
    _count: int = 0

    def add(
        self,
        found: Sequence[NDArray[np.float32]],
        reference: Sequence[NDArray[np.float32]],
        y: NDArray[np.generic] | None,
    ) -> None:
        """Takes one batch in.

        Args:
            found: outputs of the quantized network, (n, ...) each.
            reference: those of the float network.
            y: labels of the first output, or None.
        """
        if not self._count:
            self._signal = [0.0] * len(reference)
            self._noise = [0.0] * len(reference)
        for index, (one, wanted) in enumerate(zip(found, reference, strict=True)):
            exact = np.asarray(wanted, np.float64)
            self._signal[index] += float(np.sum(exact**2))
            self._noise[index] += float(np.sum((exact - one) ** 2))
        count = len(reference[0])
        self._count += count
        if y is not None:
            for name, value in classification_metrics(found[0], y).items():
                self._metric[name] = self._metric.get(name, 0.0) + value * count
            self._classes |= is_classification(reference[0], y)
        if reference[0].ndim == 2:
            self._kl += float(np.sum(divergence(reference[0], found[0])))

    def noise(self) -> Noise:
        """Of all batches together."""
        ratios = [n / max(s, _TINY) for s, n in zip(self._signal, self._noise, strict=True)]
        metric = {name: value / self._count for name, value in self._metric.items()}
        return Noise(
            float(np.mean(ratios)),
            self._kl / self._count if self._classes else None,
            metric or None,
        )


def divergence(reference: NDArray[np.float32], found: NDArray[np.float32]) -> Values:
    """Kullback-Leibler divergence of each row of outputs from the reference's, in nats.

    Args:
        reference: probabilities or logits of shape (n, classes); (n, 1) of the second class.
        found: the same of the other network.
    """
    given = _are_probabilities(reference)
    wanted, other = _probabilities(reference, given), _probabilities(found, given)
    rows: Values = np.sum(wanted * (np.log(wanted) - np.log(other)), axis=-1)
    return np.maximum(rows, 0.0)


def _are_probabilities(outputs: NDArray[np.float32]) -> bool:
    inside = bool(np.all(outputs >= 0) and np.all(outputs <= 1.001))
    return inside and (
        outputs.shape[-1] == 1 or bool(np.allclose(outputs.sum(axis=-1), 1.0, atol=1e-2))
    )


def _probabilities(outputs: NDArray[np.float32], given: bool) -> Values:
    values = np.asarray(outputs, np.float64)
    if values.shape[-1] == 1:
        second = values if given else 1 / (1 + np.exp(-np.clip(values, -500, 500)))
        values, given = np.concatenate([1 - second, second], axis=-1), True
    if not given:
        values = np.exp(values - values.max(axis=-1, keepdims=True))
    # What int8 rounds to zero is no impossible class: half of its step is the fair guess.
    values = np.maximum(values, 1 / 512)
    result: Values = values / values.sum(axis=-1, keepdims=True)
    return result
