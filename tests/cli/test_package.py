from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from edgekit.base.files import sha256_file
from edgekit.cli.main import run
from edgekit.schema.artifact import Sidecar, TensorInfo


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"model")
    digest = sha256_file(path)
    sidecar = Sidecar(
        file=path.name,
        files={path.name: digest},
        format="onnx",
        precision="fp32",
        bytes=5,
        sha256=digest,
        inputs=(TensorInfo(name="x", shape=(1, 4), dtype="float32"),),
        outputs=(TensorInfo(name="y", shape=(1, 2), dtype="float32"),),
    )
    path.with_name("net.onnx.json").write_text(sidecar.model_dump_json())
    return path


def test_model_files_become_a_bundle(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = model.with_name("out.zip")
    assert run(["package", str(model), "-o", str(output), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["bundle"] == str(output)
    assert result["sha256"] == sha256_file(output)
    with zipfile.ZipFile(output) as archive:
        assert archive.read("artifacts/net.onnx") == b"model"
    assert run(["package", str(model), "-o", str(output)]) == 0
    assert result["sha256"] in capsys.readouterr().out.replace("\n", "")


def test_without_a_sidecar_it_is_bad_input(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model.with_name("net.onnx.json").unlink()
    assert run(["package", str(model), "-o", str(model.with_name("out.zip"))]) == 2
    assert "has no sidecar" in capsys.readouterr().err
    assert not model.with_name("out.zip").exists()


def test_a_directory_without_a_run_is_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["package", str(tmp_path)]) == 2
    assert "run.json" in capsys.readouterr().err
