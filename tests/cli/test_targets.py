from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekit.cli.main import run
from edgekit.profiling.targets import target_names
from edgekit.schema.shipped import shipped_dir


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["targets", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["targets"]
    assert [target["name"] for target in listed] == target_names()
    assert run(["targets"]) == 0
    assert "raspberry-pi-4" in capsys.readouterr().out


def test_one_target(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["targets", "show", "raspberry-pi-4", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["reference"][0]["runtime"] == "TFLite v2.7.1 (ruy)"
    assert shown["error"]["int8"]["median_pct"] < 5
    for name in target_names():
        assert run(["targets", "show", name]) == 0
        assert name in capsys.readouterr().out


def test_validation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shipped = shipped_dir("targets") / "pixel-3.yaml"
    assert run(["targets", "validate", str(shipped)]) == 0
    broken = tmp_path / "broken.yaml"
    text = shipped.read_text(encoding="utf-8").replace("device_class: phone", "device_class: fone")
    broken.write_text(text, encoding="utf-8")
    capsys.readouterr()
    assert run(["targets", "validate", str(broken), "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["type"] == "TargetError"
    assert error["where"].startswith(f"{broken}:5:")
    assert "phone" in error["hint"]


@pytest.mark.parametrize(
    "arguments", [["show"], ["validate"], ["show", "nowhere"], ["validate", "missing.yaml"]]
)
def test_bad_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["targets", *arguments]) == 2
    assert "Traceback" not in capsys.readouterr().err
