"""Bad input: one clear error, the exit code of the contract, no traceback, nothing half-written."""

from __future__ import annotations

import json
import random
import resource
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.cli.main import run
from tests.e2e.conftest import command, edgekit, environment

Recipe = Callable[..., Path]
Capture = pytest.CaptureFixture[str]


def fails(code: int, capsys: Capture, *arguments: str | Path) -> str:
    """Runs a command that must fail with `code`, and returns the one error that it prints."""
    assert run([*map(str, arguments), "--json"]) == code
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    error = json.loads(shown.out)["error"]
    assert error["message"]
    assert "internal error" not in error["message"]
    return f"{error['where']}: {error['message']} {error['hint']}"


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if ".tmp-" in path.name or "partial" in path.name]


@pytest.mark.parametrize(
    ("change", "place", "words"),
    [
        ({"train": "{epocs: 3}"}, ":6:", "did you mean 'epochs'"),
        ({"train": "{epochs: many}"}, ":6:", "epochs"),
        ({"seed": "-1"}, ":3:", "seed"),
        ({"export": "[{format: tflight}]"}, ":7:", "did you mean 'tflite'"),
        ({"export": "[{format: tflite, precision: int9}]"}, ":7:", "int8"),
        ({"targets": "[raspbery-pi-4]"}, ":8:", "did you mean 'raspberry-pi-4'"),
        ({"model": "{name: cnnn}"}, ":5:", "did you mean 'cnn'"),
        ({"model": "{name: cnn, args: {filter: [3]}}"}, ":5:", "did you mean 'filters'"),
        ({"model": "{name: no/such.keras}"}, "", "no/such.keras"),
        ({"data": "{source: npz:missing.npz}"}, "", "missing.npz"),
        ({"data": "{source: digitz}"}, "", "did you mean 'digits'"),
        ({"name": "[unclosed"}, "small.yaml:", "YAML"),
    ],
)
@pytest.mark.slow
def test_recipes(
    change: dict[str, str], place: str, words: str, recipe: Recipe, capsys: Capture, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    said = fails(2, capsys, "run", recipe(**change), "--runs-dir", runs)
    assert place in said
    assert words in said
    assert not leftovers(runs) or not list(runs.glob("*/stages/train"))


def test_a_missing_recipe(capsys: Capture) -> None:
    assert "nothing.yaml" in fails(2, capsys, "run", "nothing.yaml")
    assert "digits-cnn" in fails(2, capsys, "run", "digits-cn")


@pytest.mark.parametrize("suffix", [".tflite", ".onnx", ".xml", ".keras", ".zip", ".h5"])
@pytest.mark.parametrize("kind", ["missing", "empty", "random", "text"])
@pytest.mark.slow
def test_model_files_that_are_none(suffix: str, kind: str, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / f"model{suffix}"
    if kind != "missing":
        content = {"empty": b"", "text": b"<hello>\n", "random": random.Random(1).randbytes(5000)}
        path.write_bytes(content[kind])
    assert path.name in fails(2, capsys, "inspect", path)
    if suffix in (".tflite", ".onnx", ".xml"):
        for arguments in (
            ("check", path, "--target", "raspberry-pi-4"),
            ("profile", path, "--target", "raspberry-pi-4"),
            ("bench", path),
            ("verify", path, "--reference", path),
        ):
            assert path.name in fails(2, capsys, *arguments)
    if suffix == ".keras":
        output = tmp_path / "out.tflite"
        fails(2, capsys, "export", path, "--format", "tflite", "-o", output)
        fails(2, capsys, "compress", path, "--pass", "prune(sparsity=0.5)", "-o", output)
        assert not output.exists()
    if suffix == ".zip":
        fails(2, capsys, "gate", path, "--budget", "bytes<=1")


@pytest.mark.slow
def test_truncated_files_of_a_run(
    digits_run: tuple[Path, dict[str, object]], tmp_path: Path, capsys: Capture
) -> None:
    (directory,) = digits_run[0].iterdir()
    files = [*(directory / "artifacts").iterdir(), directory / "digits-cnn.zip"]
    files += [directory / "stages" / "train" / "model.keras"]
    models = [path for path in files if path.suffix not in (".json", ".bin")]
    assert {path.suffix for path in models} == {".tflite", ".onnx", ".xml", ".zip", ".keras"}
    for path in models:
        for share in (0.3, 0.9):
            cut = tmp_path / path.name
            content = path.read_bytes()
            cut.write_bytes(content[: int(share * len(content))])
            assert cut.name in fails(2, capsys, "inspect", cut)
            if path.suffix in (".tflite", ".onnx", ".xml"):
                fails(2, capsys, "bench", cut)


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (np.full((60, 8, 8, 1), np.nan), np.arange(60) % 3, "NaN"),
        (np.zeros((60, 8, 8, 1)), np.arange(50) % 3, "50"),
        (np.zeros((60, 8)), np.arange(60) % 3, "image"),
        (np.full((60, 8, 8, 1), "a"), np.arange(60) % 3, "dtype"),
        (np.zeros((60, 8, 8, 1)), np.zeros(60, int), "class"),
        (np.zeros((60, 8, 8, 1)), np.where(np.arange(60) % 2, 0, 2), "class"),
        (np.zeros((4, 8, 8, 1)), np.arange(4) % 2, "split"),
    ],
    ids=["nan", "labels missing", "shape", "dtype", "one class", "empty class", "too few"],
)
@pytest.mark.slow
def test_data(
    x: np.ndarray, y: np.ndarray, words: str, recipe: Recipe, capsys: Capture, tmp_path: Path
) -> None:
    np.savez(tmp_path / "data.npz", x=x, y=y)
    path = recipe(data="{source: npz:data.npz}")
    said = fails(2, capsys, "run", path, "--runs-dir", tmp_path / "runs")
    assert words.lower() in said.lower()
    assert not list(tmp_path.glob("runs/*/stages/train"))


def test_an_empty_class_folder(recipe: Recipe, capsys: Capture, tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
    path = recipe(data="{source: image_folder:photos}")
    assert "cat" in fails(2, capsys, "run", path, "--runs-dir", tmp_path / "runs")


def test_bundles_that_lead_out(tmp_path: Path, capsys: Capture) -> None:
    for name in ("../evil.txt", "/etc/evil.txt"):
        path = tmp_path / "evil.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("manifest.json", "{}")
            archive.writestr(name, "x")
        fails(2, capsys, "inspect", path)


@pytest.mark.slow
def test_a_full_disk(recipe: Recipe, tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: the kernel refuses the write."""
    runs = tmp_path / "runs"
    path = recipe(model="{name: mlp, args: {units: [512, 512]}}", train="{epochs: 1}")
    size = 400_000  # data fits, the model does not

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    full = subprocess.run(
        command("run", path, "--runs-dir", runs),
        capture_output=True,
        text=True,
        env=environment(),
        preexec_fn=limit,
        check=False,
    )
    assert full.returncode == 4, full.stderr
    assert "free some disk space" in full.stderr
    assert "Traceback" not in full.stderr
    assert not list(runs.glob("*/stages/train"))
    assert not list(runs.rglob("*.keras"))
    again = edgekit("run", path, "--runs-dir", runs, "--until", "train")
    assert again.returncode == 0, again.stderr
