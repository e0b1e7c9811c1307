"""Kill -9 in any stage, and start again."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import command, edgekit, edgekit_json, environment, small_recipe

pytestmark = pytest.mark.slow


def events(runs: Path) -> list[dict[str, object]]:
    return [
        json.loads(line)
        for log in runs.glob("*/log.jsonl")
        for line in log.read_text().splitlines()
    ]


def kill_in(stage: str, recipe: Path, runs: Path) -> None:
    process = subprocess.Popen(
        command("run", recipe, "--runs-dir", runs),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if any(e["event"] == "StageStarted" and e["name"] == stage for e in events(runs)):
            time.sleep(0.3)
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, f"the run ended before it came to {stage}"


def test_kill_in_one_stage_after_the_other(recipe: Callable[..., Path], tmp_path: Path) -> None:
    path, runs = recipe(), tmp_path / "runs"
    killed = ["data", "train", "export-tflite-int8", "bench-tflite-fp32"]
    for stage in killed:
        kill_in(stage, path, runs)
    report = edgekit_json("run", path, "--runs-dir", runs)
    assert report["passed"], report
    finished = [str(e["name"]) for e in events(runs) if e["event"] == "StageFinished"]
    now = [str(e["name"]) for e in events(runs) if e.get("origin") == "now"]
    assert len(now) == len(set(now)), "a finished stage was done again"
    assert {"data", "train", "export-tflite-int8"} <= set(finished)
    run = Path(report["run"])
    assert not list(run.rglob("*.partial"))
    assert not list(run.rglob(".tmp-*"))


def test_the_second_of_two_runs_says_so_and_stops(
    recipe: Callable[..., Path], tmp_path: Path
) -> None:
    path, runs = recipe(), tmp_path / "runs"
    first = subprocess.Popen(
        command("run", path, "--runs-dir", runs),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while not events(runs) and time.monotonic() < deadline:
            time.sleep(0.05)
        second = edgekit("run", path, "--runs-dir", runs)
    finally:
        first.kill()
        first.wait()
    assert second.returncode == 2
    assert f"process {first.pid} is working in this run directory" in second.stderr
    assert "Traceback" not in second.stderr


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """A recipe that was run until its files were exported: its path, its runs and the report."""
    folder = tmp_path_factory.mktemp("exported")
    path = small_recipe(
        folder,
        train="{epochs: 1}",
        verify="{limits: {int8: {min_agreement: 0, min_snr_db: 0, max_accuracy_drop: 100}}}",
    )
    runs = folder / "runs"
    return path, runs, edgekit_json("run", path, "--runs-dir", runs, "--until", "export")


def test_another_recipe_takes_over_what_is_the_same(
    exported: tuple[Path, Path, dict[str, Any]],
) -> None:
    path, runs, first = exported
    report = edgekit_json(
        "run", path, "--runs-dir", runs, "--until", "train", "--set", "targets=[]"
    )
    assert report["run"] != first["run"]
    assert all(stage["cached"] for stage in report["stages"])


def test_what_is_verified_is_shown_before_the_run_is_complete(
    exported: tuple[Path, Path, dict[str, Any]],
) -> None:
    path, runs, first = exported
    for report in (first, edgekit_json("run", path, "--runs-dir", runs, "--until", "verify")):
        assert report["passed"], report["failures"]
        assert len(report["artifacts"]) == 2
        assert all((Path(report["run"]) / one["path"]).is_file() for one in report["artifacts"])
