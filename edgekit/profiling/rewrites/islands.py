"""Islands: operators between a DEQUANTIZE and a QUANTIZE, and conversions that change nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.graph.tflite_edit import TFLiteEditor
from edgekit.profiling.rewrites.base import (
    Change,
    RefusedError,
    Site,
    UnrelatedError,
    operator,
    rewrite,
)
from edgekit.schema.quantization import Quantization

_MOVES = frozenset(
    {"DEPTH_TO_SPACE", "EXPAND_DIMS", "GATHER", "MAX_POOL_2D", "PACK", "RESHAPE",
     "RESIZE_NEAREST_NEIGHBOR", "SLICE", "SPACE_TO_DEPTH", "SQUEEZE", "STRIDED_SLICE", "TRANSPOSE"}
)  # fmt: skip
"""Give values of their input: exact in int8 where both scales are equal."""
_COMPUTES = frozenset(
    {"ABS", "ADD", "AVERAGE_POOL_2D", "CONCATENATION", "HARD_SWISH", "LEAKY_RELU", "LOGISTIC",
     "MAXIMUM", "MEAN", "MINIMUM", "MUL", "RELU", "RELU6", "RESIZE_BILINEAR", "SOFTMAX", "SUB",
     "TANH"}
)  # fmt: skip
_PARTS = {"SPLIT": 1, "SPLIT_V": 0, "UNPACK": 0}
"""Take their input apart, at this place among the inputs: exact where all scales are equal."""
_FIXED = {  # (scale, zero point) of int8 outputs, by the quantization specification
    "LOGISTIC": (1 / 256, -128),
    "SOFTMAX": (1 / 256, -128),
    "TANH": (1 / 128, 0),
}
_EIGHT_BIT = ("int8", "uint8")


@rewrite(
    "operator", "eight_bit", "integer_maps", "integer_or_bool_maps", "quantized", "precision",
    "int8_only", "no_hybrid", "float_or_eight_bit", "quantize_types", "quantize_ratio",
    "dequantize_types", "int8_kernel", "int8_or_int16_kernel", "optimized_operator",
)  # fmt: skip
def strip_islands(site: Site[TFLiteEditor]) -> Change:
    """Computes a float operator between int8 ones in int8, and leaves out what converts nothing.

    DEQUANTIZE and QUANTIZE between equal scales go without a trace; so do those around operators
    that only move values. Around operators that compute, the int8 kernel rounds on its own.
    """
    edit, op = site.model, operator(site)
    name = edit.name(op)
    if name == "QUANTIZE" and _same(edit, op.inputs[0], op.outputs[0]):
        return _drop(edit, op, op.inputs[0])
    if name == "QUANTIZE":
        maker = edit.producer(op.inputs[0])
        if maker is None:
            raise RefusedError("it quantizes an input of the model")
        if edit.name(maker) == "DEQUANTIZE":
            return _pair(edit, maker, op)
        return _island(edit, maker)
    if name == "DEQUANTIZE":
        readers = edit.consumers(op.outputs[0])
        if not readers:
            raise RefusedError("it makes an output of the model")
        if any(edit.name(reader) == "QUANTIZE" for reader in readers):
            return _pair(edit, op, next(r for r in readers if edit.name(r) == "QUANTIZE"))
        return _island(edit, readers[0])
    return _island(edit, op)


def _pair(edit: TFLiteEditor, first: Any, second: Any) -> Change:
    """DEQUANTIZE and QUANTIZE that follow each other."""
    source, result = first.inputs[0], second.outputs[0]
    if edit.dtype(source) not in _EIGHT_BIT or edit.dtype(source) != edit.dtype(result):
        raise RefusedError(f"it turns {edit.dtype(source)} into {edit.dtype(result)}")
    if _same(edit, source, result):
        return _drop(edit, second, source)
    edit.replace(second, [edit.make("QUANTIZE", [source], [result], "QuantizeOptions")])
    _clear(edit)
    return Change("a QUANTIZE in int8 for a DEQUANTIZE and a QUANTIZE", "approximate")


def _drop(edit: TFLiteEditor, op: Any, source: int) -> Change:
    if op.outputs[0] in edit.outputs:
        raise RefusedError("it makes an output of the model")
    edit.reroute(op.outputs[0], source)
    edit.ops.remove(op)
    _clear(edit)
    return Change(f"no {edit.name(op)}: its scales are equal", "bits")


def _island(edit: TFLiteEditor, op: Any) -> Change:
    """A float operator whose inputs are dequantized and whose output is only quantized."""
    name = edit.name(op)
    if edit.dtype(op.outputs[0]) != "float32":
        raise UnrelatedError(f"{name} computes in {edit.dtype(op.outputs[0])}")
    if name in _PARTS:
        return _parts(edit, op)
    if name not in _MOVES | _COMPUTES and name != "NEG":
        raise RefusedError(f"there is no int8 form of {name} known without its calibration")
    if len(op.outputs) != 1 or not edit.private(op.outputs[0]):
        raise RefusedError("its float result is used elsewhere")
    (reader,) = edit.consumers(op.outputs[0])
    if edit.name(reader) != "QUANTIZE":
        raise RefusedError(f"what follows, {edit.name(reader)}, is float too")
    result = reader.outputs[0]
    given = [_integer(edit, index) for index in op.inputs]
    maps = [index for index, converted in given if converted]
    if not maps:
        raise RefusedError("no input of it is dequantized")
    kinds = {edit.dtype(index) for index in (*maps, result)}
    if len(kinds) != 1 or not kinds <= set(_EIGHT_BIT):
        raise RefusedError(f"it is between {' and '.join(sorted(kinds))}")
    loose = [i for i, converted in given if not converted and i >= 0 and edit.dtype(i) == "float32"]
    if loose:
        raise RefusedError(f"its input {edit.label(loose[0])} is not quantized")
    if name == "NEG":
        edit.replace(op, [_negative(edit, maps[0], result)])
        edit.ops.remove(reader)
        _clear(edit)
        one, other = edit.quantization(maps[0]), edit.quantization(result)
        exact = one is not None and other is not None and one.scale == other.scale
        return Change("a product with -1 for NEG in float", "bits" if exact else "approximate")
    promise = _promise(edit, name, maps, result)
    op.inputs, op.outputs = [index for index, _ in given], [result]
    op.opcodeIndex = edit.make(name, op.inputs, op.outputs).opcodeIndex
    edit.ops.remove(reader)
    _clear(edit)
    return Change(f"{name} in {edit.dtype(result)}, without DEQUANTIZE and QUANTIZE", promise)


def _negative(edit: TFLiteEditor, source: int, result: int) -> Any:
    """A product with -1: there is no negation in integers."""
    minus = edit.add_constant(
        np.full((1,) * len(edit.shape(source)), -1, edit.dtype(source)),
        f"{edit.label(result)}/by",
        Quantization((1.0,), (0,)),
    )
    return edit.make("MUL", [source, minus], [result], "MulOptions")


def _parts(edit: TFLiteEditor, op: Any) -> Change:
    """An operator that takes a dequantized tensor apart, and whose parts are quantized again."""
    name = edit.name(op)
    at = _PARTS[name]
    source, converted = _integer(edit, op.inputs[at])
    if not converted:
        raise RefusedError("no input of it is dequantized")
    parts = []
    for index in map(int, op.outputs):
        readers = edit.consumers(index)
        if index in edit.outputs or any(edit.name(reader) != "QUANTIZE" for reader in readers):
            raise RefusedError("its float result is used elsewhere")
        if not all(_same(edit, source, reader.outputs[0]) for reader in readers):
            raise RefusedError("its input and its result have different scales")
        label = f"{edit.label(index)}/{edit.dtype(source)}"
        parts.append(
            edit.add_tensor(
                edit.shape(index), edit.dtype(source), label, edit.quantization(source), like=index
            )
        )
        for reader in readers:
            _drop(edit, reader, parts[-1])
    op.inputs[at], op.outputs = source, parts
    op.opcodeIndex = edit.make(name, op.inputs, op.outputs).opcodeIndex
    _clear(edit)
    return Change(f"{name} in {edit.dtype(source)}, without DEQUANTIZE and QUANTIZE", "bits")


def _promise(edit: TFLiteEditor, name: str, maps: list[int], result: int) -> Any:
    parameters = edit.quantization(result)
    if name in _MOVES:
        if not all(_same(edit, index, result) for index in maps):
            raise RefusedError("its input and its result have different scales")
        return "bits"
    if name in _FIXED and parameters is not None and edit.dtype(result) == "int8":
        scale, zero = _FIXED[name]
        if parameters.zero_point[0] != zero or abs(parameters.scale[0] / scale - 1) > 1e-6:
            raise RefusedError(f"int8 {name} has the scale {scale:g}, its result another")
    if name in ("AVERAGE_POOL_2D", "RESIZE_BILINEAR", "MAXIMUM", "MINIMUM", "CONCATENATION") and (
        not all(_same(edit, index, result) for index in maps)
    ):
        raise RefusedError("its input and its result have different scales")
    return "approximate"


def _integer(edit: TFLiteEditor, index: int) -> tuple[int, bool]:
    """The tensor that a float one was dequantized from, and whether it was."""
    maker = edit.producer(index) if index >= 0 else None
    if maker is not None and edit.name(maker) == "DEQUANTIZE":
        return maker.inputs[0], True
    return index, False


def _same(edit: TFLiteEditor, one: int, other: int) -> bool:
    first, second = edit.quantization(one), edit.quantization(other)
    return edit.dtype(one) == edit.dtype(other) and first is not None and first == second


def _clear(edit: TFLiteEditor) -> None:
    """Takes conversions away whose results nothing reads any more."""
    for op in list(edit.ops):
        unread = not edit.consumers(op.outputs[0]) and op.outputs[0] not in edit.outputs
        if edit.name(op) == "DEQUANTIZE" and unread:
            edit.ops.remove(op)
