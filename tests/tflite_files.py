"""Small .tflite files, built with the schema's own builder functions: no TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
import tflite

TYPES = {name.lower(): number for name, number in vars(tflite.TensorType).items() if name.isupper()}


@dataclass
class TensorSpec:
    name: str
    shape: Sequence[int]
    dtype: str = "float32"
    data: bytes | None = None
    scale: Sequence[float] = ()
    zero_point: Sequence[int] = ()
    axis: int = 0
    signature: Sequence[int] = ()


@dataclass
class OpSpec:
    code: str | int  # builtin name or number; "custom:NAME"
    inputs: Sequence[int]
    outputs: Sequence[int]
    options: dict[str, Any] = field(default_factory=dict)
    options_class: str = ""


@dataclass
class GraphSpec:
    tensors: Sequence[TensorSpec]
    ops: Sequence[OpSpec]
    inputs: Sequence[int]
    outputs: Sequence[int]


def build(*graphs: GraphSpec, names: dict[str, dict[str, int]] | None = None) -> bytes:
    """A file of one or more graphs; `names` are those of the signature, by "Inputs", "Outputs"."""
    builder = flatbuffers.Builder(1024)
    buffers: list[bytes | None] = [None]
    codes: list[str | int] = []
    subgraphs = [_subgraph(builder, graph, buffers, codes) for graph in graphs]
    metadata_name = builder.CreateString("min_runtime_version")
    buffers.append(b"2.3.0" + b"\0" * 11)
    tflite.MetadataStart(builder)
    tflite.MetadataAddName(builder, metadata_name)
    tflite.MetadataAddBuffer(builder, len(buffers) - 1)
    metadata = _vector(builder, [tflite.MetadataEnd(builder)])
    signatures = _vector(builder, [_signature(builder, names)]) if names else None
    code_vector = _vector(builder, [_code(builder, code) for code in codes])
    buffer_vector = _vector(builder, [_buffer(builder, content) for content in buffers])
    subgraph_vector = _vector(builder, subgraphs)
    description = builder.CreateString("built by a test")
    tflite.ModelStart(builder)
    tflite.ModelAddVersion(builder, 3)
    tflite.ModelAddOperatorCodes(builder, code_vector)
    tflite.ModelAddSubgraphs(builder, subgraph_vector)
    tflite.ModelAddDescription(builder, description)
    tflite.ModelAddBuffers(builder, buffer_vector)
    tflite.ModelAddMetadata(builder, metadata)
    if signatures is not None:
        tflite.ModelAddSignatureDefs(builder, signatures)
    builder.Finish(tflite.ModelEnd(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def small_cnn(change: Callable[[list[TensorSpec]], None] = lambda _: None) -> bytes:
    """int8: conv 3x3 (per-channel weights), depthwise, reshape, dense, softmax; free batch.

    `change` may spoil the tensors before the file is built.
    """
    rng = np.random.default_rng(0)

    def weights(*shape: int) -> bytes:
        return rng.integers(-127, 128, shape, np.int8).tobytes()

    q = {"dtype": "int8", "scale": [0.5], "zero_point": [-3]}
    bias = np.arange(4, dtype=np.int32).tobytes()
    tensors = [
        TensorSpec("serving_default_image:0", [1, 8, 8, 3], signature=[-1, 8, 8, 3], **q),
        TensorSpec(
            "net/conv/Conv2D", [4, 3, 3, 3], "int8", weights(4, 3, 3, 3),
            [0.1, 0.2, 0.3, 0.4], [0, 0, 0, 0],
        ),
        TensorSpec(
            "net/conv/BiasAdd/ReadVariableOp", [4], "int32", bias,
            [0.05, 0.1, 0.15, 0.2], [0, 0, 0, 0],
        ),
        TensorSpec(
            "net/relu/Relu;net/conv/BiasAdd;net/conv/Conv2D1", [1, 8, 8, 4],
            signature=[-1, 8, 8, 4], **q,
        ),
        TensorSpec("net/dw/depthwise", [1, 3, 3, 4], "int8", weights(1, 3, 3, 4), [0.1], [0]),
        TensorSpec("net/dw/depthwise1", [1, 4, 4, 4], signature=[-1, 4, 4, 4], **q),
        TensorSpec("shape", [2], "int32", np.array([-1, 64], np.int32).tobytes()),
        TensorSpec("net/flatten/Reshape", [1, 64], signature=[-1, 64], **q),
        TensorSpec("net/dense/MatMul", [5, 64], "int8", weights(5, 64), [0.1], [0]),
        TensorSpec("net/dense/BiasAdd", [1, 5], signature=[-1, 5], **q),
        TensorSpec(
            "StatefulPartitionedCall:0", [1, 5], "int8", None, [1 / 256], [-128],
            signature=[-1, 5],
        ),
        TensorSpec("net/dw/BiasAdd", [4], "int32", bias, [0.05], [0]),
    ]  # fmt: skip
    ops = [
        OpSpec(
            "CONV_2D", [0, 1, 2], [3],
            {"StrideW": 1, "StrideH": 1, "FusedActivationFunction": 1, "Padding": 0,
             "DilationWFactor": 1, "DilationHFactor": 1}, "Conv2DOptions",
        ),
        OpSpec(
            "DEPTHWISE_CONV_2D", [3, 4, 11], [5],
            {"StrideW": 2, "StrideH": 2, "DepthMultiplier": 1, "Padding": 0},
            "DepthwiseConv2DOptions",
        ),
        OpSpec("RESHAPE", [5, 6], [7]),
        OpSpec("FULLY_CONNECTED", [7, 8, -1], [9], {"KeepNumDims": True}, "FullyConnectedOptions"),
        OpSpec("SOFTMAX", [9], [10], {"Beta": 1.0}, "SoftmaxOptions"),
    ]  # fmt: skip
    change(tensors)
    names = {"Inputs": {"image": 0}, "Outputs": {"probabilities": 10}}
    return build(GraphSpec(tensors, ops, [0], [10]), names=names)


def _vector(builder: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _numbers(builder: flatbuffers.Builder, values: Sequence[float], dtype: str) -> int:
    return int(builder.CreateNumpyVector(np.array(values, dtype)))


def _subgraph(
    builder: flatbuffers.Builder,
    graph: GraphSpec,
    buffers: list[bytes | None],
    codes: list[str | int],
) -> int:
    tensors = _vector(builder, [_tensor(builder, spec, buffers) for spec in graph.tensors])
    ops = _vector(builder, [_op(builder, spec, codes) for spec in graph.ops])
    inputs = _numbers(builder, graph.inputs, "int32")
    outputs = _numbers(builder, graph.outputs, "int32")
    name = builder.CreateString("main")
    tflite.SubGraphStart(builder)
    tflite.SubGraphAddTensors(builder, tensors)
    tflite.SubGraphAddInputs(builder, inputs)
    tflite.SubGraphAddOutputs(builder, outputs)
    tflite.SubGraphAddOperators(builder, ops)
    tflite.SubGraphAddName(builder, name)
    return int(tflite.SubGraphEnd(builder))


def _tensor(builder: flatbuffers.Builder, spec: TensorSpec, buffers: list[bytes | None]) -> int:
    name = builder.CreateString(spec.name)
    shape = _numbers(builder, spec.shape, "int32")
    signature = _numbers(builder, spec.signature, "int32") if spec.signature else None
    quantization = _quantization(builder, spec) if spec.scale else None
    buffer = 0
    if spec.data is not None:
        buffers.append(spec.data)
        buffer = len(buffers) - 1
    tflite.TensorStart(builder)
    tflite.TensorAddName(builder, name)
    tflite.TensorAddShape(builder, shape)
    tflite.TensorAddType(builder, TYPES[spec.dtype])
    tflite.TensorAddBuffer(builder, buffer)
    if signature is not None:
        tflite.TensorAddShapeSignature(builder, signature)
    if quantization is not None:
        tflite.TensorAddQuantization(builder, quantization)
    return int(tflite.TensorEnd(builder))


def _quantization(builder: flatbuffers.Builder, spec: TensorSpec) -> int:
    scale = _numbers(builder, spec.scale, "float32")
    zero_point = _numbers(builder, spec.zero_point, "int64")
    tflite.QuantizationParametersStart(builder)
    tflite.QuantizationParametersAddScale(builder, scale)
    tflite.QuantizationParametersAddZeroPoint(builder, zero_point)
    tflite.QuantizationParametersAddQuantizedDimension(builder, spec.axis)
    return int(tflite.QuantizationParametersEnd(builder))


def _op(builder: flatbuffers.Builder, spec: OpSpec, codes: list[str | int]) -> int:
    if spec.code not in codes:
        codes.append(spec.code)
    inputs = _numbers(builder, spec.inputs, "int32")
    outputs = _numbers(builder, spec.outputs, "int32")
    options = None
    if spec.options_class:
        getattr(tflite, f"{spec.options_class}Start")(builder)
        for name, value in spec.options.items():
            getattr(tflite, f"{spec.options_class}Add{name}")(builder, value)
        options = getattr(tflite, f"{spec.options_class}End")(builder)
    tflite.OperatorStart(builder)
    tflite.OperatorAddOpcodeIndex(builder, codes.index(spec.code))
    tflite.OperatorAddInputs(builder, inputs)
    tflite.OperatorAddOutputs(builder, outputs)
    if options is not None:
        number = getattr(tflite.BuiltinOptions, spec.options_class)
        tflite.OperatorAddBuiltinOptionsType(builder, number)
        tflite.OperatorAddBuiltinOptions(builder, options)
    return int(tflite.OperatorEnd(builder))


def _code(builder: flatbuffers.Builder, code: str | int) -> int:
    custom = None
    if isinstance(code, str) and code.startswith("custom:"):
        custom = builder.CreateString(code.removeprefix("custom:"))
        number = tflite.BuiltinOperator.CUSTOM
    else:
        number = code if isinstance(code, int) else getattr(tflite.BuiltinOperator, code)
    tflite.OperatorCodeStart(builder)
    tflite.OperatorCodeAddDeprecatedBuiltinCode(builder, min(number, 127))
    tflite.OperatorCodeAddBuiltinCode(builder, number)
    tflite.OperatorCodeAddVersion(builder, 1)
    if custom is not None:
        tflite.OperatorCodeAddCustomCode(builder, custom)
    return int(tflite.OperatorCodeEnd(builder))


def _buffer(builder: flatbuffers.Builder, content: bytes | None) -> int:
    data = builder.CreateByteVector(content) if content is not None else None
    tflite.BufferStart(builder)
    if data is not None:
        tflite.BufferAddData(builder, data)
    return int(tflite.BufferEnd(builder))


def _signature(builder: flatbuffers.Builder, names: dict[str, dict[str, int]]) -> int:
    maps = {}
    for field_name, entries in names.items():
        offsets = []
        for name, tensor in entries.items():
            text = builder.CreateString(name)
            tflite.TensorMapStart(builder)
            tflite.TensorMapAddName(builder, text)
            tflite.TensorMapAddTensorIndex(builder, tensor)
            offsets.append(tflite.TensorMapEnd(builder))
        maps[field_name] = _vector(builder, offsets)
    key = builder.CreateString("serving_default")
    tflite.SignatureDefStart(builder)
    tflite.SignatureDefAddInputs(builder, maps["Inputs"])
    tflite.SignatureDefAddOutputs(builder, maps["Outputs"])
    tflite.SignatureDefAddSignatureKey(builder, key)
    return int(tflite.SignatureDefEnd(builder))
