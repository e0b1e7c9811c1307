from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekit.cli import main


def test_json_and_picture(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, svg = shared / "models/mlperf_tiny_ad_int8.tflite", tmp_path / "arena.svg"
    words = ["memory", str(file), "-t", "stm32-l4r5-tflm", "--svg", str(svg)]
    assert main.run([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["arena_bytes"] == 768
    assert report["peak"]["index"] in range(len(report["steps"]))
    assert svg.read_text().startswith("<svg")
    assert main.run(words) == 0
    assert "peak" in capsys.readouterr().out


def test_unknown_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["memory", str(tmp_path / "no.tflite"), "-t", "raspberry-pi-4"]) == 2
    assert "no.tflite" in capsys.readouterr().err
