"""A quantized Keras model on the integers that it simulates, with the rounding of int8 kernels.

Fake quantization in float32 is near what an int8 file computes, not equal to it: sums of floats are
inexact, and where a value lies between two steps, kernels round by multipliers of finite precision.
A step more in a logit is many steps after a softmax. So the reference of a parity check takes the
sums back to integers and rounds them as the kernels of XNNPACK do: convolutions, dense layers,
products and means multiply by a float32 scale and round halves to even (qs8-requantization-fp32);
sums multiply by integers of 21 bits (qs8-vadd). TensorFlow Lite's own products of matrices and
roots round twice (Jacob et al. 2018). All else is fake quantization as it stands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.base.extras import require
from edgekit.models.calls import Call, call_graph
from edgekit.models.fakequant import FakeQuant, Quantized, kernel_steps, range_of

if TYPE_CHECKING:
    import keras

_LEVELS = 255
_ADDEND_BITS = 20  # qs8-vadd: the larger multiplier lies in [2^20, 2^21)
_ROOT_BITS = 20
_SIGNS = {"Add": 1, "Subtract": -1}
_MIDDLE = 128  # what int8 stores as 0
_PRODUCTS = ("Multiply", "Matmul")
_MEANS = ("GlobalAveragePooling1D", "GlobalAveragePooling2D", "Mean")
_MOVES = frozenset({
    "Identity", "Dropout", "Reshape", "Flatten", "Permute", "Transpose", "ExpandDims", "Squeeze",
    "ZeroPadding1D", "ZeroPadding2D", "Cropping1D", "Cropping2D", "MaxPooling1D", "MaxPooling2D",
    "GlobalMaxPooling1D", "GlobalMaxPooling2D",
})  # fmt: skip
"""Operations that change no value."""


@dataclass(frozen=True)
class _Codes:
    """Values that are `step` times an integer from `-zero` to `255 - zero`."""

    step: np.float32
    zero: int


@dataclass(frozen=True)
class _Sums:
    """Values that are `steps`, one or one a channel, times an integer of 32 bits.

    Attributes:
        steps: float32.
        twice: they are rounded to steps as gemmlowp does it: to 31 bits, and again.
    """

    steps: NDArray[np.float32]
    twice: bool = False


@dataclass(frozen=True)
class _Addends:
    """Values that are those of `terms`, added with the signs."""

    terms: tuple[tuple[int, _Codes, int], ...]


@dataclass(frozen=True)
class _Roots:
    """Values that are one over the root of another, which is on `codes`."""

    value: int
    codes: _Codes


@dataclass(frozen=True)
class _Reals:
    """Values that the model is given."""


_Known = _Codes | _Sums | _Addends | _Roots | _Reals


def on_integers(model: keras.Model) -> Callable[..., list[Any]]:
    """The outputs of a quantized model as its int8 file computes them.

    Args:
        model: a functional model with `FakeQuant` layers.

    Returns:
        A function of tensors of the inputs, in their order, to those of the outputs, in theirs.
    """
    graph = call_graph(model)
    known: dict[int, _Known] = dict.fromkeys(graph.inputs, _Reals())
    for call in graph.calls:
        made = _codes(call.layer) if _rounds(call) else _made(call, known)
        if made is not None:
            known |= dict.fromkeys(call.outputs, made)

    def run(*inputs: Any) -> list[Any]:
        values: dict[int, Any] = dict(zip(graph.inputs, inputs, strict=True))
        for call in graph.calls:
            rounded = _rounded(call, values, known) if _rounds(call) else None
            values |= call.run(values) if rounded is None else {call.outputs[0]: rounded}
        return [values[value] for value in graph.outputs]

    return run


def _rounds(call: Call) -> bool:
    return isinstance(call.layer, FakeQuant) and call.layer.bits == 8


def _codes(layer: FakeQuant) -> _Codes:
    low, high = map(np.float32, range_of(layer))
    step = (high - low) / np.float32(_LEVELS)
    return _Codes(step, int(np.clip(np.round(-low / step), 0, _LEVELS)))


def _made(call: Call, known: Mapping[int, _Known]) -> _Known | None:
    """What is known of the result of a call that is no rounding."""
    given = [known.get(value) for value in call.inputs]
    codes = [one for one in given if isinstance(one, _Codes)]
    if not given or given[0] is None:
        return None
    if isinstance(call.layer, Quantized):
        return _weighted(call.layer, codes[0]) if codes else None
    if len(given) == 1 and _limits(call.layer):
        return None if codes else given[0]
    if call.kind in _MOVES:
        # Sums have their channels last, where a move may bring something else.
        return None if isinstance(given[0], _Sums) and given[0].steps.size > 1 else given[0]
    if len(codes) != len(given):
        return None
    if call.kind in _MEANS:
        shapes = (call.shapes[0], call.output_shapes[0])
        before, after = (math.prod(size or 1 for size in shape[1:]) for shape in shapes)
        return _Sums(np.asarray(codes[0].step / np.float32(before / after)))
    if call.kind == "Rsqrt":
        return _Roots(call.inputs[0], codes[0])
    if call.kind in _SIGNS and len(codes) == 2:
        signs = (1, _SIGNS[call.kind])
        return _Addends(tuple(zip(call.inputs, codes, signs, strict=True)))
    if call.kind in _PRODUCTS and len(codes) == 2:
        # XNNPACK takes a product of matrices if the second has no offset, else TensorFlow Lite.
        twice = call.kind == "Matmul" and codes[1].zero != _MIDDLE
        return _Sums(np.asarray(codes[0].step * codes[1].step), twice)
    return None


def _weighted(layer: Any, codes: _Codes) -> _Sums | None:
    """The sums of a layer with one rounded kernel, of values on `codes`."""
    linear = getattr(layer.activation, "__name__", "") == "linear"
    if layer.baked or len(layer.rules) != 1 or not (linear or _limits(layer)):
        return None
    (name,) = layer.rules
    steps = kernel_steps(layer, name).astype(np.float32).reshape(-1)
    return _Sums(codes.step * np.where(steps > 0, steps, np.float32(1)))


def _limits(layer: Any) -> bool:
    """Whether a layer, or its activation, only limits values, as a ReLU."""
    if type(layer).__name__ == "ReLU":
        return not layer.negative_slope and not layer.threshold
    return getattr(getattr(layer, "activation", None), "__name__", "") in ("relu", "relu6")


def _rounded(call: Call, values: Mapping[int, Any], known: Mapping[int, _Known]) -> Any:
    """What a rounding makes of its input, or None where no kernel is known."""
    found, codes = known.get(call.inputs[0]), known[call.outputs[0]]
    assert isinstance(codes, _Codes)
    ops = require("keras", purpose="to run Keras models").ops
    if isinstance(found, _Reals):  # as `edgekit.schema.quantization` rounds what a file is given
        steps = ops.round(ops.cast(values[call.inputs[0]], "float64") / np.float64(codes.step))
        steps = ops.cast(steps, "float32")
    elif isinstance(found, _Sums):
        sums = ops.round(values[call.inputs[0]] / found.steps)
        if found.twice:
            steps = _rounded_twice(sums, float(found.steps) / float(codes.step))
        else:
            steps = ops.round(sums * (found.steps / codes.step))
    elif isinstance(found, _Roots):
        steps = _inverse_roots(values[found.value], found, codes)
    elif isinstance(found, _Addends):
        steps = _added(values, found, codes)
    else:
        return None
    return ops.clip(steps, -codes.zero, _LEVELS - codes.zero) * codes.step


def _added(values: Mapping[int, Any], found: _Addends, codes: _Codes) -> Any:
    ops = require("keras", purpose="to run Keras models").ops
    scales = [one.step / codes.step for _, one, _ in found.terms]
    shift = _ADDEND_BITS - int(np.frexp(max(scales))[1] - 1)
    total: Any = 1 << (shift - 1)
    for (value, one, sign), scale in zip(found.terms, scales, strict=True):
        factor = sign * int(np.rint(np.ldexp(np.float64(scale), shift)))
        total = total + factor * ops.cast(ops.round(values[value] / one.step), "int64")
    return ops.cast(ops.right_shift(total, shift), "float32")


def _rounded_twice(sums: Any, scale: float) -> Any:
    """SaturatingRoundingDoublingHighMul, then RoundingDivideByPOT (Jacob et al. 2018, appendix B).

    Both round halves away from zero, but for negative ones in the first.

    Args:
        sums: integers in float32.
        scale: to the steps, from these integers.
    """
    ops = require("keras", purpose="to run Keras models").ops
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


def _inverse_roots(values: Any, found: _Roots, codes: _Codes) -> Any:
    """TensorFlow Lite's RSQRT: 20 bits of the root, and a multiplier."""
    ops = require("keras", purpose="to run Keras models").ops
    numbers = ops.round(values / found.codes.step)
    roots = ops.round(2**_ROOT_BITS / ops.sqrt(ops.maximum(numbers, 1)))
    scale = 1 / (np.sqrt(np.float64(found.codes.step)) * np.float64(codes.step))
    steps = _rounded_twice(roots, float(scale) / 2**_ROOT_BITS)
    return ops.where(numbers > 0, steps, _LEVELS)
