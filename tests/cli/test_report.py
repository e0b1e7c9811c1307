from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekit.cli.main import run
from edgekit.schema.results import ArtifactResult, RunReport


@pytest.fixture
def run_directory(tmp_path: Path) -> Path:
    artifact = ArtifactResult(
        path="artifacts/a.tflite", format="tflite", precision="int8", bytes=100, sha256="0" * 64
    )
    report = RunReport(recipe="digits", run=str(tmp_path), artifacts=(artifact,))
    (tmp_path / "run.json").write_text(report.model_dump_json())
    return tmp_path


def test_a_run_in_the_terminal_and_as_json(
    run_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["report", str(run_directory)]) == 0
    assert "a.tflite" in capsys.readouterr().out
    assert run(["report", str(run_directory / "run.json"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["recipe"] == "digits"


def test_a_run_as_html(run_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = run_directory / "out" / "page.html"
    assert run(["report", str(run_directory), "--html", str(page), "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["recipe"] == "digits"
    assert str(page) in captured.err
    assert page.read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("content", [None, "", "{}", "PK"])
def test_no_run_is_bad_input(
    tmp_path: Path, content: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    assert run(["report", str(tmp_path)]) == 2
    assert "run.json" in capsys.readouterr().err
