"""A quantized Keras model on the integers that it simulates, with the rounding of int8 kernels.

Fake quantization in float32 is near what an int8 file computes, not equal to it: sums of floats are
inexact, and where a value lies between two steps, kernels round by multipliers of finite precision.
A step more in a logit is many steps after a softmax. So the reference of a parity check takes the
sums back to integers, and rounds them as `edgekit.models.requantize` does. All else, functions of
one value above all, is fake quantization as it stands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.models import requantize
from edgekit.models.calls import Call, call_graph
from edgekit.models.fakequant import FakeQuant, Quantized
from edgekit.models.integers_cells import Recurrent, recurrent
from edgekit.models.requantize import MIDDLE, Codes, channel_steps, codes_of

if TYPE_CHECKING:
    import keras

_SIGNS = {"Add": 1, "Subtract": -1}
_PRODUCTS = ("Multiply", "Matmul")
_MEANS = ("GlobalAveragePooling1D", "GlobalAveragePooling2D", "Mean")
_MOVES = frozenset({
    "Identity", "Dropout", "Reshape", "Flatten", "Permute", "Transpose", "ExpandDims", "Squeeze",
    "ZeroPadding1D", "ZeroPadding2D", "Cropping1D", "Cropping2D", "MaxPooling1D", "MaxPooling2D",
    "GlobalMaxPooling1D", "GlobalMaxPooling2D",
})  # fmt: skip
"""Operations that change no value."""


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

    terms: tuple[tuple[int, Codes, int], ...]


@dataclass(frozen=True)
class _Roots:
    """Values that are one over the root of another, which is on `codes`."""

    value: int
    codes: Codes


@dataclass(frozen=True)
class _Reals:
    """Values that the model is given."""


_Known = Codes | _Sums | _Addends | _Roots | _Reals


def on_integers(model: keras.Model) -> Callable[..., list[Any]]:
    """The outputs of a quantized model as its int8 file computes them.

    Args:
        model: a functional model with `FakeQuant` layers.

    Returns:
        A function of tensors of the inputs, in their order, to those of the outputs, in theirs.
    """
    graph = call_graph(model)
    known: dict[int, _Known] = dict.fromkeys(graph.inputs, _Reals())
    loops: dict[int, Recurrent] = {}
    for number, call in enumerate(graph.calls):
        codes = known.get(call.inputs[0]) if len(call.inputs) == 1 else None
        loop = recurrent(call.layer, codes) if isinstance(codes, Codes) else None
        if loop is not None:
            loops[number] = loop
            if loop.results is not None and len(call.outputs) == 1:
                known[call.outputs[0]] = loop.results
            continue
        made = codes_of(call.layer) if _rounds(call) else _made(call, known)
        if made is not None:
            known |= dict.fromkeys(call.outputs, made)

    def run(*inputs: Any) -> list[Any]:
        values: dict[int, Any] = dict(zip(graph.inputs, inputs, strict=True))
        for number, call in enumerate(graph.calls):
            rounded = _rounded(call, values, known) if _rounds(call) else None
            if rounded is not None:
                values[call.outputs[0]] = rounded
                continue
            with loops[number].swapped() if number in loops else nullcontext():
                values |= call.run(values)
        return [values[value] for value in graph.outputs]

    return run


def _rounds(call: Call) -> bool:
    return isinstance(call.layer, FakeQuant) and call.layer.bits == 8


def _made(call: Call, known: Mapping[int, _Known]) -> _Known | None:
    """What is known of the result of a call that is no rounding."""
    given = [known.get(value) for value in call.inputs]
    codes = [one for one in given if isinstance(one, Codes)]
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
        twice = call.kind == "Matmul" and codes[1].zero != MIDDLE
        return _Sums(np.asarray(codes[0].step * codes[1].step), twice)
    return None


def _weighted(layer: Any, codes: Codes) -> _Sums | None:
    """The sums of a layer with one rounded kernel, of values on `codes`."""
    linear = getattr(layer.activation, "__name__", "") == "linear"
    if layer.baked or len(layer.rules) != 1 or not (linear or _limits(layer)):
        return None
    (name,) = layer.rules
    return _Sums(codes.step * channel_steps(layer, name))


def _limits(layer: Any) -> bool:
    """Whether a layer, or its activation, only limits values, as a ReLU."""
    if type(layer).__name__ == "ReLU":
        return not layer.negative_slope and not layer.threshold
    return getattr(getattr(layer, "activation", None), "__name__", "") in ("relu", "relu6")


def _rounded(call: Call, values: Mapping[int, Any], known: Mapping[int, _Known]) -> Any:
    """What a rounding makes of its input, or None where no kernel is known."""
    found, codes = known.get(call.inputs[0]), known[call.outputs[0]]
    assert isinstance(codes, Codes)
    value = values[call.inputs[0]]
    if isinstance(found, _Reals):
        steps = requantize.given(value, codes)
    elif isinstance(found, _Sums):
        kernel = requantize.multiplied if found.twice else requantize.summed
        steps = kernel(value, found.steps, codes)
    elif isinstance(found, _Addends):
        terms = [(values[number], one, sign) for number, one, sign in found.terms]
        steps = requantize.added(terms, codes)
    elif isinstance(found, _Roots):
        steps = requantize.inverse_roots(values[found.value], found.codes, codes)
    else:
        return None
    return requantize.on_steps(steps, codes)
