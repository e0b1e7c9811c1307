from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.base.errors import ModelFileError
from edgekit.graph.openvino import read_openvino
from edgekit.graph.tflite import read_tflite
from edgekit.graph.types import Graph, Op
from edgekit.profiling.memory.arena import plan

ov = pytest.importorskip("openvino")
opset = pytest.importorskip("openvino.opset13")


def save(path: Path, output: Any, *inputs: Any, compress: bool = False) -> Path:
    ov.save_model(ov.Model([output], list(inputs), "net"), path, compress_to_fp16=compress)
    return path


def ones(*shape: int, dtype: str = "float32") -> Any:
    # Not all equal, or OpenVINO stores one value.
    values = np.arange(np.prod(shape), dtype=np.int64).reshape(shape) % 7
    return opset.constant(values.astype(dtype))


def parameter(*shape: int) -> Any:
    return opset.parameter(list(shape), np.float32, name="x")


@pytest.mark.parametrize(
    ("make", "data", "kind", "macs"),
    [
        (lambda x: opset.convolution(x, ones(4, 3, 3, 3), [1, 1], [1, 1], [1, 1], [1, 1]),
         [-1, 3, 8, 8], "conv", 8 * 8 * 4 * 27),
        (lambda x: opset.convolution(x, ones(4, 3, 1, 1), [1, 1], [0, 0], [0, 0], [1, 1]),
         [1, 3, 8, 8], "pointwise", 8 * 8 * 4 * 3),
        (lambda x: opset.group_convolution(x, ones(4, 1, 1, 3, 3), [1, 1], [0, 0], [0, 0], [1, 1]),
         [1, 4, 8, 8], "depthwise", 6 * 6 * 4 * 9),
        (lambda x: opset.group_convolution(x, ones(2, 3, 2, 3, 3), [1, 1], [0, 0], [0, 0], [1, 1]),
         [1, 4, 8, 8], "conv", 6 * 6 * 6 * 2 * 9),
        (lambda x: opset.convolution_backprop_data(x, ones(8, 3, 2, 2), [2, 2]),
         [1, 8, 5, 5], "conv", 5 * 5 * 8 * 3 * 4),
        (lambda x: opset.matmul(x, ones(8, 5), False, False), [2, 8], "dense", 2 * 8 * 5),
        (lambda x: opset.matmul(x, ones(5, 8), True, True), [8, 2], "dense", 2 * 8 * 5),
        (lambda x: opset.lstm_sequence(
            x, ones(1, 1, 6), ones(1, 1, 6), opset.constant(np.array([7])), ones(1, 24, 5),
            ones(1, 24, 6), ones(1, 24), 6, "forward").output(0),
         [1, 7, 5], "recurrent", 7 * 4 * (6 * 5 + 6 * 6)),
    ],
)  # fmt: skip
def test_macs(tmp_path: Path, make: Any, data: list[int], kind: str, macs: int) -> None:
    x = parameter(*data)
    graph = read_openvino(save(tmp_path / "m.xml", make(x), x))
    assert [(op.index, op.kind, op.macs) for op in graph.ops] == [(0, kind, macs)]
    free = data[0] == -1
    assert graph.tensors[graph.inputs[0].tensor].shape == ((None if free else data[0]), *data[1:])
    assert graph.file_bytes == sum(file.stat().st_size for file in tmp_path.iterdir())


def test_compressed_weights_are_constants_of_their_stored_type(tmp_path: Path) -> None:
    x = parameter(1, 8)
    weights = opset.convert(ones(5, 8, dtype="int8"), np.float32)
    shifted = opset.subtract(weights, opset.convert(ones(5, 1, dtype="int8"), np.float32))
    scale = opset.constant(np.arange(1, 6, dtype=np.float32).reshape(5, 1))
    scaled = opset.multiply(shifted, scale)
    graph = read_openvino(save(tmp_path / "m.xml", opset.matmul(x, scaled, False, True), x))
    assert [op.name for op in graph.ops] == ["MatMul"]
    kernel = graph.tensors[graph.ops[0].inputs[1]]
    assert (kernel.dtype, kernel.shape, kernel.constant, kernel.bytes) == ("int8", (5, 8), True, 40)
    assert kernel.quantization is not None
    assert kernel.quantization.scale == (1, 2, 3, 4, 5)
    assert kernel.quantization.zero_point == (0, 1, 2, 3, 4)
    assert kernel.quantization.axis == 0
    assert graph.weight_bytes == 40 + 5 + 20


def test_half_precision_weights(tmp_path: Path) -> None:
    x = parameter(1, 8)
    weights = opset.constant(np.linspace(-1, 1, 40, dtype=np.float32).reshape(8, 5))
    path = save(tmp_path / "m.xml", opset.matmul(x, weights, False, False), x, compress=True)
    graph = read_openvino(path)
    assert [op.name for op in graph.ops] == ["MatMul"]
    assert (graph.weight_bytes, graph.parameters) == (80, 40)


@pytest.mark.parametrize(
    ("low", "high", "dtype", "zero_point"), [(0.0, 2.55, "uint8", 0), (-1.28, 1.27, "int8", 0),
                                             (-0.55, 2.0, "int8", -73)],
)  # fmt: skip
def test_fake_quantize(
    tmp_path: Path, low: float, high: float, dtype: str, zero_point: int
) -> None:
    x = parameter(1, 8)
    ends = [opset.constant(np.float32(value)) for value in (low, high, low, high)]
    graph = read_openvino(save(tmp_path / "m.xml", opset.fake_quantize(x, *ends, 256), x))
    tensor = graph.tensors[graph.ops[0].outputs[0]]
    assert (graph.ops[0].kind, tensor.dtype) == ("quantize", dtype)
    assert tensor.quantization is not None
    assert tensor.quantization.scale[0] == pytest.approx(0.01, rel=1e-5)
    assert tensor.quantization.zero_point == (zero_point,)
    limits = np.iinfo(dtype)
    values = tensor.quantization.dequantize(np.array([limits.min, limits.max]))
    assert values == pytest.approx([low, high], abs=1e-5)


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    x = parameter(-1, 3, 8, 8)
    conv = opset.convolution(x, ones(4, 3, 3, 3), [1, 1], [1, 1], [1, 1], [1, 1])
    return save(tmp_path_factory.mktemp("openvino") / "m.xml", opset.relu(conv), x)


def test_weight_file_missing_or_truncated(valid: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.xml"
    shutil.copy(valid, path)
    with pytest.raises(ModelFileError, match=r"'m\.bin' is missing"):
        read_openvino(path)
    (tmp_path / "m.bin").write_bytes(valid.with_suffix(".bin").read_bytes()[:20])
    with pytest.raises(ModelFileError, match="truncated or corrupt"):
        read_openvino(path)


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(min_value=0))
def test_truncated(valid: Path, cut: int) -> None:
    content = valid.read_bytes()
    path = valid.with_name("cut.xml")
    shutil.copy(valid.with_suffix(".bin"), path.with_suffix(".bin"))
    path.write_bytes(content[: cut % (content.rindex(b">") - 1)])
    with pytest.raises(ModelFileError):
        read_openvino(path)


def test_another_xml(tmp_path: Path) -> None:
    path = tmp_path / "m.xml"
    for content in (b"<?xml version='1.0'?><svg></svg>", b"<net"):
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match="OpenVINO model"):
            read_openvino(path)
    path.write_bytes(b"<?xml version='1.0'?><net name='a' version='11'><layers></layers></net>")
    with pytest.raises(ModelFileError, match="no output"):
        read_openvino(path)


@pytest.mark.parametrize("name", ["kws", "ic", "ad", "vww"])
def test_derived_from_tflite(shared: Path, tmp_path: Path, name: str) -> None:
    """An IR made from a TFLite file has its MACs, its int8 weights and, nearly, its memory.

    OpenVINO keeps a float copy of the input; the 5% is the alignment of a few blocks.
    """
    source = shared / f"models/mlperf_tiny_{name}_int8.tflite"
    path = tmp_path / "m.xml"
    ov.save_model(ov.convert_model(source), path)
    ours, theirs = read_openvino(path), read_tflite(source)
    assert ours.macs == theirs.macs
    assert all(_has_data(ours, op) for op in ours.ops)  # no chain of constants is left
    assert _int8_weights(ours) == _int8_weights(theirs)
    assert plan(ours).arena_bytes <= 1.05 * plan(theirs).arena_bytes + 4 * _input_elements(theirs)


def _input_elements(graph: Graph) -> int:
    return sum(graph.tensors[port.tensor].elements for port in graph.inputs)


def _has_data(graph: Graph, op: Op) -> bool:
    return any(not graph.tensors[index].constant for index in op.inputs)


def _int8_weights(graph: Graph) -> int:
    tensors = (tensor for tensor in graph.tensors if tensor.constant and tensor.dtype == "int8")
    return sum(tensor.bytes for tensor in tensors)
