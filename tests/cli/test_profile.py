from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgekit.cli.main import run
from edgekit.schema.shipped import shipped_dir


@pytest.fixture
def kws(shared: Path) -> str:
    return str(shared / "models/mlperf_tiny_kws_int8.tflite")


@pytest.fixture
def vww(shared: Path) -> str:
    return str(shared / "models/mlperf_tiny_vww_int8.tflite")


def profiled(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    assert run(["profile", *arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_targets_side_by_side_as_json(kws: str, capsys: pytest.CaptureFixture[str]) -> None:
    profiles = profiled(capsys, kws, "-t", "raspberry-pi-4", "-t", "drone-x500-cm4")["profiles"]
    assert [profile["target"] for profile in profiles] == ["raspberry-pi-4", "drone-x500-cm4"]
    for profile in profiles:
        assert profile["artifact"] == "mlperf_tiny_kws_int8.tflite"
        assert profile["latency_ms"]["origin"] == "estimated"
        assert profile["energy_mj"]["low"] < profile["energy_mj"]["value"]
        assert len(profile["layers"]) == 13
        assert profile["verdict"] is None
    assert profiles[0]["flight"] is None
    assert profiles[1]["flight_s_per_h"]["value"] > 0
    assert profiles[1]["flight"]["max_speed_m_s"]["value"] > 0


def test_one_table(
    kws: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    targets = ["-t", "coral-usb", "-t", "pixel-3", "-t", "drone-x500-cm4"]
    assert run(["profile", kws, *targets, "--layers"]) == 0
    shown = capsys.readouterr().out
    assert "13 accelerator / 0 CPU" in shown
    assert "estimated" in shown
    assert "unknown" in shown
    assert "no power of this target has been published" in shown
    assert "highest speed" in shown
    assert shown.count("FULLY_CONNECTED") >= 2


def test_budgets(kws: str, capsys: pytest.CaptureFixture[str]) -> None:
    board = ["-t", "stm32-h7a3-cubeai", "-t", "pixel-3"]
    assert (
        profiled(capsys, kws, *board, "--max-latency-ms", "500")["profiles"][0]["verdict"] == "ok"
    )
    found = profiled(capsys, kws, *board, "--max-latency-ms", "5", "--max-mj", "50", code=1)
    first, second = found["profiles"]
    assert first["verdict"] == "over"
    assert [one["verdict"] for one in first["budgets"]] == ["over", "ok"]
    assert [one["verdict"] for one in second["budgets"]] == ["ok", "unknown"]
    assert second["verdict"] == "unknown"
    assert "no power" in second["budgets"][1]["reason"]
    assert run(["profile", kws, *board[:2], "--max-kib", "1"]) == 1
    assert "peak_memory_kib 15.6 > 1" in capsys.readouterr().out


def test_a_day_on_a_battery(kws: str, capsys: pytest.CaptureFixture[str]) -> None:
    board = [kws, "-t", "raspberry-pi-4"]
    found = profiled(capsys, *board, "--rate", "0.5", "--battery-wh", "10")
    used = found["profiles"][0]["usage"]
    assert used["inferences_per_day"] == 43_200
    power = used["average_power_w"]
    assert power["low"] < power["value"] < power["high"]
    assert used["battery_h"]["value"] == pytest.approx(10 / power["value"])
    same = profiled(capsys, *board, "--inferences-per-day", "43200")["profiles"][0]["usage"]
    assert same["average_power_w"] == power
    assert same["battery_h"] is None
    asleep = profiled(capsys, *board, "--rate", "0.5", "--sleep-mw", "1")["profiles"][0]["usage"]
    assert asleep["average_power_w"]["value"] < 0.01 < power["value"]
    assert "sleeping" in asleep["average_power_w"]["method"]
    assert run(["profile", *board, "--rate", "1", "--battery-wh", "10"]) == 0
    assert "battery lasts" in capsys.readouterr().out


def test_two_files_on_a_drone(kws: str, vww: str, capsys: pytest.CaptureFixture[str]) -> None:
    drone = ["-t", "drone-x500-cm4", "--vehicle", "mass_g=1500", "--vehicle", "computer_g=100"]
    found = profiled(capsys, vww, kws, *drone)
    before, after = found["profiles"]
    change = found["comparisons"][0]
    assert (change["baseline"], change["artifact"]) == (before["artifact"], after["artifact"])
    ratio = after["latency_ms"]["value"] / before["latency_ms"]["value"]
    assert change["latency_ratio"]["value"] == pytest.approx(ratio)
    assert ratio < 1
    for gain in ("faster_m_s", "longer_s", "lighter_g"):
        assert change[gain]["value"] > 0
    assert before["flight"]["computer_seconds_lost"]["value"] > 0
    assert run(["profile", vww, kws, *drone]) == 0
    assert "longer by" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--battery-wh", "2"],
        ["--sleep-mw", "2"],
        ["--rate", "1", "--battery-wh", "0"],
        ["--rate", "1", "--sleep-mw", "-1"],
        ["--rate", "nan"],
        ["--rate", "1", "--inferences-per-day", "5"],
        ["--rate", "0"],
        ["--vehicle", "mass_g=100"],
        ["-t", "drone-x500-cm4", "--vehicle", "wings=2"],
        ["-t", "drone-x500-cm4", "--vehicle", "mass_g=heavy"],
        ["-t", "drone-x500-cm4", "--vehicle", "mass_g=-5"],
        ["-t", "drone-x500-cm4", "--vehicle", "mass_g"],
    ],
)
def test_bad_usage(kws: str, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    error = profiled(capsys, kws, "-t", "pixel-3", *arguments, code=2)["error"]
    assert error["type"] == "InputError"
    assert error["message"]


@pytest.mark.parametrize(
    ("content", "target"), [(b"TFL3", "pixel-3"), (None, "pixel-3"), (b"x", "nothing")]
)
def test_bad_input(
    content: bytes | None, target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.tflite"
    if content is not None:
        path.write_bytes(content)
    assert profiled(capsys, str(path), "-t", target, code=2)["error"]["message"]


def test_a_bad_target_file_names_file_line_and_key(
    kws: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "board.yaml"
    text = (shipped_dir("targets") / "pixel-3.yaml").read_text(encoding="utf-8")
    path.write_text(text.replace("channel_multiple:", "chanel_multiple:"), encoding="utf-8")
    line = text[: text.index("channel_multiple:")].count("\n") + 1
    error = profiled(capsys, kws, "-t", str(path), code=2)["error"]
    assert error["where"].startswith(f"{path}:{line}:")
    assert "chanel_multiple" in error["message"]


@pytest.mark.parametrize("option", ["--max-latency-ms", "--max-mj", "--max-kib", "--rate"])
@pytest.mark.parametrize("value", ["nan", "inf", "-1", "0"])
def test_limits_are_numbers_above_zero(
    option: str, value: str, kws: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error = profiled(capsys, kws, "-t", "pixel-3", option, value, code=2)["error"]
    assert error["message"].endswith(f"above zero, not {value}")


def test_targets_of_one_name_are_told_apart(
    kws: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "board.yaml"
    text = (shipped_dir("targets") / "pixel-3.yaml").read_text(encoding="utf-8")
    path.write_text(text, encoding="utf-8")
    profiled(capsys, kws, "-t", "pixel-3", "-t", str(path))  # the same
    path.write_text(text.replace("channel_multiple: 4", "channel_multiple: 8"), encoding="utf-8")
    error = profiled(capsys, kws, "-t", "pixel-3", "-t", str(path), code=2)["error"]
    assert error["message"] == "two different targets are named 'pixel-3'"


def test_profiling_loads_no_training_library(kws: str) -> None:
    code = (
        "import sys; from edgekit.cli.main import run;"
        f"run(['profile', {kws!r}, '-t', 'coral-usb', '--json']);"
        "heavy = {'tensorflow', 'keras', 'onnx', 'openvino', 'ai_edge_litert', 'scipy'};"
        "sys.exit(bool(heavy & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
