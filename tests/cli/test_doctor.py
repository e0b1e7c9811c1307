from __future__ import annotations

import json
import platform

import pytest

from edgekit.cli.main import run
from edgekit.devices import doctor


def test_it_tells_what_is_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert f"Python {platform.python_version()}" in shown
    assert "CPU" in shown
    assert run(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["machine"]["cores"] >= 1
    assert {tool["name"] for tool in report["tools"]} >= {"adb", "edgetpu_compiler", "vela"}


def test_a_missing_extra_is_an_error_only_when_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    requirement = 'no-such-library>=1; extra == "train"'
    monkeypatch.setattr(doctor, "_declared", lambda: ([requirement], ["train"]))
    assert run(["doctor"]) == 0
    assert "edgekit[train]" in "".join(capsys.readouterr().out.split())
    assert run(["doctor", "--strict", "train", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["error"]["hint"] == "pip install 'edgekit[train]'"
    assert run(["doctor", "--strict", "trian"]) == 2
