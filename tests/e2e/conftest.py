"""Whole recipes, run as a user runs them: in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent

SMALL = """
name: small
seed: 3
data: {source: digits, preprocess: {scale: 0.0625}}
model: {name: cnn, args: {filters: [8, 16], dense: 16}}
train: {epochs: 6, batch_size: 64, optimizer: {name: adam, learning_rate: 0.005}}
export: [{format: tflite, precision: [fp32, int8]}]
targets: [raspberry-pi-4]
bench: {max_seconds: 0.2}
verify: {limits: {int8: {min_agreement: 0.9, max_accuracy_drop: 5}}}
"""


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "edgekit", *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}


def edgekit(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, env=environment(), **options
    )


def edgekit_json(*arguments: str | Path) -> dict[str, Any]:
    done = edgekit(*arguments, "--json")
    assert done.returncode in (0, 1), done.stdout + done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def small_recipe(folder: Path, **replace: str) -> Path:
    """Writes the small recipe, with other lines for some of its keys."""
    text = SMALL
    for old, new in replace.items():
        text = "\n".join(
            f"{old}: {new}" if line.startswith(f"{old}:") else line for line in text.splitlines()
        )
    path = folder / "small.yaml"
    path.write_text(text)
    return path


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., Path]:
    """Writes the small recipe with replacements and returns its path."""

    return partial(small_recipe, tmp_path)


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The main job, once: its runs directory and its report."""
    runs = tmp_path_factory.mktemp("runs")
    done = edgekit("run", ROOT / "recipes" / "digits-cnn.yaml", "--runs-dir", runs, "--json")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    return runs, json.loads(done.stdout)
