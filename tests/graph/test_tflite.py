from __future__ import annotations

import contextlib
import csv
from pathlib import Path
from types import ModuleType
from typing import Any

import flatbuffers
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit.base.errors import InputError, ModelFileError
from edgekit.graph.tflite import constant_values, read_buffer, read_tflite
from edgekit.graph.types import Graph


@pytest.fixture(scope="module")
def small(tflite_files: ModuleType) -> bytes:
    return tflite_files.small_cnn()


@pytest.fixture(scope="module")
def graph(small: bytes) -> Graph:
    return read_buffer(small)


def test_operators(graph: Graph) -> None:
    assert [(op.name, op.kind, op.layer, op.macs) for op in graph.ops] == [
        ("CONV_2D", "conv", "conv", 8 * 8 * 4 * 27),
        ("DEPTHWISE_CONV_2D", "depthwise", "dw", 4 * 4 * 4 * 9),
        ("RESHAPE", "data", "flatten", 0),
        ("FULLY_CONNECTED", "dense", "dense", 64 * 5),
        ("SOFTMAX", "activation", "dense", 0),
    ]
    assert [op.index for op in graph.ops] == [0, 1, 2, 3, 4]
    assert graph.ops[3].inputs == (7, 8)  # its absent bias is left out


def test_an_operator_code_without_its_old_form(small: bytes) -> None:
    """ai-edge-quantizer writes the new field alone, also for numbers that fit the old one."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(bytearray(small), 0)
    for code in model.operatorCodes:
        code.deprecatedBuiltinCode = 0
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    found = read_buffer(bytes(builder.Output()))
    assert [op.name for op in found.ops] == [op.name for op in read_buffer(small).ops]


def test_attributes_are_plain_values(graph: Graph) -> None:
    conv, depthwise, _, dense, softmax = (op.attributes for op in graph.ops)
    assert (conv["padding"], conv["fused_activation_function"], conv["stride_h"]) == (
        "SAME",
        "RELU",
        1,
    )
    assert (depthwise["stride_w"], depthwise["depth_multiplier"]) == (2, 1)
    assert dense["keep_num_dims"] is True
    assert softmax == {"beta": 1.0, "version": 1}


def test_tensors(graph: Graph) -> None:
    image = graph.tensors[0]
    assert (image.shape, image.dtype, image.bytes) == ((None, 8, 8, 3), "int8", 192)
    assert image.quantization is not None
    assert (image.quantization.scale, image.quantization.zero_point) == ((0.5,), (-3,))
    kernel = graph.tensors[1]
    assert kernel.constant
    assert kernel.quantization is not None
    assert kernel.quantization.axis == 0
    assert kernel.quantization.scale == pytest.approx((0.1, 0.2, 0.3, 0.4))
    assert graph.parameters == 4 * 27 + 4 + 36 + 4 + 2 + 320
    assert graph.weight_bytes == 4 * 27 + 16 + 36 + 16 + 8 + 320


def test_ports_have_signature_names(graph: Graph) -> None:
    assert [(port.name, port.tensor) for port in graph.inputs] == [("image", 0)]
    assert [(port.name, port.tensor) for port in graph.outputs] == [("probabilities", 10)]
    assert graph.metadata["min_runtime_version"] == "2.3.0"


def test_litert_reads_the_same(small: bytes, graph: Graph) -> None:
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(model_content=small)
    interpreter.allocate_tensors()
    for detail in interpreter.get_tensor_details()[: len(graph.tensors)]:
        tensor = graph.tensors[detail["index"]]
        scales = tensor.quantization.scale if tensor.quantization else ()
        assert (tensor.name, np.dtype(tensor.dtype)) == (detail["name"], np.dtype(detail["dtype"]))
        found = detail["quantization_parameters"]["scales"].tolist()
        assert list(dict.fromkeys(found)) == list(scales)  # LiteRT repeats one scale a channel
        signature = [-1 if size is None else size for size in tensor.shape]
        assert detail["shape_signature"].tolist() in ([], signature)
    assert np.array_equal(interpreter.get_tensor(1), constant_values(small, 1))


def test_constant_values(small: bytes, tmp_path: Path) -> None:
    path = tmp_path / "small.tflite"
    path.write_bytes(small)
    assert constant_values(path, 6).tolist() == [-1, 64]
    assert constant_values(path, 2).dtype == np.int32
    for index in (0, 99):
        with pytest.raises(ModelFileError, match=r"no dense|no tensor"):
            constant_values(small, index)


@pytest.mark.parametrize(
    ("dtype", "shape", "data", "values"),
    [
        ("int4", [2, 3], bytes([0x7F, 0x80, 0x21]), [[-1, 7, 0], [-8, 1, 2]]),
        ("int4", [3], bytes([0x10, 0x02]), [0, 1, 2]),
        ("float16", [2], np.array([0.5, -2], np.float16).tobytes(), [0.5, -2]),
        ("bfloat16", [2], np.array([0x3F80, 0xC000], np.uint16).tobytes(), [1, -2]),
        ("bool", [2], bytes([1, 0]), [True, False]),
    ],
)
def test_packed_values(
    tflite_files: ModuleType, dtype: str, shape: list[int], data: bytes, values: list[Any]
) -> None:
    spec = tflite_files.TensorSpec("w", shape, dtype, data)
    content = tflite_files.build(tflite_files.GraphSpec([spec], [], [], [0]))
    assert constant_values(content, 0).tolist() == values
    assert read_buffer(content).weight_bytes == len(data)


def test_unknown_and_custom_operators(tflite_files: ModuleType) -> None:
    specs = [tflite_files.TensorSpec(name, [1, 4]) for name in "abc"]
    ops = [
        tflite_files.OpSpec(4000, [0], [1]),
        tflite_files.OpSpec("custom:edgetpu-custom-op", [1], [2]),
    ]
    graph = read_buffer(tflite_files.build(tflite_files.GraphSpec(specs, ops, [0], [2])))
    assert [(op.name, op.kind, op.macs) for op in graph.ops] == [
        ("BUILTIN_4000", "other", 0),
        ("edgetpu-custom-op", "custom", 0),
    ]


def _dense(tflite_files: ModuleType, *, weights: bool) -> Any:
    """One FULLY_CONNECTED of 4 to 3, its weights a constant or a second input."""
    kernel = np.ones((3, 4), np.float32).tobytes() if weights else None
    specs = [
        tflite_files.TensorSpec("x", [2, 4]),
        tflite_files.TensorSpec("w", [3, 4], data=kernel),
        tflite_files.TensorSpec("y", [2, 3]),
    ]
    op = tflite_files.OpSpec("FULLY_CONNECTED", [0, 1, -1], [2])
    return tflite_files.GraphSpec(specs, [op], [0] if weights else [0, 1], [2])


def test_weights_that_are_computed_make_a_matmul(tflite_files: ModuleType) -> None:
    for weights, kind in ((True, "dense"), (False, "matmul")):
        (op,) = read_buffer(tflite_files.build(_dense(tflite_files, weights=weights))).ops
        assert (op.kind, op.macs) == (kind, 2 * 3 * 4)


def test_weights_behind_a_dequantize_are_weights(tflite_files: ModuleType) -> None:
    main = _dense(tflite_files, weights=False)
    half = np.ones((3, 4), np.float16).tobytes()
    specs = [*main.tensors, tflite_files.TensorSpec("half", [3, 4], "float16", half)]
    ops = [tflite_files.OpSpec("DEQUANTIZE", [3], [1]), *main.ops]
    graph = read_buffer(tflite_files.build(tflite_files.GraphSpec(specs, ops, [0], [2])))
    assert graph.ops[1].kind == "dense"


def test_recurrent_and_transposed_macs(tflite_files: ModuleType) -> None:
    def weights(*shape: int) -> Any:
        return tflite_files.TensorSpec("w", shape, data=np.ones(shape, np.float32).tobytes())

    spec = tflite_files.TensorSpec
    lstm = [spec("x", [1, 7, 5]), *[weights(6, 5)] * 4, *[weights(6, 6)] * 4, weights(6),
            spec("state", [1, 6]), spec("y", [1, 7, 6])]  # fmt: skip
    op = tflite_files.OpSpec("UNIDIRECTIONAL_SEQUENCE_LSTM", [*range(11)], [11])
    graph = read_buffer(tflite_files.build(tflite_files.GraphSpec(lstm, [op], [0], [11])))
    assert (graph.ops[0].kind, graph.macs) == ("recurrent", 7 * 4 * (6 * 5 + 6 * 6))

    up = [weights(4), weights(3, 2, 2, 8), spec("x", [1, 5, 5, 8]), spec("y", [1, 10, 10, 3])]
    op = tflite_files.OpSpec("TRANSPOSE_CONV", [0, 1, 2], [3])
    graph = read_buffer(tflite_files.build(tflite_files.GraphSpec(up, [op], [2], [3])))
    assert (graph.ops[0].kind, graph.macs) == ("conv", 5 * 5 * 8 * 2 * 2 * 3)


def test_a_loop_counts_one_execution_of_its_body(tflite_files: ModuleType) -> None:
    spec = tflite_files.TensorSpec
    loop = tflite_files.OpSpec(
        "WHILE", [0], [1], {"CondSubgraphIndex": 1, "BodySubgraphIndex": 2}, "WhileOptions"
    )
    main = tflite_files.GraphSpec([spec("x", [2, 4]), spec("y", [2, 4])], [loop], [0], [1])
    condition = tflite_files.GraphSpec([spec("c", [1], "bool")], [], [0], [0])
    body = _dense(tflite_files, weights=True)
    content = tflite_files.build(main, condition, body)
    graph = read_buffer(content)
    assert (graph.ops[0].kind, graph.macs) == ("control", 2 * 3 * 4)
    assert graph.parameters == 12
    assert graph.tensors[2].name == "w"
    assert constant_values(content, 2).shape == (3, 4)


def test_a_graph_that_calls_itself_ends(tflite_files: ModuleType) -> None:
    spec = tflite_files.TensorSpec
    loop = tflite_files.OpSpec("WHILE", [0], [1], {"BodySubgraphIndex": 0}, "WhileOptions")
    main = tflite_files.GraphSpec([spec("x", [2]), spec("y", [2])], [loop], [0], [1])
    assert read_buffer(tflite_files.build(main)).macs == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: setattr(t[0], "shape", [-2, 8, 8, 3]), "has shape"),
        (lambda t: setattr(t[1], "shape", [400, 3, 3, 3]), "the file holds"),
        (lambda t: setattr(t[1], "scale", [0.1, 0.2, float("inf"), 0.4]), "quantization"),
        (lambda t: setattr(t[1], "axis", 4), "quantization"),
        (lambda t: setattr(t[1], "zero_point", [0, 0, 0]), "quantization"),
    ],
)
def test_impossible_tensors(tflite_files: ModuleType, change: Any, message: str) -> None:
    content = tflite_files.small_cnn(change)
    with pytest.raises(ModelFileError, match=message):
        read_buffer(content)


def test_operators_of_tensors_that_are_not_there(tflite_files: ModuleType) -> None:
    for inputs in ([5], [-2]):
        op = tflite_files.OpSpec("RELU", inputs, [0])
        spec = tflite_files.GraphSpec([tflite_files.TensorSpec("x", [1])], [op], [0], [0])
        with pytest.raises(ModelFileError, match="tensors"):
            read_buffer(tflite_files.build(spec))


def test_a_small_file_that_unfolds_into_a_huge_one_is_refused(
    tflite_files: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = tflite_files._tensor
    once: list[int] = []  # a thousand tensors are a thousand times one table

    def shared_table(builder: Any, spec: Any, buffers: Any) -> int:
        if not once:
            once.append(original(builder, spec, buffers))
        return once[0]

    monkeypatch.setattr(tflite_files, "_tensor", shared_table)
    spec = tflite_files.TensorSpec("n" * 10_000, [1])
    content = tflite_files.build(tflite_files.GraphSpec([spec] * 1000, [], [0], [0]))
    assert len(content) < 20_000
    with pytest.raises(ModelFileError, match="unfolds"):
        read_buffer(content)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cut=st.integers(min_value=0))
def test_truncated(small: bytes, cut: int) -> None:
    with pytest.raises(ModelFileError) as caught:
        read_buffer(small[: cut % len(small)], where="cut.tflite")
    assert caught.value.where == "cut.tflite"
    assert caught.value.hint
    for internal in ("unpack", "buffer size", "NoneType", "index out of range", "offset"):
        assert internal not in caught.value.message


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_flipped_bytes(small: bytes, data: st.DataObject) -> None:
    content = bytearray(small)
    for _ in range(data.draw(st.integers(1, 12))):
        content[data.draw(st.integers(8, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        graph = read_buffer(bytes(content))
    except ModelFileError:
        return
    for tensor in graph.tensors:
        if tensor.constant:
            with contextlib.suppress(ModelFileError):
                assert constant_values(bytes(content), tensor.index).size == tensor.elements


@given(noise=st.binary(max_size=400))
def test_noise_behind_the_identifier(noise: bytes) -> None:
    with pytest.raises(ModelFileError):
        read_buffer(b"\x10\0\0\0TFL3" + noise)


@pytest.mark.parametrize("content", [b"", b"\x08\x03", b"PK\x03\x04 a zip", b"<?xml version"])
def test_another_format(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="not a TFLite file") as caught:
        read_tflite(path)
    assert caught.value.where == str(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_tflite(tmp_path / "none.tflite")


# models.csv counts convolutions and dense layers only: the LSTM of this file is 28 steps of
# 4 x (20 x 28 + 20 x 20) weights more.
LSTM_MACS = {"coral_keras_lstm_mnist_ptq.tflite": 28 * 4 * (20 * 28 + 20 * 20)}


def test_every_third_party_file(shared: Path) -> None:
    """Parameters, weight bytes, operators and MACs equal an independent count: no tolerance."""
    with (shared / "models/models.csv").open() as handle:
        rows = [row for row in csv.DictReader(handle) if row["file"].endswith(".tflite")]
    assert len(rows) >= 28
    for row in rows:
        graph = read_tflite(shared / "models" / row["file"])
        assert graph.parameters == int(row["params"]), row["file"]
        assert graph.weight_bytes == int(row["param_bytes"]), row["file"]
        assert graph.macs == int(row["macs"]) + LSTM_MACS.get(row["file"], 0), row["file"]
        assert len(graph.ops) == int(row["n_ops"]), row["file"]
        assert graph.file_bytes == int(row["bytes"]), row["file"]
        assert all(op.kind not in ("other", "control") for op in graph.ops), row["file"]
        names = {f"CUSTOM:{op.name}" if op.kind == "custom" else op.name for op in graph.ops}
        assert names == {entry.rpartition(":")[0] for entry in row["ops"].split(";")}
