"""Multiplications and additions by constants, which the layer behind them can do itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.graph.tflite_edit import TFLiteEditor
from edgekit.profiling.rewrites.base import Change, RefusedError, Site, operator, rewrite
from edgekit.profiling.rewrites.scales import (
    LARGEST_BIAS,
    OPS,
    RULES,
    affine,
    bias_of,
    operands,
    per_channel,
    set_input,
)
from edgekit.schema.quantization import Quantization

_INPUTS = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 1}
"""The axis of the weights that runs along the input channels."""
_OUTPUTS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}
_SAME = 0  # of Padding


@dataclass(frozen=True)
class _Reader:
    """A convolution or dense layer with real weights.

    Attributes:
        along: factor and shift of each place along the weights' axis of input channels.
    """

    op: Any
    kind: str
    weights: NDArray[np.float64]
    factor: NDArray[np.float64]
    shift: NDArray[np.float64]

    @property
    def scaled(self) -> NDArray[np.float64]:
        """Weights that take the input before the scale."""
        return self.weights * self._along(self.factor)

    @property
    def lifted(self) -> NDArray[np.float64]:
        """What the shift adds to each output."""
        axis = _OUTPUTS[self.kind]
        others = tuple(n for n in range(self.weights.ndim) if n != axis)
        total: NDArray[np.float64] = (self.weights * self._along(self.shift)).sum(axis=others)
        return total

    def _along(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        shape = [1] * self.weights.ndim
        shape[_INPUTS[self.kind]] = -1
        return values.reshape(shape)


@rewrite(*RULES, ops=OPS)
def fold_scale_onward(site: Site[TFLiteEditor]) -> Change:
    """Folds a multiplication or addition by constants into the convolution or dense layer behind.

    Weights are multiplied along the input channels, and what is added goes into the biases. In
    int8 one factor for all channels leaves the integers of the weights as they are; several are
    quantized anew, and one rounding and one clipping less are done.
    """
    edit, op = site.model, operator(site)
    name = edit.name(op)
    source, constant = operands(edit, op, name)
    result = op.outputs[0]
    if op.builtinOptions is not None and op.builtinOptions.fusedActivationFunction:
        raise RefusedError("an activation comes behind it")
    if not edit.private(result):
        raise RefusedError("what it scales is used elsewhere too, or by nothing")
    if edit.shape(source) != edit.shape(result):
        raise RefusedError("it changes the shape")
    (behind,) = edit.consumers(result)
    reader = _reader(edit, behind, result, *affine(name, per_channel(
        constant, edit.shape(source)[-1]
    )))  # fmt: skip
    floats = edit.dtype(source) == "float32"
    if floats:
        _fold_float(edit, reader)
    else:
        _fold_integer(edit, reader, source)
    behind.inputs = [source, *behind.inputs[1:]]
    edit.ops.remove(op)
    words = f"{name} by constants is in the {reader.kind} behind it"
    return Change(words, "rounding" if floats else "approximate")


def _reader(
    edit: TFLiteEditor, op: Any, tensor: int, factor: NDArray[Any], shift: NDArray[Any]
) -> _Reader:
    """The layer behind.

    Raises:
        RefusedError: it is none that takes a scale.
    """
    kind = edit.name(op)
    if kind not in _INPUTS or op.inputs[0] != tensor:
        raise RefusedError("there is no convolution or dense layer right behind it")
    stored = edit.values(op.inputs[1])
    if stored is None:
        raise RefusedError("the weights are computed")
    if stored.dtype not in (np.float32, np.int8) or stored.dtype != edit.dtype(tensor):
        raise RefusedError(f"weights of {stored.dtype} are not folded into")
    size = stored.shape[_INPUTS[kind]]
    if kind == "DEPTHWISE_CONV_2D":  # input channel c makes the outputs c * multiplier and on
        factor, shift = (np.repeat(values, size // len(values)) for values in (factor, shift))
    if len(factor) != size:
        raise RefusedError("the layer behind it is grouped, or flattens what it reads")
    if shift.any() and _pads(op, kind, stored.shape):
        raise RefusedError("the layer behind it pads with zeros, which the addition is not for")
    parameters = edit.quantization(op.inputs[1])
    weights = stored if parameters is None else parameters.dequantize(stored)
    return _Reader(op, kind, weights.astype(np.float64), factor, shift)


def _pads(op: Any, kind: str, weights: tuple[int, ...]) -> bool:
    return kind != "FULLY_CONNECTED" and (
        op.builtinOptions.padding == _SAME and max(weights[1:3]) > 1
    )


def _fold_float(edit: TFLiteEditor, reader: _Reader) -> None:
    op = reader.op
    bias = bias_of(edit, op)
    lifted = reader.lifted + (0 if bias is None else bias)
    set_input(edit, op, 1, reader.scaled.astype(np.float32), None)
    set_input(edit, op, 2, lifted.astype(np.float32), None)


def _fold_integer(edit: TFLiteEditor, reader: _Reader, source: int) -> None:
    op, axis = reader.op, _OUTPUTS[reader.kind]
    given, read = edit.quantization(source), edit.quantization(op.inputs[0])
    stored = edit.quantization(op.inputs[1])
    if given is None or read is None or stored is None or any(stored.zero_point):
        raise RefusedError("the weights are not quantized symmetrically")
    if not reader.factor.all():
        raise RefusedError("it multiplies by zero")
    scaled = reader.scaled
    others = tuple(n for n in range(scaled.ndim) if n != axis)
    most = np.abs(scaled).max(axis=others)
    if stored.per_channel:
        steps = np.maximum(most, 1e-30) / 127
    else:
        steps = np.full(len(most), most.max() / 127)
    if not np.ptp(np.abs(reader.factor)):  # the integers stay, or change their sign
        steps = np.broadcast_to(np.array(stored.scale), most.shape) * abs(reader.factor[0])
    shape = [1] * scaled.ndim
    shape[axis] = -1
    weights = np.clip(np.round(scaled / steps.reshape(shape)), -127, 127).astype(np.int8)
    bias = bias_of(edit, op)
    old = 0 if bias is None else bias * (read.scale[0] * np.array(stored.scale))
    inner = given.scale[0] * steps
    moved = np.round((old + reader.lifted) / inner)
    if np.abs(moved).max() > LARGEST_BIAS:
        raise RefusedError("the bias leaves 32 bits")
    kept = slice(None) if stored.per_channel else slice(1)
    zeros = (0,) * len(steps[kept])
    many = stored.per_channel
    set_input(edit, op, 1, weights, Quantization(
        tuple(map(float, steps[kept])), zeros, axis if many else None
    ))  # fmt: skip
    set_input(edit, op, 2, moved.astype(np.int32), Quantization(
        tuple(map(float, inner[kept])), zeros, 0 if many else None
    ))  # fmt: skip
