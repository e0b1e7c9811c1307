"""How well outputs fit labels, in the usual terms."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.base.errors import DataError


def top1(outputs: NDArray[Any]) -> NDArray[np.intp]:
    """The class that each sample is given: the largest output, or for one output whether > 0.5.

    Args:
        outputs: shape (n, classes), or (n, 1) and (n,) for a probability of the second class.
    """
    if outputs.ndim == 1 or outputs.shape[-1] == 1:
        return (outputs.reshape(len(outputs)) > 0.5).astype(np.intp)
    return np.asarray(np.argmax(outputs, axis=-1), np.intp)


def is_classification(outputs: NDArray[Any], y: NDArray[Any]) -> bool:
    """Whether `y` holds a class index for each sample of `outputs`."""
    flat = y.reshape(-1)
    return bool(
        np.issubdtype(y.dtype, np.integer)
        and len(flat) == len(outputs)
        and outputs.ndim <= 2
        and (len(flat) == 0 or flat.min() >= 0)
    )


def classification_metrics(outputs: NDArray[Any], y: NDArray[Any]) -> dict[str, float]:
    """Accuracy against class indices, or the mean squared error against real targets.

    Args:
        outputs: shape (n, classes), (n, 1) or (n,) for two classes; any shape for real targets.
        y: integer class indices of shape (n,) or (n, 1), or reals of the shape of `outputs`.

    Returns:
        {"accuracy": 0 to 1} or {"mse": ...}.

    Raises:
        DataError: the targets do not fit the outputs.
    """
    if is_classification(outputs, y):
        return {"accuracy": float(np.mean(top1(outputs) == y.reshape(-1)))}
    if y.size != outputs.size:
        raise DataError(f"labels of shape {y.shape} do not fit outputs of shape {outputs.shape}")
    difference = outputs.astype(np.float64) - y.reshape(outputs.shape).astype(np.float64)
    return {"mse": float(np.mean(difference**2))}
