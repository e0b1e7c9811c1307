"""`edgekit verify`: exit codes, JSON, recorded outputs, random samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.cli.main import run

onnx = pytest.importorskip("onnx")
WEIGHTS = np.array([[1.0, -2.0], [3.0, 0.5], [-1.0, 1.0]], np.float32)


def write(path: Path, *, error: float = 0.0) -> Path:
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["features", "w"], ["scores"])],
        "tiny",
        [helper.make_tensor_value_info("features", kind, ["batch", 3])],
        [helper.make_tensor_value_info("scores", kind, ["batch", 2])],
        [onnx.numpy_helper.from_array(WEIGHTS + np.float32(error), "w")],
    )
    opset = helper.make_opsetid("", 18)
    onnx.save_model(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    return path


def verify(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, Any]:
    code = run(["verify", *(str(argument) for argument in arguments), "--json", "--quiet"])
    return code, json.loads(capsys.readouterr().out)


def test_two_files_against_a_third(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference = write(tmp_path / "reference.onnx")
    same, other = write(tmp_path / "same.onnx"), write(tmp_path / "other.onnx", error=0.1)
    code, document = verify(capsys, same, other, "--reference", reference)
    first, second = document["results"]
    assert code == 1
    assert first["passed"] and first["snr_db"] is None and first["samples"] == 200
    assert not second["passed"] and "SNR" in second["failures"][0]
    loose = ("--min-snr-db", 1, "--min-agreement", 0)
    assert verify(capsys, other, "--reference", reference, *loose)[0] == 0


def test_recorded_outputs_and_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    y = (x @ WEIGHTS).argmax(axis=1)
    y[:3] = 1 - y[:3]
    np.savez(tmp_path / "test.npz", features=x, y=y)
    np.savez(tmp_path / "outputs.npz", scores=x @ WEIGHTS)
    path = write(tmp_path / "model.onnx")
    arguments = (path, "--reference", tmp_path / "outputs.npz")
    code, document = verify(capsys, *arguments, "--data", tmp_path / "test.npz")
    assert code == 0
    assert document["results"][0]["metrics"] == {"accuracy": 0.9}
    assert document["results"][0]["samples"] == 30
    code, document = verify(capsys, *arguments)
    assert code == 2 and "--data" in document["error"]["hint"]


@pytest.mark.parametrize("suffix", [".onnx", ".tflite", ".xml"])
def test_a_damaged_file_is_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    broken = tmp_path / f"broken{suffix}"
    broken.write_bytes(np.random.default_rng(0).bytes(900))
    code, document = verify(capsys, broken, "--reference", write(tmp_path / "reference.onnx"))
    assert code == 2
    assert document["error"]["type"] == "ModelFileError"
    assert document["error"]["where"].endswith(broken.name)


def test_it_says_that_samples_are_random(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "model.onnx")
    assert run(["verify", str(path), "--reference", str(path), "--seed", "7"]) == 0
    captured = capsys.readouterr()
    assert "random samples" in captured.err and "seed 7" in captured.err
    assert "passed" in captured.out
