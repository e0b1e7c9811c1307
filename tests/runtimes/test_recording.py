"""Tensors inside files, in the three runtimes."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edgekit.base.errors import DataError, ModelFileError
from edgekit.graph.read import read_graph
from edgekit.runtimes.open import open_session
from edgekit.runtimes.recording import record_tensors
from edgekit.runtimes.session import run_raw

X = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


@pytest.mark.parametrize("kind", ["onnx", "openvino", "tflite"])
def test_every_tensor_of_a_small_file(kind: str, tiny: ModuleType, tmp_path: Path) -> None:
    suffix = {"openvino": "xml"}.get(kind, kind)
    path = getattr(tiny, f"write_{kind}")(tmp_path / f"tiny.{suffix}") or tmp_path / "tiny.xml"
    graph = read_graph(path)
    wanted = {index: graph.tensors[index].name for op in graph.ops for index in op.outputs}
    found = record_tensors(path, {"features": X}, wanted)
    assert found.keys() == wanted.keys()
    last = found[graph.ops[-1].outputs[0]]
    np.testing.assert_allclose(last, tiny.expected(X), rtol=1e-5)
    if kind == "openvino":  # the product before the bias is a tensor of its own
        np.testing.assert_allclose(found[graph.ops[0].outputs[0]], X @ tiny.WEIGHTS.T, rtol=1e-5)


def test_int8_tensors_are_those_of_a_plain_session(small_tflite: Path) -> None:
    graph = read_graph(small_tflite)
    with open_session(small_tflite) as session:
        name, shape = session.inputs[0].name, session.inputs[0].shape[1:]
        x = np.random.default_rng(1).random((4, *[size or 1 for size in shape]))
        plain = run_raw(session, {name: x.astype(np.float32)})
    wanted = {index: graph.tensors[index].name for op in graph.ops for index in op.outputs}
    found = record_tensors(small_tflite, {name: x.astype(np.float32)}, wanted)
    assert all(array.dtype == np.int8 and len(array) == 4 for array in found.values())
    steps = found[graph.outputs[0].tensor].astype(int) - next(iter(plain.values()))
    assert np.abs(steps).max() <= 1  # delegates may round otherwise


def test_unknown_tensors_are_left_out(tiny: ModuleType, tmp_path: Path) -> None:
    path = tiny.write_onnx(tmp_path / "tiny.onnx")
    assert record_tensors(path, {"features": X}, {7: "nowhere"}) == {}


def test_faults_are_input_errors(tiny: ModuleType, tmp_path: Path) -> None:
    path = tiny.write_onnx(tmp_path / "tiny.onnx")
    with pytest.raises(DataError):
        record_tensors(path, {"features": X[:, :2]}, {0: "scores"})
    path.write_bytes(b"nonsense")
    with pytest.raises(ModelFileError):
        record_tensors(path, {"features": X}, {0: "scores"})
