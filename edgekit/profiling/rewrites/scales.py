"""Multiplications and additions by constants, which a convolution or dense layer can do itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.graph.tflite_edit import TFLiteEditor
from edgekit.profiling.rewrites.base import Change, RefusedError, Site, operator, rewrite
from edgekit.schema.fixing import Promise
from edgekit.schema.quantization import Quantization

_CHANNELS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}
"""The axis of output channels in the weights."""
LARGEST_BIAS = 2**31 - 1
RULES = (
    "no_broadcast", "broadcast", "operator", "scale_ratio", "fused_relu", "fused_activation",
    "optimized_operator", "constant_concatenation", "element_wise",
)  # fmt: skip
OPS = "ADD DIV MUL SUB"


@rewrite(*RULES, ops=OPS)
def fold_scale(site: Site[TFLiteEditor]) -> Change:
    """Folds a multiplication or addition by constants into the convolution or dense layer before.

    Weights are multiplied and biases shifted, channel by channel. In int8 the integers of the
    weights stay and their scales change, so that one rounding less is done.
    """
    edit, op = site.model, operator(site)
    name = edit.name(op)
    source, constant = operands(edit, op, name)
    maker = edit.producer(source)
    if maker is None or edit.name(maker) not in _CHANNELS:
        raise RefusedError("there is no convolution or dense layer right before it")
    if not edit.private(source):
        raise RefusedError("what it scales is used elsewhere too")
    if maker.builtinOptions is None or maker.builtinOptions.fusedActivationFunction:
        raise RefusedError("an activation comes before it")
    if edit.shape(source) != edit.shape(op.outputs[0]):
        raise RefusedError("it changes the shape")
    kind = edit.name(maker)
    weights = edit.values(maker.inputs[1])
    if weights is None:
        raise RefusedError("the weights are computed")
    channels = weights.shape[_CHANNELS[kind]]
    factor, shift = affine(name, per_channel(constant, channels))
    folded: Promise = "rounding"
    if weights.dtype == np.float32:
        _fold_float(edit, maker, weights, factor, shift)
    elif weights.dtype == np.int8 and edit.dtype(source) == "int8":
        _fold_integer(edit, maker, weights, factor, shift)
        folded = "approximate"
    else:
        raise RefusedError(f"weights of {weights.dtype} are not folded into")
    maker.outputs = list(op.outputs)
    options = op.builtinOptions
    maker.builtinOptions.fusedActivationFunction = (
        options.fusedActivationFunction if options is not None else 0
    )
    edit.ops.remove(op)
    return Change(f"{name} by constants is in the {kind} before it", folded)


def operands(edit: TFLiteEditor, op: Any, name: str) -> tuple[int, NDArray[Any]]:
    """The computed input, and the constant one in real numbers.

    Raises:
        RefusedError: there are not one of each, or the constant is subtracted from or divided.
    """
    found = [(index, edit.values(index)) for index in op.inputs]
    computed = [index for index, values in found if values is None]
    constants = [(index, values) for index, values in found if values is not None]
    if len(computed) != 1 or len(constants) != 1:
        raise RefusedError("both inputs are computed")
    if name in ("DIV", "SUB") and op.inputs[0] != computed[0]:
        raise RefusedError("the constant is its first input")
    index, values = constants[0]
    parameters = edit.quantization(index)
    real = values if parameters is None else parameters.dequantize(values)
    return computed[0], real.astype(np.float64)


def per_channel(constant: NDArray[Any], channels: int) -> NDArray[Any]:
    """A constant that acts on each channel alone, as one value a channel."""
    if constant.size not in (1, channels) or constant.size != (constant.shape or (1,))[-1]:
        raise RefusedError(f"the constant has shape {constant.shape}, not one value a channel")
    return np.broadcast_to(constant.reshape(-1), (channels,))


def affine(name: str, constant: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Factor and shift of each channel."""
    one, zero = np.ones_like(constant), np.zeros_like(constant)
    if name == "DIV" and not constant.all():
        raise RefusedError("it divides by zero")
    if name in ("MUL", "DIV"):
        return (constant if name == "MUL" else 1 / constant), zero
    return one, (constant if name == "ADD" else -constant)


def _fold_float(
    edit: TFLiteEditor,
    maker: Any,
    weights: NDArray[Any],
    factor: NDArray[Any],
    shift: NDArray[Any],
) -> None:
    shape = [1] * weights.ndim
    shape[_CHANNELS[edit.name(maker)]] = -1
    bias = bias_of(edit, maker)
    old = np.zeros(len(factor), np.float32) if bias is None else bias
    set_input(edit, maker, 1, (weights * factor.reshape(shape)).astype(np.float32), None)
    set_input(edit, maker, 2, (old * factor + shift).astype(np.float32), None)


def _fold_integer(
    edit: TFLiteEditor,
    maker: Any,
    weights: NDArray[Any],
    factor: NDArray[Any],
    shift: NDArray[Any],
) -> None:
    source, stored = edit.quantization(maker.inputs[0]), edit.quantization(maker.inputs[1])
    if source is None or stored is None or any(stored.zero_point):
        raise RefusedError("the weights are not quantized symmetrically")
    axis = _CHANNELS[edit.name(maker)]
    scales = np.broadcast_to(np.array(stored.scale), factor.shape)
    sign = np.where(factor < 0, -1, 1)
    if (sign < 0).any() and weights.min() == -128:
        raise RefusedError("a weight of -128 has no negative in int8")
    if not factor.all():
        raise RefusedError("it multiplies by zero")
    if edit.name(maker) == "FULLY_CONNECTED" and not stored.per_channel and np.ptp(factor):
        raise RefusedError("the dense layer's weights have one scale, the constant several values")
    steps = scales * np.abs(factor)
    shape = [1] * weights.ndim
    shape[axis] = -1
    bias = bias_of(edit, maker)
    old = np.zeros(len(factor), np.int64) if bias is None else bias.astype(np.int64)
    moved = old * sign + np.round(shift / (source.scale[0] * steps)).astype(np.int64)
    if np.abs(moved).max() > LARGEST_BIAS:
        raise RefusedError("the bias leaves 32 bits")
    one = not stored.per_channel and not np.ptp(factor)
    kept = steps[:1] if one else steps
    zeros = (0,) * len(kept)
    axis_or_none = None if one else axis
    signed = (weights * sign.reshape(shape)).astype(np.int8)
    set_input(edit, maker, 1, signed, Quantization(tuple(map(float, kept)), zeros, axis_or_none))
    inner = Quantization(tuple(float(source.scale[0] * s) for s in kept), zeros, None if one else 0)
    set_input(edit, maker, 2, moved.astype(np.int32), inner)


def bias_of(edit: TFLiteEditor, maker: Any) -> NDArray[Any] | None:
    """The stored biases of a convolution or dense layer, if it has any."""
    if len(maker.inputs) < 3 or maker.inputs[2] < 0:
        return None
    values = edit.values(maker.inputs[2])
    if values is None:
        raise RefusedError("the bias is computed")
    return values


def set_input(
    edit: TFLiteEditor,
    op: Any,
    place: int,
    values: NDArray[Any],
    quantization: Quantization | None,
) -> None:
    """Gives an operator another constant as an input."""
    old = op.inputs[place] if place < len(op.inputs) else -1
    name = edit.label(old) if old >= 0 else f"{edit.label(op.outputs[0])}/bias"
    new = edit.add_constant(values, name, quantization)
    op.inputs = [*op.inputs[:place], new, *op.inputs[place + 1 :]]
