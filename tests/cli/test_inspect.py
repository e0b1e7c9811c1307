from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.base.files import sha256_file
from edgekit.bundle.pack import package
from edgekit.cli.main import run
from edgekit.pipeline.inspect import inspect_file
from edgekit.schema.artifact import Sidecar
from edgekit.schema.inspection import Inspection


def test_json(small_tflite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(small_tflite), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    found = Inspection.model_validate(printed)
    assert (found.format, found.file) == ("tflite", str(small_tflite))
    assert [(info.name, info.shape, info.dtype) for info in found.inputs] == [
        ("image", (None, 8, 8, 3), "int8")
    ]
    assert found.outputs[0].quantization is not None
    assert found.outputs[0].quantization.zero_point == (-128,)
    assert [(op.op, op.kind, op.count, op.macs) for op in found.ops][:2] == [
        ("CONV_2D", "conv", 1, 6912),
        ("DEPTHWISE_CONV_2D", "depthwise", 1, 576),
    ]
    assert found.macs == 6912 + 576 + 320
    assert (found.parameters, found.weight_bytes) == (474, 504)
    assert found.file_bytes == small_tflite.stat().st_size
    assert [layer.layer for layer in found.layers] == ["conv", "dw", "flatten", "dense", "dense"]
    assert found.layers[0].parameters == 4 * 27 + 4
    assert found.memory is not None
    # Input 192 (kept) and the convolution's 256 and the depthwise's 64; Micro frees the input.
    assert (found.memory.peak_bytes, found.memory.peak_op) == (512, 1)
    assert found.memory.micro_arena_bytes == 448


def test_table(small_tflite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(small_tflite)]) == 0
    shown = capsys.readouterr().out
    for words in (
        "image",
        "? x 8 x 8 x 3",
        "scale 0.5, zero point -3",
        "7,808",
        "CONV_2D",
        "512 B",
    ):
        assert words in shown
    assert run(["inspect", str(small_tflite), "--layers"]) == 0
    listed = capsys.readouterr().out
    for words in ("flatten", "dw", "6,912"):
        assert words in listed


def test_bundle(small_tflite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = inspect_file(small_tflite)
    digest = sha256_file(small_tflite)
    sidecar = Sidecar(
        file=small_tflite.name,
        files={small_tflite.name: digest},
        format="tflite",
        precision="int8",
        bytes=graph.file_bytes,
        sha256=digest,
        inputs=graph.inputs,
        outputs=graph.outputs,
    )
    beside = small_tflite.with_name(f"{small_tflite.name}.json")
    beside.write_text(sidecar.model_dump_json())
    bundle = small_tflite.with_name("small.zip")
    package([small_tflite], bundle)
    found = inspect_file(bundle)
    assert found.format == "bundle"
    assert [(one.file, one.inputs) for one in found.artifacts] == [
        ("artifacts/small.tflite", graph.inputs)
    ]
    assert run(["inspect", str(bundle)]) == 0
    shown = capsys.readouterr().out
    for words in ("artifacts/small.tflite", "int8", "image int8", "probabilities int8"):
        assert words in shown


def test_bad_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, content in (("a.tflite", b"x"), ("b.xyz", b""), ("c.zip", b"PK\x03\x04")):
        path = tmp_path / name
        path.write_bytes(content)
        assert run(["inspect", str(path), "--json"]) == 2
        error = json.loads(capsys.readouterr().out)["error"]
        assert error["where"] == str(path)
        assert "Traceback" not in error["message"]
    assert run(["inspect", str(tmp_path / "none.tflite")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_needs_no_runtime(small_tflite: Path) -> None:
    """A .tflite file is inspected without TensorFlow, Keras, ONNX, OpenVINO or LiteRT."""
    script = (
        "import sys; from edgekit.cli.main import run\n"
        f"code = run(['inspect', {str(small_tflite)!r}, '--quiet'])\n"
        "heavy = {'tensorflow', 'keras', 'onnx', 'onnxruntime', 'openvino', 'ai_edge_litert'}\n"
        "found = sorted(heavy & set(sys.modules))\n"
        "sys.exit(f'imported {found}' if found else code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_third_party_file(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = sorted((shared / "models").glob("*.tflite"))
    assert len(paths) >= 28
    for path in paths:
        assert run(["inspect", str(path), "--layers", "--json"]) == 0
        found = Inspection.model_validate_json(capsys.readouterr().out)
        assert found.inputs
        assert found.outputs
        assert found.layers
        assert found.memory is not None
        assert found.memory.arena_bytes >= found.memory.peak_bytes > 0


@pytest.mark.slow
def test_keras_files(shared: Path) -> None:
    """The Keras file and the TFLite file of one network agree."""
    keras = inspect_file(shared / "models/mlperf_tiny_ic.h5")
    tflite = inspect_file(shared / "models/mlperf_tiny_ic_int8.tflite")
    assert keras.format == "keras"
    assert keras.macs == tflite.macs
    assert keras.inputs[0].shape == (None, 32, 32, 3)
    assert [(op.op, op.count) for op in keras.ops if op.macs] == [("Conv2D", 9), ("Dense", 1)]
