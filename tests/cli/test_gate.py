from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.cli.main import run
from edgekit.schema.results import ArtifactResult, RunReport

RECIPE = (
    "name: a\ndata: {source: digits}\nmodel: {name: cnn}\nbudgets: [{metric: bytes, max: 99}]\n"
)


@pytest.fixture
def run_directory(tmp_path: Path) -> Path:
    artifact = ArtifactResult(
        path="artifacts/a.tflite",
        format="tflite",
        precision="int8",
        bytes=100,
        sha256="0" * 64,
        metrics={"accuracy": 0.97},
    )
    report = RunReport(
        recipe="a", run="", artifacts=(artifact,), reference_metrics={"accuracy": 0.98}
    )
    (tmp_path / "run.json").write_text(report.model_dump_json())
    (tmp_path / "recipe.lock.yaml").write_text(RECIPE)
    return tmp_path


def test_a_kept_budget(run_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["gate", str(run_directory), "--budget", "accuracy_drop<=1.0"]) == 0
    assert "ok" in capsys.readouterr().out


def test_a_broken_budget_exits_with_1_and_the_whole_table(
    run_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["gate", str(run_directory)]) == 1
    shown = capsys.readouterr().out
    assert "bytes" in shown
    assert "<= 99" in shown
    assert "FAILED" in shown
    arguments = ["--budget", "accuracy>=0.9", "--budget", "latency_ms@host<=1", "--json"]
    assert run(["gate", str(run_directory / "run.json"), *arguments]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["passed"] is False
    assert [result["passed"] for result in report["results"]] == [True, False]
    assert report["results"][1]["reason"] == "it was not profiled on 'host'"


def test_budgets_from_a_file(run_directory: Path) -> None:
    budgets = run_directory / "budgets.yaml"
    budgets.write_text("budgets: [{metric: bytes, max: 100}]")
    assert run(["gate", str(run_directory), "--budgets", str(budgets)]) == 0
    budgets.write_text("budgets: [{metric: bites, max: 100}]")
    assert run(["gate", str(run_directory), "--budgets", str(budgets)]) == 2


@pytest.mark.parametrize("arguments", [["nowhere"], []])
def test_bad_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["gate", *arguments]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_the_gate_needs_nothing_of_the_extras(run_directory: Path) -> None:
    heavy = ("tensorflow", "keras", "onnx", "onnxruntime", "openvino", "ai_edge_litert", "sklearn")
    code = (
        f"import sys\nfor name in {heavy!r}: sys.modules[name] = None\n"
        "from edgekit.cli.main import run; sys.exit(run(sys.argv[1:]))"
    )
    done = subprocess.run([sys.executable, "-c", code, "gate", str(run_directory)], check=False)
    assert done.returncode == 1
