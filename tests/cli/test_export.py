"""`edgekit export`: usage errors, and a derivation end to end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgekit.base.child import Worker
from edgekit.cli.main import run


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--format", "tflite", "--precision", "int8"], "needs calibration samples"),
        (["--format", "onnx", "--precision", "int8"], "needs calibration samples"),
        (["--format", "tflte"], "did you mean 'tflite'"),
        (["--format", "onnx", "--precision", "int-8"], "did you mean 'int8'"),
        (["--format", "onnx", "--format", "tflite", "-o", "x.onnx"], "2 are to be made"),
        (["--format", "onnx", "-o", "x.tflite"], "ends in .onnx"),
        (["--format", "vela"], "compiled for a target, which is not given"),
        (["--format", "vela", "-t", "raspberry-pi-4"], "not made by vela"),
        (["--format", "vela", "-t", "ethos-u55-12"], "did you mean 'ethos-u55-128'"),
        (["--format", "tflite", "-t", "ethos-u55-128"], "leave it out, or ask for --format vela"),
    ],
)
def test_usage_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    model = tmp_path / "model.keras"
    model.write_bytes(b"")
    assert run(["export", str(model), *arguments]) == 2
    assert words in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]


def test_a_file_that_is_no_model_is_refused_before_tensorflow_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Worker, "start", lambda _: pytest.fail("a child was started"))
    model = tmp_path / "model.keras"
    model.write_bytes(b"PK\x03\x04 and no more")
    assert run(["export", str(model), "--format", "tflite", "-o", str(tmp_path / "new")]) == 2
    assert "model.keras: is no .keras file: truncated" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]


@pytest.mark.slow
def test_derives_and_verifies_a_third_party_file(
    tmp_path: Path, shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    master = shared / "models" / "mlperf_tiny_kws_int8.tflite"
    formats = ["--format", "onnx", "--format", "openvino"]
    assert run(["export", str(master), *formats, "-o", str(tmp_path), "--json"]) == 0
    artifacts = json.loads(capsys.readouterr().out)["artifacts"]
    files = [str(tmp_path / artifact["file"]) for artifact in artifacts]
    assert [Path(file).suffix for file in files] == [".onnx", ".xml"]
    assert run(["verify", *files, "--reference", str(master), "--json"]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert all(result["within_one_step"] >= 0.99 for result in results)
    x = np.random.default_rng(0).normal(0, 30, (40, 49, 10, 1)).astype(np.float32)
    np.savez(tmp_path / "test.npz", x=x)
    data = ["--data", str(tmp_path / "test.npz")]
    assert run(["verify", files[0], "--reference", str(master), *data, "--max-step-diff", "0"]) == 0
