"""`edgekit check` and `edgekit targets rules` show rules and severities."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgekit.cli.main import run
from edgekit.profiling.targets import load_target, target_names
from edgekit.schema.shipped import shipped_dir
from tests.fixing.cases import Net

TARGET = "raspberry-pi-4"


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command that succeeds; what it prints, in wide lines."""
    monkeypatch.setenv("COLUMNS", "240")

    def of(*arguments: str) -> str:
        assert run(list(arguments)) == 0
        return capsys.readouterr().out

    return of


def xnnpack_target(folder: Path) -> Path:
    """A shipped target whose runtime uses XNNPACK."""
    text = (shipped_dir("targets") / f"{TARGET}.yaml").read_text(encoding="utf-8")
    path = folder / "board.yaml"
    path.write_text(text.replace("rules: litert-cpu", "rules: litert-xnnpack"), encoding="utf-8")
    return path


def test_check_shows_the_rule_and_its_severity(
    output: Any, small_tflite: Path, tmp_path: Path
) -> None:
    target = xnnpack_target(tmp_path)
    shown = output("check", str(small_tflite), "--target", str(target))
    assert "slow" in shown
    assert "float_only" in shown
    report = json.loads(output("check", str(small_tflite), "--target", str(target), "--json"))
    assert report["verdict"] == "ok"
    found = [finding for op in report["ops"] for finding in op["findings"]]
    softmax = next(finding for finding in found if finding["op"] == "SOFTMAX")
    assert softmax["rule"] == "float_only"
    assert softmax["severity"] == "slow"
    assert softmax["index"] == len(report["ops"]) - 1
    assert softmax["layer"] == report["ops"][-1]["layer"]


def test_sizes_have_units_intervals_and_an_origin(output: Any, small_tflite: Path) -> None:
    shown = output("check", str(small_tflite), "--target", "stm32-l4r5-tflm")
    lines = dict(line.split(": ", 1) for line in shown.splitlines() if ": " in line)
    assert lines["ram available"] == "640 KiB, published"
    assert lines["runtime code"] == "~97 KiB (75.2 to 119), estimated"
    assert lines["model"].endswith("KiB, measured")


def test_the_rules_of_a_target(output: Any, tmp_path: Path) -> None:
    shown = output("targets", "rules", str(xnnpack_target(tmp_path)))
    assert "fast kernels" in shown
    assert "control_shapes" in shown
    document = json.loads(output("targets", "rules", "coral-usb", "--json"))
    first = document["processors"][0]["table"]
    assert first["name"] == load_target("coral-usb").processors[0].rules
    assert {"id", "operators", "severity", "rule", "fix", "source"} <= set(first["rules"][0])


def test_pages_are_written_for_one_target_or_all(output: Any, tmp_path: Path) -> None:
    output("targets", "rules", TARGET, "--output", str(tmp_path / "one"))
    assert [page.name for page in (tmp_path / "one").iterdir()] == [f"{TARGET}.md"]
    output("targets", "rules", "--output", str(tmp_path / "all"))
    pages = sorted(page.stem for page in (tmp_path / "all").iterdir())
    assert [page for page in pages if not page.startswith("rules-")] == target_names()
    assert "rules-litert-gpu" in pages
    assert "rules-edgetpu" not in pages  # Coral's boards have it


def test_the_rules_of_a_set(output: Any, tmp_path: Path) -> None:
    assert "dense_form" in output("targets", "rules", "litert-gpu")
    document = json.loads(output("targets", "rules", "hexagon", "--json"))
    assert document["formats"] == ["tflite"]
    assert [entry["processor"] for entry in document["processors"]] == ["hexagon", "litert-cpu"]
    output("targets", "rules", "openvino-gpu", "--output", str(tmp_path))
    assert [page.name for page in tmp_path.iterdir()] == ["rules-openvino-gpu.md"]


def test_a_model_is_checked_against_a_rule_set(
    output: Any, small_tflite: Path, tmp_path: Path
) -> None:
    report = json.loads(output("check", str(small_tflite), "--rules", "hexagon", "--json"))
    assert (report["target"], report["verdict"]) == ("rules-hexagon", "fallback")
    assert [op["op"] for op in report["ops"] if op["where"] == "litert-cpu"] == ["FULLY_CONNECTED"]
    assert "ram_needed" in report["memory"]
    assert "ram_available" not in report["memory"]
    net = Net()
    made = net.op("RELU", [net.given((1, 4, 4, 8))], net.tensor((1, 4, 4, 8)))
    real = tmp_path / "float.tflite"
    real.write_bytes(net.content(made))
    report = json.loads(output("check", str(real), "--rules", "hexagon", "--json"))
    assert report["verdict"] == "fallback"
    assert [op["where"] for op in report["ops"]] == ["litert-cpu"]


def test_files_of_another_format_are_refused(
    small_tflite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["check", str(small_tflite), "--rules", "openvino-gpu", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [finding["rule"] for finding in report["findings"]] == ["format"]


def test_a_check_has_a_target_or_a_rule_set(
    small_tflite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["check", str(small_tflite)]) == 2
    assert "--rules with one of" in capsys.readouterr().err
    assert run(["check", str(small_tflite), "--target", TARGET, "--rules", "hexagon"]) == 2
    assert "not both" in capsys.readouterr().err
    assert run(["check", str(small_tflite), "--rules", "hexagn"]) == 2
    assert "hexagon" in capsys.readouterr().err


def test_an_unknown_target_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["targets", "rules", "no-such-board"]) == 2
    assert "unknown target 'no-such-board'" in capsys.readouterr().err
    assert run(["targets", "rules"]) == 2
    assert "needs the name" in capsys.readouterr().err
