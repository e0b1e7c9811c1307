"""Where a graph normalizes over its channels, however that was written.

What follows 1 / sqrt(var) is not matched form by form, but computed with: every tensor made of x,
its mean m, r = 1 / sqrt(var + eps) and constants by additions and multiplications is a sum of these
and their products, with one coefficient a channel. The last that is g (x - m) r + b is the layer
normalization of x (Ba et al., 2016).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.graph.tflite_edit import TFLiteEditor
from edgekit.profiling.rewrites.means import mean_axes

_Terms = dict[str, NDArray[np.float64]]
"""Coefficients by product: "" (a constant), "x", "m", "r", "rx", "mr"; "s" is 1 / r."""
ROOTS = ("RSQRT", "SQRT")
_MOST_EPSILON = 0.1


@dataclass(frozen=True)
class LayerNorm:
    """Layer normalization in a graph.

    Attributes:
        source: x.
        mean: m.
        difference: x - m where the graph has it, or None.
        spread: the tensor of squared differences.
        result: the tensor that is gain * (x - m) * r + offset.
    """

    source: int
    mean: int
    difference: int | None
    spread: int
    result: int
    gain: NDArray[np.float64]
    offset: NDArray[np.float64]


def layer_norm_of(edit: TFLiteEditor, root: Any) -> LayerNorm | None:
    """The layer normalization that a root belongs to, if it does."""
    variance = _without_epsilon(edit, root.inputs[0])
    mean_of = edit.producer(variance)
    if mean_of is None or not _over_channels(edit, mean_of):
        return None
    spread = int(mean_of.inputs[0])
    pair = _squared(edit, spread)
    if pair is None:
        return None
    source, mean, difference = pair
    maker = edit.producer(mean)
    if maker is None or not _over_channels(edit, maker) or maker.inputs[0] != source:
        return None
    one = np.ones(edit.shape(source)[-1])
    known: dict[int, _Terms] = {source: {"x": one}, mean: {"m": one}}
    known[root.outputs[0]] = {"r": one} if edit.name(root) == "RSQRT" else {"s": one}
    for op in edit.ops:
        terms = _terms(edit, op, known)
        if terms is not None and op.outputs[0] not in known:
            known[op.outputs[0]] = terms
    for index in reversed(known):
        gain = known[index].get("rx")
        opposite = known[index].get("mr")
        others = set(known[index]) - {"rx", "mr", ""}
        if gain is None or opposite is None or others or not np.allclose(gain, -opposite):
            continue
        offset = known[index].get("", np.zeros_like(gain))
        return LayerNorm(source, mean, difference, spread, index, gain, offset)
    return None


def _over_channels(edit: TFLiteEditor, op: Any) -> bool:
    """Whether an operator is a mean over the last axis that keeps it as one."""
    if edit.name(op) != "MEAN":
        return False
    before, after = edit.shape(op.inputs[0]), edit.shape(op.outputs[0])
    return mean_axes(edit, op) == [len(before) - 1] and after == (*before[:-1], 1)


def _without_epsilon(edit: TFLiteEditor, tensor: int) -> int:
    """The variance, before a small constant was added."""
    op = edit.producer(tensor)
    if op is None or edit.name(op) != "ADD" or len(op.inputs) != 2:
        return tensor
    small = [_real(edit, index) for index in op.inputs]
    for index, other in ((0, 1), (1, 0)):
        values = small[other]
        if values is not None and values.size == 1 and 0 <= values.max() <= _MOST_EPSILON:
            return int(op.inputs[index])
    return tensor


def _squared(edit: TFLiteEditor, tensor: int) -> tuple[int, int, int | None] | None:
    """What was subtracted from what before a square was taken, and the difference itself."""
    op = edit.producer(tensor)
    name = "" if op is None else edit.name(op)
    if op is None or _fused(op):
        return None
    if name == "SQUARED_DIFFERENCE":
        one, other = op.inputs
        # either may be the mean
        if edit.shape(one)[-1:] == (1,) and edit.shape(other)[-1:] != (1,):
            one, other = other, one
        return int(one), int(other), None
    power = _real(edit, op.inputs[1]) if name == "POW" else None
    square = (
        name == "SQUARE"
        or (name == "MUL" and op.inputs[0] == op.inputs[1])
        or (power is not None and power.size == 1 and float(power.max()) == 2)
    )
    gap = edit.producer(op.inputs[0]) if square else None
    if gap is None or edit.name(gap) != "SUB" or _fused(gap):
        return None
    return int(gap.inputs[0]), int(gap.inputs[1]), int(gap.outputs[0])


def _terms(edit: TFLiteEditor, op: Any, known: dict[int, _Terms]) -> _Terms | None:
    """What an operator gives, as a sum of products; None if it is none."""
    combine = _ALGEBRA.get(edit.name(op))
    if combine is None or _fused(op) or len(op.inputs) not in (1, 2):
        return None
    given = []
    for index in op.inputs:
        terms = known.get(index)
        if terms is None:
            terms = _constant_terms(edit, index, known)
        if terms is None:
            return None
        given.append(terms)
    if all(set(terms) <= {""} for terms in given):
        return None
    return combine(*given)


def _fused(op: Any) -> bool:
    return bool(getattr(op.builtinOptions, "fusedActivationFunction", 0))


def _constant_terms(edit: TFLiteEditor, index: int, known: dict[int, _Terms]) -> _Terms | None:
    values = _real(edit, index)
    channels = next(iter(known.values()))["x"].size
    if values is None or values.size not in (1, channels):
        return None
    if values.size != (values.shape or (1,))[-1]:
        return None
    return {"": np.broadcast_to(values.reshape(-1), (channels,))}


def _sum(one: _Terms, other: _Terms) -> _Terms:
    zero = np.zeros(1)
    return {key: one.get(key, zero) + other.get(key, zero) for key in {*one, *other}}


def _negative(one: _Terms) -> _Terms:
    return {key: -value for key, value in one.items()}


def _difference(one: _Terms, other: _Terms) -> _Terms:
    return _sum(one, _negative(other))


def _product(one: _Terms, other: _Terms) -> _Terms | None:
    found: _Terms = {}
    for first, left in one.items():
        for second, right in other.items():
            key = "".join(sorted(first + second))
            if key not in _PRODUCTS:
                return None
            found = _sum(found, {key: left * right})
    return found


def _quotient(one: _Terms, other: _Terms) -> _Terms | None:
    ((key, below), *more) = other.items()
    if more or key not in ("", "s") or not below.all():
        return None
    return _product(one, {"r" if key else "": 1 / below})


_PRODUCTS = frozenset({"", "x", "m", "r", "rx", "mr"})
_ALGEBRA: dict[str, Callable[..., _Terms | None]] = {
    "ADD": _sum, "SUB": _difference, "MUL": _product, "DIV": _quotient, "NEG": _negative,
}  # fmt: skip


def _real(edit: TFLiteEditor, index: int) -> NDArray[np.float64] | None:
    """A constant's values as the numbers that they stand for."""
    values = edit.values(index)
    if values is None:
        return None
    parameters = edit.quantization(index)
    real = values if parameters is None else parameters.dequantize(values)
    return np.asarray(real, np.float64)
