"""What a quantize-dequantize ONNX graph needs where some of its layers are not int8."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.base.errors import InputError
from edgekit.base.extras import require

INT16_OPSET = 21
"""The first in which QuantizeLinear makes int16."""

_PURPOSE = "to convert to ONNX"
_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def admit_int16(model: Any, *, opset: int | None) -> None:
    """Gives a converted model the opset asked for, or one that has its int16, in place.

    Biases of 64 bits, for which there is no DequantizeLinear, become floats: their values times
    their scales.

    Args:
        model: an `onnx.ModelProto` in opset 18 or less, whose constants are initializers.
        opset: that was asked for, if any.

    Raises:
        InputError: the opset that was asked for has no int16, and the model has.
    """
    onnx = require("onnx", purpose=_PURPOSE)
    constants = {value.name: value for value in model.graph.initializer}
    for node in [n for n in model.graph.node if n.op_type == "DequantizeLinear"]:
        stored = constants.get(node.input[0])
        if stored is not None and stored.data_type == onnx.TensorProto.INT64:
            integers, scale = (
                onnx.numpy_helper.to_array(constants[name]).astype(np.float64)
                for name in node.input[:2]
            )
            values = (integers * scale).astype(np.float32)
            model.graph.initializer.append(onnx.numpy_helper.from_array(values, node.output[0]))
            model.graph.node.remove(node)
    (domain,) = (known for known in model.opset_import if known.domain in ("", "ai.onnx"))
    wanted = opset or domain.version
    if wanted < INT16_OPSET and _has_int16(onnx, model):
        if opset is not None:
            raise InputError(
                f"layers in int16x8 need opset {INT16_OPSET} or later, not {opset}",
                where="onnx mixed",
            )
        wanted = INT16_OPSET
    if wanted > domain.version:
        # Of the operators that TFLite's become, none means anything else in later opsets.
        domain.version = wanted
        model.ir_version = onnx.helper.find_min_ir_version_for(list(model.opset_import))


def keep_float_layers(model: Any) -> None:
    """Keeps ONNX Runtime from quantizing layers that are meant to be float, in place.

    Between a DequantizeLinear and a QuantizeLinear it rounds float weights to 8 bits with one
    scale a tensor, and float biases to 32 bits, without a word. It does so only behind a
    DequantizeLinear with one scale: so that gets one a channel, all of them equal.
    """
    onnx = require("onnx", purpose=_PURPOSE)
    graph = model.graph
    shapes = _shapes(onnx, model)
    makers = {name: node for node in graph.node for name in node.output}
    constants = {value.name: value for value in graph.initializer}
    for node in [n for n in graph.node if n.op_type in _LAYERS]:
        source, weight = makers.get(node.input[0]), makers.get(node.input[1])
        if source is None or source.op_type != "DequantizeLinear":
            continue
        scale, zero = (onnx.numpy_helper.to_array(constants[name]) for name in source.input[1:3])
        if scale.size != 1 or (zero.dtype != np.int16 and weight is not None):
            continue  # int8 with integer weights is what the runtime computes in integers
        shape = shapes.get(source.input[0], ())
        axis = next((i for i in reversed(range(1, len(shape))) if shape[i] > 1), None)
        if axis is None:
            continue
        name = f"{node.name}__input"
        parameters = []
        for value, kind in ((scale, "scale"), (zero, "zero")):
            many = np.full(shape[axis], value.item(), value.dtype)
            graph.initializer.append(onnx.numpy_helper.from_array(many, f"{name}_{kind}"))
            parameters.append(f"{name}_{kind}")
        inputs = [source.input[0], *parameters]
        own = onnx.helper.make_node("DequantizeLinear", inputs, [name], name=name, axis=axis)
        graph.node.insert(list(graph.node).index(node), own)
        node.input[0] = name


def _shapes(onnx: Any, model: Any) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors as far as they can be inferred; 0 for free dimensions."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    return {
        value.name: tuple(size.dim_value for size in value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info, *graph.output)
    }


def _has_int16(onnx: Any, model: Any) -> bool:
    constants = {value.name: value for value in model.graph.initializer}
    zeros = (n.input[2] for n in model.graph.node if n.op_type == "QuantizeLinear")
    ports = (value.type.tensor_type.elem_type for value in model.graph.input)
    kinds = {constants[name].data_type for name in zeros} | set(ports)
    return onnx.TensorProto.INT16 in kinds
