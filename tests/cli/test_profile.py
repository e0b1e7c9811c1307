from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.cli.main import run


@pytest.fixture
def kws(shared: Path) -> str:
    return str(shared / "models/mlperf_tiny_kws_int8.tflite")


def test_targets_side_by_side_as_json(kws: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["profile", kws, "-t", "raspberry-pi-4", "-t", "drone-x500-cm4", "--json"]
    assert run(arguments) == 0
    profiles = json.loads(capsys.readouterr().out)["profiles"]
    assert [profile["target"] for profile in profiles] == ["raspberry-pi-4", "drone-x500-cm4"]
    for profile in profiles:
        assert profile["artifact"] == "mlperf_tiny_kws_int8.tflite"
        assert profile["latency_ms"]["origin"] == "estimated"
        assert len(profile["layers"]) == 13
    assert profiles[1]["flight_s_per_h"]["value"] > 0


def test_one_table(
    kws: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert run(["profile", kws, "-t", "coral-usb", "-t", "pixel-3", "--layers"]) == 0
    shown = capsys.readouterr().out
    assert "13 accelerator / 0 CPU" in shown
    assert "estimated" in shown
    assert "unknown: no power" in shown
    assert shown.count("FULLY_CONNECTED") >= 2


@pytest.mark.parametrize(
    ("content", "target"), [(b"TFL3", "pixel-3"), (None, "pixel-3"), (b"x", "nothing")]
)
def test_bad_input(
    content: bytes | None, target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.tflite"
    if content is not None:
        path.write_bytes(content)
    assert run(["profile", str(path), "-t", target, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["message"]


def test_profiling_loads_no_training_library(kws: str) -> None:
    code = (
        "import sys; from edgekit.cli.main import run;"
        f"run(['profile', {kws!r}, '-t', 'coral-usb', '--json']);"
        "heavy = {'tensorflow', 'keras', 'onnx', 'openvino', 'ai_edge_litert', 'scipy'};"
        "sys.exit(bool(heavy & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
