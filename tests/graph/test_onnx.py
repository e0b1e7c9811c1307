from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.base.errors import ModelFileError
from edgekit.graph.onnx import read_onnx
from edgekit.graph.tflite import read_tflite
from edgekit.graph.types import Graph
from edgekit.profiling.memory.arena import plan

onnx = pytest.importorskip("onnx")
helper = onnx.helper
FLOAT = onnx.TensorProto.FLOAT


def const(name: str, *shape: int, dtype: str = "float32") -> Any:
    return onnx.numpy_helper.from_array(np.ones(shape, dtype), name)


def write(
    path: Path,
    nodes: list[Any],
    inputs: dict[str, list[int | str]],
    outputs: list[str],
    constants: list[Any],
    **save: Any,
) -> Graph:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs],
        constants,
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("my.domain", 1)]
    model = helper.make_model(graph, opset_imports=opsets)
    onnx.save(model, path, **save)
    return read_onnx(path)


@pytest.mark.parametrize(
    ("op", "data", "weights", "attributes", "kind", "macs"),
    [
        ("Conv", [1, 3, 8, 8], [[4, 3, 3, 3]], {"pads": [1, 1, 1, 1]}, "conv", 8 * 8 * 4 * 27),
        ("Conv", [1, 4, 8, 8], [[6, 2, 1, 1]], {"group": 2}, "pointwise", 8 * 8 * 6 * 2),
        ("Conv", [1, 4, 8, 8], [[4, 1, 3, 3]], {"group": 4}, "depthwise", 6 * 6 * 4 * 9),
        ("Conv", [1, 2, 9], [[5, 2, 3]], {"strides": [2]}, "conv", 4 * 5 * 6),
        ("ConvTranspose", [1, 8, 5, 5], [[8, 3, 2, 2]], {"strides": [2, 2]}, "conv",
         5 * 5 * 8 * 3 * 4),
        ("Gemm", [2, 8], [[8, 5]], {}, "dense", 2 * 8 * 5),
        ("Gemm", [8, 2], [[5, 8]], {"transA": 1, "transB": 1}, "dense", 2 * 8 * 5),
        ("MatMul", [3, 2, 8], [[8, 5]], {}, "dense", 3 * 2 * 8 * 5),
        ("LSTM", [7, 1, 5], [[1, 24, 5], [1, 24, 6]], {"hidden_size": 6}, "recurrent",
         7 * 4 * (6 * 5 + 6 * 6)),
        ("GRU", [7, 1, 5], [[1, 18, 5], [1, 18, 6]], {"hidden_size": 6}, "recurrent",
         7 * 3 * (6 * 5 + 6 * 6)),
        ("MaxPool", [1, 3, 8, 8], [], {"kernel_shape": [2, 2]}, "pool", 0),
    ],
)  # fmt: skip
def test_macs(
    tmp_path: Path,
    op: str,
    data: list[int | str],
    weights: list[list[int]],
    attributes: dict[str, Any],
    kind: str,
    macs: int,
) -> None:
    constants = [const(f"w{i}", *shape) for i, shape in enumerate(weights)]
    node = helper.make_node(op, ["x", *(c.name for c in constants)], ["y"], "node", **attributes)
    graph = write(tmp_path / "m.onnx", [node], {"x": data}, ["y"], constants)
    assert [(op.name, op.kind, op.macs, op.layer) for op in graph.ops] == [(op, kind, macs, "node")]
    assert graph.parameters == sum(int(np.prod(shape)) for shape in weights)
    assert all(graph.ops[0].attributes[name] == value for name, value in attributes.items())


def test_rows_of_all_places_of_a_free_number_of_images(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "flat"], ["rows"], "reshape"),
        helper.make_node("MatMul", ["rows", "w"], ["y"], "dense"),
    ]
    flat = onnx.numpy_helper.from_array(np.array([-1, 3]), "flat")
    graph = write(
        tmp_path / "m.onnx", nodes, {"x": ["n", 8, 8, 3]}, ["y"], [flat, const("w", 3, 5)]
    )
    shapes = {tensor.name: tensor.shape for tensor in graph.tensors}
    assert shapes["x"] == (None, 8, 8, 3), "the number of images is still free"
    assert shapes["rows"] == (64, 3)
    assert graph.macs == 64 * 3 * 5


def test_two_computed_matrices_are_a_matmul(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["a", "b"], ["y"])
    shapes: dict[str, list[int | str]] = {"a": ["N", 4, 8], "b": ["N", 8, 4]}
    graph = write(tmp_path / "m.onnx", [node], shapes, ["y"], [])
    assert (graph.ops[0].kind, graph.macs) == ("matmul", 4 * 4 * 8)
    assert graph.tensors[graph.inputs[0].tensor].shape == (None, 4, 8)


def test_qdq(tmp_path: Path) -> None:
    constants = [
        const("s", dtype="float32"), const("z", dtype="int8"), const("w", 5, 8, dtype="int8"),
        onnx.numpy_helper.from_array(np.arange(1, 6, dtype=np.float32), "ws"),
        const("wz", 5, dtype="int8"),
    ]  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=0),
        helper.make_node("Gemm", ["d", "wd"], ["g"], "/head/fc/Gemm", transB=1),
        helper.make_node("Relu", ["g"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "s", "z"], ["rq"]),
        helper.make_node("DequantizeLinear", ["rq", "s", "z"], ["y"]),
    ]
    graph = write(tmp_path / "m.onnx", nodes, {"x": ["N", 8]}, ["y"], constants)
    by_name = {tensor.name: tensor for tensor in graph.tensors}
    assert graph.ops[3].kind == "dense"
    assert by_name["w"].quantization is not None
    assert by_name["w"].quantization.axis == 0
    assert by_name["w"].quantization.scale == (1, 2, 3, 4, 5)
    assert by_name["q"].quantization is not None
    assert (by_name["q"].dtype, by_name["q"].quantization.zero_point) == ("int8", (1,))
    assert by_name["d"].quantization is None
    # The float input and output and two int8 activations: no other float tensor has memory.
    assert sorted(block.bytes for block in plan(graph).blocks) == [5, 8, 20, 32]


def test_constant_nodes_are_constants(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Constant", [], ["shape"], value_ints=[1, 8]),
        helper.make_node("Constant", [], ["w"], value=const("", 8, 2)),
        helper.make_node("Reshape", ["x", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y"]),
    ]
    graph = write(tmp_path / "m.onnx", nodes, {"x": [2, 4]}, ["y"], [])
    assert [(op.index, op.name, op.kind) for op in graph.ops] == [
        (0, "Reshape", "data"),
        (1, "MatMul", "dense"),
    ]
    assert (graph.macs, graph.parameters, graph.weight_bytes) == (16, 18, 16 + 64)


def test_weights_beside_the_file(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    path = tmp_path / "m.onnx"
    save = {"save_as_external_data": True, "location": "m.data", "size_threshold": 0}
    graph = write(path, [node], {"x": [1, 64]}, ["y"], [const("w", 64, 4)], **save)
    assert graph.parameters == 256
    assert graph.file_bytes == path.stat().st_size + (tmp_path / "m.data").stat().st_size
    content = (tmp_path / "m.data").read_bytes()
    (tmp_path / "m.data").write_bytes(content[:100])
    with pytest.raises(ModelFileError, match="missing or truncated"):
        read_onnx(path)
    (tmp_path / "m.data").unlink()
    with pytest.raises(ModelFileError, match="missing or truncated"):
        read_onnx(path)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"location": "../../secret"}, "outside its folder"),
        ({"location": "m.data", "offset": "far"}, "not a valid ONNX file"),
    ],
)
def test_hostile_places_of_weights(tmp_path: Path, entry: dict[str, str], message: str) -> None:
    weights = const("w", 8, 2)
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    for key, value in entry.items():
        weights.external_data.add(key=key, value=value)
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", FLOAT, [1, 8])],
            [helper.make_tensor_value_info("y", FLOAT, None)],
            [weights],
        )
    )
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match=message):
        read_onnx(tmp_path / "m.onnx")


def test_custom_domains(tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["x"], ["y"], domain="my.domain")
    graph = write(tmp_path / "m.onnx", [node], {"x": [1, 8]}, ["y"], [])
    assert (graph.ops[0].kind, graph.macs) == ("custom", 0)
    assert graph.ops[0].attributes["domain"] == "my.domain"


@pytest.mark.parametrize("domain", ["", "qonnx.custom_op.general", "onnx.brevitas"])
def test_quantizers_of_qonnx_are_known_in_their_domains(tmp_path: Path, domain: str) -> None:
    scalars = [const(name) for name in ("scale", "zero", "bits")]
    node = helper.make_node("Quant", ["x", "scale", "zero", "bits"], ["y"], domain=domain)
    graph = write(tmp_path / "m.onnx", [node], {"x": [1, 8]}, ["y"], scalars)
    assert graph.ops[0].kind == "quantize"
    assert graph.tensors[graph.outputs[0].tensor].shape == (1, 8)


def test_names_that_are_not_text(valid: bytes, tmp_path: Path) -> None:
    for name in (b"Conv", b"conv", b"Relu"):
        (tmp_path / "m.onnx").write_bytes(valid.replace(name, b"\xff\xfe" + name[2:]))
        with pytest.raises(ModelFileError, match="UTF-8"):
            read_onnx(tmp_path / "m.onnx")


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("onnx") / "m.onnx"
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["y"], "relu"),
    ]
    write(path, nodes, {"x": ["N", 3, 8, 8]}, ["y"], [const("w", 4, 3, 3, 3)])
    return path.read_bytes()


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged(
    valid: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(valid)
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    try:
        graph = read_onnx(path)
    except ModelFileError:
        return
    assert graph.weight_bytes >= 0
    assert plan(graph).arena_bytes >= 0


def test_third_party_file(shared: Path) -> None:
    """The FPGA submission's keyword network: 490-256-256-256-12, weights quantized by QONNX."""
    graph = read_onnx(shared / "models/hls4mlfinn_KWS-W3A3.qonnx.onnx")
    assert graph.macs == 490 * 256 + 2 * 256 * 256 + 256 * 12
    assert sum(op.kind == "dense" for op in graph.ops) == 4


@pytest.mark.slow
def test_derived_from_tflite(shared: Path, tmp_path: Path) -> None:
    """A QDQ file made from a TFLite file has its layers, MACs, scales and memory."""
    convert = pytest.importorskip("tf2onnx.convert")
    source = shared / "models/mlperf_tiny_kws_int8.tflite"
    path = tmp_path / "kws.onnx"
    convert.from_tflite(str(source), opset=18, output_path=str(path))
    ours, theirs = read_onnx(path), read_tflite(source)
    assert ours.macs == theirs.macs
    layers = [op.layer for op in theirs.ops if op.macs]
    assert [op.layer for op in ours.ops if op.macs] == layers
    assert plan(ours).arena_bytes == plan(theirs).arena_bytes
