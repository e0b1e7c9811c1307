"""Early stopping, as a function of the history."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.base.errors import RecipeError, did_you_mean
from edgekit.schema.recipe import EarlyStoppingSpec

_LARGER_IS_BETTER = ("acc", "auc", "precision", "recall", "f1", "iou")


def best_epoch(history: dict[str, list[float]], spec: EarlyStoppingSpec) -> int:
    """The epoch (from 0) with the best value so far; a later one must be better by `min_delta`.

    Raises:
        RecipeError: the history has no such quantity.
    """
    if spec.monitor not in history:
        raise RecipeError(
            f"there is no '{spec.monitor}' to watch",
            where="train.early_stopping.monitor",
            hint=did_you_mean(spec.monitor, history),
        )
    values = _to_minimise(history[spec.monitor], spec.monitor)
    best = 0
    for epoch, value in enumerate(values):
        if value < values[best] - spec.min_delta:
            best = epoch
    return best


def should_stop(history: dict[str, list[float]], spec: EarlyStoppingSpec) -> bool:
    """Whether the last `patience` epochs brought nothing better."""
    last = len(next(iter(history.values()))) - 1
    return last - best_epoch(history, spec) >= spec.patience


def _to_minimise(values: Sequence[float], monitor: str) -> list[float]:
    larger = any(word in monitor.lower() for word in _LARGER_IS_BETTER)
    return [-value for value in values] if larger else list(values)
