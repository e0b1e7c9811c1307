"""How int8 kernels round what they compute to the steps of their result, on tensors of floats.

Followed are XNNPACK's qs8 kernels, and where it takes no part, TensorFlow Lite's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from edgekit.models.fakequant import FakeQuant, kernel_steps, range_of

LEVELS = 255
MIDDLE = 128  # the zero point, from 0, that int8 stores as 0
_ADDEND_BITS = 20  # qs8-vadd: the larger multiplier lies in [2^20, 2^21)
_ROOT_BITS = 20
_TINY = np.float32(2.0**-40)


@dataclass(frozen=True)
class Codes:
    """Values that are `step` times an integer from `-zero` to `255 - zero`."""

    step: np.float32
    zero: int


def codes_of(layer: FakeQuant) -> Codes:
    """The steps of a range of 8 bits, as converters find them."""
    low, high = map(np.float32, range_of(layer))
    step = (high - low) / np.float32(LEVELS)
    return Codes(step, int(np.clip(np.round(-low / step), 0, LEVELS)))


def channel_steps(layer: Any, name: str) -> NDArray[np.float32]:
    """Steps of a quantized layer's kernel, one an output channel.

    A channel of zeros has but its bias, for which converters choose a tiny step.
    """
    steps = kernel_steps(layer, name).astype(np.float32).reshape(-1)
    made: NDArray[np.float32] = np.where(steps > 0, steps, _TINY)
    return made


def on_steps(steps: Any, codes: Codes) -> Any:
    """The values of integers, saturated."""
    return ops.clip(steps, -codes.zero, LEVELS - codes.zero) * codes.step


def given(values: Any, codes: Codes) -> Any:
    """Integers of real values, as `edgekit.schema.quantization` rounds what a file is given."""
    return ops.cast(ops.round(ops.cast(values, "float64") / np.float64(codes.step)), "float32")


def summed(values: Any, steps: NDArray[np.float32], codes: Codes) -> Any:
    """Integers of sums, by a float32 scale, halves to even (qs8-requantization-fp32).

    Args:
        values: `steps`, one or one a channel, times integers of 32 bits.
        steps: of these.
        codes: of the result.
    """
    return ops.round(ops.round(values / steps) * (steps / codes.step))


def multiplied(values: Any, steps: NDArray[np.float32], codes: Codes) -> Any:
    """The same as TensorFlow Lite's matrix products round: twice."""
    return rounded_twice(ops.round(values / steps), float(steps) / float(codes.step))


def added(terms: Sequence[tuple[Any, Codes, int]], codes: Codes) -> Any:
    """Integers of a sum of two, by multipliers of 21 bits (qs8-vadd).

    Args:
        terms: values, their steps, and 1 or -1.
        codes: of the result.
    """
    scales = [one.step / codes.step for _, one, _ in terms]
    shift = _ADDEND_BITS - int(np.frexp(max(scales))[1] - 1)
    total: Any = 1 << (shift - 1)
    for (values, one, sign), scale in zip(terms, scales, strict=True):
        factor = sign * int(np.rint(np.ldexp(np.float64(scale), shift)))
        total = total + factor * ops.cast(ops.round(values / one.step), "int64")
    return ops.cast(ops.right_shift(total, shift), "float32")


def inverse_roots(values: Any, before: Codes, codes: Codes) -> Any:
    """Integers of one over the root of values: TensorFlow Lite's RSQRT, by 20 bits of the root."""
    numbers = ops.round(values / before.step)
    roots = ops.round(2**_ROOT_BITS / ops.sqrt(ops.maximum(numbers, 1)))
    scale = 1 / (np.sqrt(np.float64(before.step)) * np.float64(codes.step))
    return ops.where(numbers > 0, rounded_twice(roots, float(scale) / 2**_ROOT_BITS), LEVELS)


def rounded_twice(sums: Any, scale: float) -> Any:
    """SaturatingRoundingDoublingHighMul, then RoundingDivideByPOT (Jacob et al. 2018, appendix B).

    Both round halves away from zero, but for negative ones in the first.

    Args:
        sums: integers in float32.
        scale: to the steps, from these integers.
    """
    mantissa, exponent = np.frexp(scale)
    shift = -int(exponent)
    negative = sums < 0
    numbers = ops.left_shift(ops.cast(ops.abs(sums), "int64"), max(-shift, 0))
    product = numbers * int(np.round(mantissa * 2**31))
    high = ops.right_shift(product + 2**30 - ops.cast(negative, "int64"), 31)
    if shift > 0:
        high = ops.right_shift(high + (1 << (shift - 1)), shift)
    steps = ops.cast(high, "float32")
    return ops.where(negative, -steps, steps)
