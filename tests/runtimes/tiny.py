"""Model files of one dense layer, y = W x + b, written by hand in the three formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np

WEIGHTS = np.array([[1, -2, 3], [-4, 5, 6]], np.float32)
BIAS = np.array([1, -1], np.float32)


def expected(x: np.ndarray) -> np.ndarray:
    return x @ WEIGHTS.T + BIAS


def write_onnx(path: Path, *, props: dict[str, str] | None = None) -> Path:
    from onnx import TensorProto, helper, numpy_helper, save_model

    graph = helper.make_graph(
        [helper.make_node("Gemm", ["features", "w", "b"], ["scores"], transB=1)],
        "tiny",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(WEIGHTS, "w"), numpy_helper.from_array(BIAS, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, props or {})
    save_model(model, path)
    return path


def write_openvino(path: Path, *, record: str | None = None) -> Path:
    import openvino as ov
    from openvino import opset13 as ops

    features = ops.parameter([1, 3], np.float32, name="features")
    features.output(0).get_tensor().set_names({"features"})
    product = ops.matmul(features, ops.constant(WEIGHTS), False, True)
    scores = ops.add(product, ops.constant(BIAS))
    scores.output(0).get_tensor().set_names({"scores"})
    model = ov.Model([scores], [features], "tiny")
    if record is not None:
        model.set_rt_info(record, ["edgekit", "io"])
    ov.save_model(model, path)
    return path


def write_tflite(path: Path, *, signature: bool = True, custom: str | None = None) -> Path:
    """The layer as FULLY_CONNECTED, or as a custom operator of the given name."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT()
    model.version = 3
    model.buffers = [schema.BufferT() for _ in range(5)]
    model.buffers[2].data = np.frombuffer(WEIGHTS.tobytes(), np.uint8)
    model.buffers[3].data = np.frombuffer(BIAS.tobytes(), np.uint8)
    graph = schema.SubGraphT()
    graph.tensors = []
    for name, shape, buffer in (
        ("in0", [1, 3], 1),
        ("weights", [2, 3], 2),
        ("bias", [2], 3),
        ("out0", [1, 2], 4),
    ):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = name, shape, buffer
        tensor.type = schema.TensorType.FLOAT32
        graph.tensors.append(tensor)
    graph.inputs, graph.outputs = [0], [3]
    operator = schema.OperatorT()
    operator.inputs, operator.outputs = [0, 1, 2], [3]
    code = schema.OperatorCodeT()
    if custom is None:
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
        operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
        operator.builtinOptions = schema.FullyConnectedOptionsT()
    else:
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
        code.customCode = custom
    graph.operators = [operator]
    model.operatorCodes, model.subgraphs = [code], [graph]
    if signature:
        definition = schema.SignatureDefT()
        definition.signatureKey, definition.subgraphIndex = "serving_default", 0
        definition.inputs, definition.outputs = [schema.TensorMapT()], [schema.TensorMapT()]
        definition.inputs[0].name, definition.inputs[0].tensorIndex = "features", 0
        definition.outputs[0].name, definition.outputs[0].tensorIndex = "scores", 3
        model.signatureDefs = [definition]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path
