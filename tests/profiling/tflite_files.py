"""TFLite files of one operator, built without a converter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
import pytest

CODES = {"float32": 0, "int32": 2, "int16": 7, "int8": 9, "int4": 17}
_BITS = {"float32": 32, "int32": 32, "int16": 16, "int8": 8, "int4": 4}


@dataclass(frozen=True)
class Slot:
    """A tensor; `values` makes it a constant (True: zeros)."""

    shape: tuple[int, ...]
    dtype: str = "int8"
    values: list[int] | bool = False
    variable: bool = False
    zero_point: int = 0


def one_op(
    name: str,
    slots: list[Slot],
    inputs: list[int],
    outputs: list[int],
    options: str | None = None,
    **fields: Any,
) -> bytes:
    """A file with one operator; `options` is the schema's name of its parameters' table."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.buffers = 3, [schema.BufferT()]
    graph.tensors = []
    for index, slot in enumerate(slots):
        tensor = schema.TensorT()
        tensor.shape, tensor.type, tensor.name = list(slot.shape), CODES[slot.dtype], f"t{index}"
        tensor.isVariable, tensor.buffer = slot.variable, 0
        if slot.values is not False:
            tensor.buffer = len(model.buffers)
            model.buffers.append(schema.BufferT())
            model.buffers[-1].data = _content(slot)
        if slot.dtype in ("int4", "int8", "int16") or (
            slot.dtype == "int32" and slot.values is True
        ):
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = [2**-16 if slot.dtype == "int32" else 2**-8]
            tensor.quantization.zeroPoint = [slot.zero_point]
        graph.tensors.append(tensor)
    op, code = schema.OperatorT(), schema.OperatorCodeT()
    op.opcodeIndex, op.inputs, op.outputs = 0, inputs, outputs
    if options:
        op.builtinOptions = getattr(schema, f"{options}T")()
        op.builtinOptionsType = getattr(schema.BuiltinOptions, options)
        for key, value in fields.items():
            setattr(op.builtinOptions, key, value)
    code.builtinCode = getattr(schema.BuiltinOperator, name)
    code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 1
    graph.operators, graph.outputs = [op], outputs
    graph.inputs = [
        i for i in inputs if i >= 0 and slots[i].values is False and not slots[i].variable
    ]
    model.subgraphs, model.operatorCodes = [graph], [code]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _content(slot: Slot) -> Any:
    if isinstance(slot.values, list):
        return np.frombuffer(np.array(slot.values, slot.dtype).tobytes(), np.uint8)
    return np.zeros((int(np.prod(slot.shape)) * _BITS[slot.dtype] + 7) // 8, np.uint8)
