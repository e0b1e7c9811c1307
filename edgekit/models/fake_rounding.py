"""Values rounded to the steps of a range, with gradients to train through."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops


def fake_quant(x: Any, low: Any, high: Any, bits: int, axis: int | None = None) -> Any:
    """`x` rounded to the steps of a range, or of one a channel of `axis` (weights).

    Weights keep to -127 ... 127, as TFLite wants them.
    """
    return keras.quantizers.fake_quant_with_min_max_vars(
        x, low, high, num_bits=bits, narrow_range=axis is not None, axis=axis
    )


def learnt_fake_quant(x: Any, low: Any, high: Any, bits: int, axis: int | None = None) -> Any:
    """The same with the gradient of the step size after Esser et al. 2020, equation 3."""
    size = np.prod([d for d in x.shape[None if axis is not None else 1 :] if d] or [1])
    channels = x.shape[axis] if axis is not None else 1
    factor = 1.0 / float(np.sqrt(size / channels * (2 ** (bits - 1) - 1)))

    @ops.custom_gradient  # type: ignore[untyped-decorator]
    def quantized(x: Any, low: Any, high: Any) -> Any:
        y = fake_quant(x, low, high, bits, axis)

        def grad(*args: Any, upstream: Any = None) -> tuple[Any, Any, Any]:
            up = args[0] if upstream is None else upstream
            below, above = x < low, x > high
            inside = ops.logical_not(ops.logical_or(below, above))
            slope = ops.where(inside, (y - x) / (high - low), 0.0)
            axes = None if axis is None else tuple(a for a in range(x.ndim) if a != axis % x.ndim)
            to_low = ops.sum(up * (ops.cast(below, x.dtype) - slope), axis=axes)
            to_high = ops.sum(up * (ops.cast(above, x.dtype) + slope), axis=axes)
            return ops.where(inside, up, 0.0), factor * to_low, factor * to_high

        return y, grad

    return quantized(x, low, high)
