from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekit.cli.main import run


@pytest.fixture
def kws(shared: Path) -> str:
    pytest.importorskip("ai_edge_litert")
    return str(shared / "models/mlperf_tiny_kws_int8.tflite")


def test_a_measurement_as_json(kws: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", kws, "--max-seconds", "0.1", "--threads", "2", "--json"]) == 0
    (profile,) = json.loads(capsys.readouterr().out)["profiles"]
    assert profile["artifact"] == "mlperf_tiny_kws_int8.tflite"
    assert profile["latency_ms"]["origin"] == "measured"
    assert profile["latency_ms"]["low"] <= profile["latency_ms"]["value"]
    assert profile["details"]["threads"] == 2


def test_a_measurement_as_a_table(kws: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", kws, "--max-seconds", "0.1", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert "µs" in captured.out
    assert "latency" in captured.out
    assert captured.err == ""


def test_a_device_that_is_not_here(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ai_edge_litert")
    model = str(shared / "models/coral_split_concat_edgetpu.tflite")
    assert run(["bench", model, "--json"]) == 3
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["type"] == "MissingDependencyError"
    assert "Edge TPU" in error["message"]
    assert "--target coral-usb" in error["hint"]
    assert run(["bench", model, "--device", "coral"]) == 3


@pytest.mark.parametrize("arguments", [["none.tflite"], [], ["x.tflite", "--threads", "0"]])
def test_bad_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", *arguments]) == 2
    assert "error: " in capsys.readouterr().err
