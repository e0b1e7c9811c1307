"""The int8 grid that converters put weights and activations on (Jacob et al. 2018).

Weights: symmetric, a step an output channel, the largest magnitude at 127. Weights that lie on
their own grid are reproduced exactly by every converter that works so.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.base.extras import require
from edgekit.compress.channels import by_output, output_factors
from edgekit.models.ranges import Calibration, Histogram, choose_range

Values = NDArray[Any]

LARGEST = 127


def weight_steps(kind: str, kernel: Values) -> Values:
    """Step of each output channel, float64, in a shape that multiplies the kernel."""
    largest = np.abs(by_output(kind, kernel)).max(axis=0).astype(np.float64)
    steps = np.where(largest > 0, largest, LARGEST) / LARGEST
    return output_factors(kind, kernel, steps)


def nearest(kind: str, kernel: Values) -> Values:
    """The weights on their grid, each at the nearest point, float32."""
    steps = weight_steps(kind, kernel)
    return (np.round(kernel / steps) * steps).astype(np.float32)


def on_grid(kind: str, kernel: Values) -> bool:
    """Whether all weights lie on their grid, within float32's precision."""
    steps = weight_steps(kind, kernel)
    return bool(np.abs(kernel / steps - np.round(kernel / steps)).max(initial=0) < 1e-3)


def quantized_activations(
    tensors: list[Any],
    like: list[Any],
    calibration: Calibration = "minmax",
    percentile: float = 99.99,
) -> list[Any]:
    """Tensors on the affine grid of one step that calibration gives them.

    Args:
        tensors: batches of values to quantize.
        like: batches of the values that calibration sees.
        calibration: how the range is chosen; see `edgekit.models.ranges`.
        percentile: in percent, for that.
    """
    ops = require("keras", purpose="to quantize").ops
    histogram = Histogram.between(
        min(float(ops.min(tensor)) for tensor in like),
        max(float(ops.max(tensor)) for tensor in like),
    )
    for tensor in like:
        histogram.add(np.asarray(tensor))
    low, high = choose_range(histogram, calibration, percentile)
    step = (high - low) / 255 or 1.0
    zero = round(-128 - low / step)
    result = []
    for tensor in tensors:
        codes = ops.clip(ops.round(tensor / step) + zero, -128, 127)
        made = (codes - zero) * step
        with suppress(AttributeError):  # Keras carries masks on tensors
            made._keras_mask = tensor._keras_mask
        result.append(made)
    return result
