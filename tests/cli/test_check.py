from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekit.cli.main import run


@pytest.mark.parametrize(
    ("file", "target", "code", "verdict"),
    [
        ("mlperf_tiny_kws_int8.tflite", "coral-usb", 0, "ok"),
        ("coral_deeplabv3_mnv2_dm05_pascal_quant.tflite", "coral-usb", 0, "fallback"),
        ("coral_split_concat_edgetpu.tflite", "pixel-3", 1, "unsupported"),
        ("coral_mobilenet_v2_1.0_224_quant.tflite", "stm32-h7a3-cubeai", 1, "does_not_fit"),
    ],
)
def test_verdicts_and_exit_codes(
    shared: Path, file: str, target: str, code: int, verdict: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path = str(shared / "models" / file)
    assert run(["check", path, "--target", target, "--json"]) == code
    report = json.loads(capsys.readouterr().out)
    assert report["verdict"] == verdict
    assert [op["index"] for op in report["ops"]] == list(range(len(report["ops"])))
    assert run(["check", path, "--target", target]) == code
    assert verdict in capsys.readouterr().out


def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(b"not a model")
    assert run(["check", str(path), "-t", "coral-usb"]) == 2
    assert "not a TFLite file" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["check", "memory"])
def test_a_second_target_is_not_left_unanswered(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "model.tflite")
    assert run([command, path, "-t", "coral-usb", "-t", "pixel-3"]) == 2
    assert "one at a time, not coral-usb and pixel-3" in capsys.readouterr().err


@pytest.mark.parametrize("columns", [40, 60, 80, 136])
@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "mlperf_tiny_kws_fp32.tflite", "-t", "coral-usb"],
        ["targets", "rank", "mlperf_tiny_kws_int8.tflite", "--no-compile"],
        ["targets", "list"],
    ],
)
def test_no_terminal_is_too_narrow_for_words(
    arguments: list[str], columns: int, shared: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("COLUMNS", str(columns))
    paths = [str(shared / "models" / a) if a.endswith(".tflite") else a for a in arguments]
    assert run(paths) == 0
    shown = capsys.readouterr().out
    assert "\N{HORIZONTAL ELLIPSIS}" not in shown
    assert max(map(len, shown.splitlines())) <= columns
    if arguments[0] == "check":
        assert "--precision" in shown
        assert "batch_normalization" not in shown  # one of the many names of a fused tensor
