"""int8 with chosen layers in other precisions, in a float .tflite file, by ai-edge-quantizer."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.base.errors import ConversionError, InputError
from edgekit.base.extras import require
from edgekit.export.layer_precision import CONVERSIONS, planned_ops, read_precision
from edgekit.graph.tflite import read_buffer
from edgekit.graph.types import Graph, Op
from edgekit.profiling.links import WEIGHTED
from edgekit.profiling.view import GraphView
from edgekit.schema.names import Precision

Samples = Sequence[Mapping[str, NDArray[Any]]]

LAYER_PRECISIONS: tuple[Precision, ...] = ("int8", "int16x8", "int8-dynamic", "fp32")
"""What a layer of a mixed file may be in."""

_WHERE = "tflite mixed"
_PURPOSE = "to mix precisions"
_FLOATS = frozenset({"float32"})
_HIGHEST = ("fp32", "int16x8", "int8")  # of what reads an input or makes an output
_ALIASES = {"TRANSPOSE_CONV": "CONV_2D_TRANSPOSE"}


def mix_precisions(
    content: bytes,
    layers: Mapping[str, Precision],
    samples: Samples,
    known: Collection[str] = (),
) -> bytes:
    """Quantizes a float .tflite file to int8, but for the layers that are planned otherwise.

    Weights are symmetric with a scale an output channel, so that those on int8 steps already keep
    their codes; activations have the ranges seen on the samples. Inputs and outputs are as the
    layers next to them. Operators that have no int8 form stay float.

    Args:
        content: of a float file with the TensorFlow converter's builtin operators.
        layers: precision by Keras layer. int16x8: int16 activations, int8 weights; int8-dynamic:
            float activations, int8 weights; fp32. Layers that were fused share one.
        samples: each a batch of 1 by input name, as the file takes it.
        known: names of the model's layers (see `op_layers`).

    Raises:
        InputError: a layer is not in the file, or is planned in what no layer can be in.
        ConversionError: the quantizer failed, or cannot treat a layer so.
    """
    for name, precision in layers.items():
        if precision not in LAYER_PRECISIONS:
            raise InputError(
                f"the layer '{name}' is planned in {precision}",
                where=_WHERE,
                hint=f"layers of a mixed file are in {', '.join(LAYER_PRECISIONS)}",
            )
    graph = read_buffer(content)
    planned = planned_ops(graph, layers, known, where=_WHERE)
    ranges = _calibrate(content, samples)
    made = _quantize(content, graph, planned, ranges)
    _check(graph, planned, made, plain=_quantize(content, graph, {}, ranges))
    return made


def legible(content: bytes) -> bytes:
    """The same file for readers of older schemas.

    ai-edge-quantizer leaves the first field of operator codes at 0, which LiteRT overlooks, and
    OpenVINO and tf2onnx take for an addition.
    """
    tools = require("ai_edge_litert.tools.flatbuffer_utils", purpose=_PURPOSE)
    model = tools.read_model_from_bytearray(bytearray(content))
    for code in model.operatorCodes:
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    return bytes(tools.convert_object_to_bytearray(model))


def _calibrate(content: bytes, samples: Samples) -> Any:
    """The ranges of all activations: the least and the largest value seen."""
    calibrators = require("ai_edge_quantizer.calibrator", purpose=_PURPOSE)
    updates = require("ai_edge_quantizer.utils.qsv_utils", purpose=_PURPOSE)
    quantizer, _ = _quantizer(content)
    # Its default is a moving average, which loses 10 to 20 dB.
    calibrator = calibrators.Calibrator(content, qsv_update_func=updates.min_max_update)
    (signature,) = calibrator.get_signature_list() or ("",)
    try:
        calibrator.calibrate({signature: list(samples)}, quantizer._recipe_manager)
    except Exception as error:  # noqa: BLE001 the quantizer raises anything
        raise _failed(error) from None
    return calibrator.get_model_qsvs()


def _quantize(content: bytes, graph: Graph, planned: Mapping[int, str], ranges: Any) -> bytes:
    quantizer, kinds = _quantizer(content)
    for op in (op for op in graph.ops if op.index in planned):
        names = [graph.tensors[index].name for index in op.outputs]
        scope = f"^{re.escape(';'.join(names) + ';')}"
        precision = _realized(graph, op, planned[op.index])
        _configure(quantizer, kinds, scope, _ALIASES.get(op.name, op.name), precision)
    for kind, precision in _ports(graph, planned).items():
        _configure(quantizer, kinds, ".*", kind, precision)
    try:
        with np.errstate(all="ignore"):  # channels of zeros have no range
            made = quantizer.quantize(ranges, enable_progress_report=False)
    except Exception as error:  # noqa: BLE001 the quantizer raises anything
        raise _failed(error) from None
    return legible(bytes(made.quantized_model))


def _quantizer(content: bytes) -> tuple[Any, Any]:
    """A quantizer of everything to int8, and its kinds of operators."""
    quantizers = require("ai_edge_quantizer.quantizer", purpose=_PURPOSE)
    kinds = require("ai_edge_quantizer.qtyping", purpose=_PURPOSE).TFLOperationName
    quantizer = quantizers.Quantizer(bytearray(content))
    quantizer.add_static_config(".*", kinds.ALL_SUPPORTED, 8, 8)
    return quantizer, kinds


def _configure(quantizer: Any, kinds: Any, scope: str, name: str, precision: str) -> None:
    algorithms = require("ai_edge_quantizer.algorithm_manager", purpose=_PURPOSE)
    known = name in {kind.value for kind in kinds}
    try:
        if precision == "fp32":
            if known:  # what it does not know stays float
                unquantized = algorithms.AlgorithmName.NO_QUANTIZE
                quantizer.update_quantization_recipe(scope, kinds(name), algorithm_key=unquantized)
        elif precision == "int8-dynamic":
            quantizer.add_dynamic_config(scope, kinds(name), 8)
        else:
            quantizer.add_static_config(scope, kinds(name), 16 if precision == "int16x8" else 8, 8)
    except ValueError as error:
        reason = str(error).strip().partition("\n")[0] if known else "it has no such operator"
        raise ConversionError(
            f"ai-edge-quantizer does not make {name} in {precision}: {reason}", where=_WHERE
        ) from None


def _ports(graph: Graph, planned: Mapping[int, str]) -> dict[str, str]:
    """The precision of the file's inputs and outputs, where it is not int8."""
    found = {}
    inputs = {port.tensor for port in graph.inputs}
    outputs = {port.tensor for port in graph.outputs}
    for kind, here in (("INPUT", inputs), ("OUTPUT", outputs)):
        next_to = {
            planned.get(op.index, "int8").replace("int8-dynamic", "fp32")
            for op in graph.ops
            if here & set(op.inputs if kind == "INPUT" else op.outputs)
        }
        highest = next((precision for precision in _HIGHEST if precision in next_to), "int8")
        if highest != "int8":
            found[kind] = highest
    return found


def _check(graph: Graph, planned: Mapping[int, str], made: bytes, plain: bytes) -> None:
    """Reads the file back: planned operators are as planned, all others as in `plain`."""
    views = [GraphView(read_buffer(content)) for content in (made, plain)]
    found, others = ([op for op in v.graph.ops if op.name not in CONVERSIONS] for v in views)
    ops = [op for op in graph.ops if op.name not in CONVERSIONS]
    if not [op.name for op in ops] == [op.name for op in found] == [op.name for op in others]:
        raise ConversionError("ai-edge-quantizer changed the operators", where=_WHERE)
    for op, here, there in zip(ops, found, others, strict=True):
        wanted = _wanted(graph, op, planned) or read_precision(views[1], there)
        got = read_precision(views[0], here)
        if got != wanted:
            raise ConversionError(
                f"{op.name} of layer '{op.layer}' should be {wanted} and came out as {got}",
                where=_WHERE,
                hint="ai-edge-quantizer has no such form of it; plan this layer otherwise",
            )


def _wanted(graph: Graph, op: Op, planned: Mapping[int, str]) -> str | None:
    """The planned precision of an operator on real values, or None."""
    around = (graph.tensors[index] for index in (*op.inputs, *op.outputs))
    if op.index not in planned or not any(tensor.dtype in _FLOATS for tensor in around):
        return None
    return _realized(graph, op, planned[op.index])


def _realized(graph: Graph, op: Op, precision: str) -> str:
    """The precision of one operator of a layer: int8-dynamic is of operators with weights."""
    constants = any(graph.tensors[index].constant for index in op.inputs)
    if precision == "int8-dynamic" and not (op.kind in WEIGHTED and constants):
        return "fp32"
    return precision


def _failed(error: Exception) -> ConversionError:
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return ConversionError(f"ai-edge-quantizer failed: {reason}", where=_WHERE)
