from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.cli.main import run
from edgekit.schema.plan import QuantizationPlan, load_plan, plan_path, save_plan

ROWS = np.random.default_rng(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model and its data: the larger of the two halves of a row of 16 numbers."""
    import keras

    from edgekit.models.files import save_model

    path = tmp_path_factory.mktemp("compress")
    x = ROWS.normal(size=(400, 16)).astype(np.float32)
    y = (x[:, :8].sum(1) > x[:, 8:].sum(1)).astype(np.int64)
    keras.utils.set_random_seed(0)
    given = keras.Input((16,), name="row")
    hidden = keras.layers.Dense(32, activation="relu", name="hidden")(given)
    model = keras.Model(given, keras.layers.Dense(2, activation="softmax", name="out")(hidden))
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y, epochs=15, batch_size=16, verbose=0)
    save_model(model, path / "model.keras")
    np.savez(path / "data.npz", row=x, y=y)
    np.savez(path / "unlabelled.npz", row=x)
    return path


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


class Ran:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.out)
        return document


@pytest.fixture
def edgekit(capfd: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: object) -> Ran:
        capfd.readouterr()
        code = run(["compress", *map(str, arguments)])
        return Ran(code, *capfd.readouterr())

    return call


@pytest.mark.slow
def test_prune_writes_a_keras_file_and_says_what_it_did(folder: Path, edgekit: Any) -> None:
    from edgekit.compress.kernels import find_kernels
    from edgekit.models.files import load_model

    out = folder / "small.keras"
    save_plan(QuantizationPlan(precision="int8"), out)  # of an earlier file of that name
    ran = edgekit(
        folder / "model.keras", "--pass", "prune(sparsity=0.75, epochs=2)",
        "--data", folder / "data.npz", "-o", out, "--target", "coral-usb", "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert "prune: coral-usb: zero weights change nothing" in ran.err
    report = ran.json["passes"][0]
    assert [row["zeros"] for row in report["layers"]] == [384, 48]
    assert ran.json["warnings"] == ["none of the chosen targets gains anything from zero weights"]
    kernels, _ = find_kernels(load_model(out))
    assert [np.count_nonzero(kernel.values == 0) for kernel in kernels] == [384, 48]
    assert not plan_path(out).exists()


@pytest.mark.slow
def test_quantize_keeps_its_plan_beside_the_keras_file(folder: Path, edgekit: Any) -> None:
    out = folder / "planned.keras"
    ran = edgekit(
        folder / "model.keras", "--pass", "prune", "--pass", "quantize(samples=200)",
        "--data", folder / "unlabelled.npz", "-o", out,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert "int8 is planned" in ran.out
    assert load_plan(out) == QuantizationPlan(precision="int8", calibration_samples=200)


@pytest.mark.slow
@pytest.mark.parametrize("words", ["quantize(precision='int8')", "qat(epochs=1)"])
def test_quantizing_yields_the_quantized_file_proven_on_its_runtime(
    words: str, folder: Path, edgekit: Any
) -> None:
    from edgekit.runtimes.open import open_session
    from edgekit.runtimes.session import predict

    out = folder / "out.tflite"
    ran = edgekit(
        folder / "model.keras", "--pass", words,
        "--data", folder / "data.npz", "-o", out, "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert ran.json["artifact"]["precision"] == "int8"
    assert ran.json["artifact"]["provenance"]["passes"] == [words]
    assert ran.json["bytes"] == out.stat().st_size
    with np.load(folder / "data.npz") as data, open_session(out) as session:
        assert session.inputs[0].dtype == session.outputs[0].dtype == "int8"
        outputs = predict(session, {"row": data["row"]})
        right = next(iter(outputs.values())).argmax(1) == data["y"]
    assert right.mean() > 0.9


BAD: list[tuple[Sequence[str], int, str]] = [
    (["model.keras"], 2, "--pass is needed"),
    (["model.keras", "--pass", "prune"], 2, "--output is needed"),
    (["none.keras", "--pass", "prune", "-o", "x.keras"], 2, "does not exist"),
    (["broken.keras", "--pass", "prune", "-o", "x.keras"], 2, "broken.keras"),
    (["model.keras", "--pass", "prun", "-o", "x.keras"], 2, "did you mean 'prune'?"),
    (["model.keras", "--pass", "prune(0.5)", "-o", "x.keras"], 2, "prune(sparsity=0.5)"),
    (
        ["model.keras", "--pass", "prune(sparcity=1)", "-o", "x.keras"],
        2,
        "--pass prune(sparcity=1): unknown key 'sparcity'\n  did you mean 'sparsity'?",
    ),
    (["model.keras", "--pass", "prune", "-o", "x.h5"], 2, "no format to write"),
    (["model.keras", "--pass", "prune", "--target", "coral", "-o", "x.keras"], 2, "coral-usb"),
    (["model.keras", "--pass", "quantize", "-o", "x.keras"], 2, "needs calibration samples"),
    (
        ["model.keras", "--pass", "quantize", "--pass", "prune", "-o", "x.keras"],
        2,
        "put 'quantize' last",
    ),
    (
        ["model.keras", "--pass", "prune(epochs=1)", "--data", "unlabelled.npz", "-o", "x.keras"],
        2,
        "need training samples with labels",
    ),
    (["model.keras", "--pass", "prune", "--data", "model.keras", "-o", "x.keras"], 2, "npz"),
    (["model.keras", "--pass", "distill(teacher='none.keras')", "--data", "data.npz",
      "-o", "x.keras"], 2, "none.keras"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "code", "words"), BAD)
def test_bad_usage_is_one_clear_error_and_leaves_nothing(
    arguments: Sequence[str],
    code: int,
    words: str,
    folder: Path,
    edgekit: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    (folder / "broken.keras").write_bytes((folder / "model.keras").read_bytes()[:2000])
    before = files_in(folder)
    ran = edgekit(*arguments)
    assert ran.code == code
    assert words in ran.err
    assert "Traceback" not in ran.err
    assert files_in(folder) == before
    as_json = edgekit(*arguments, "--json")
    assert as_json.code == code
    assert set(as_json.json["error"]) == {"type", "message", "where", "hint"}


def test_help_has_examples(edgekit: Any) -> None:
    ran = edgekit("--help")
    assert ran.code == 0
    assert 'edgekit compress model.keras --pass "prune(sparsity=0.5)"' in ran.out


def test_a_recipe_is_run_until_its_passes_are_done(
    tmp_path: Path, edgekit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgekit.pipeline import run as pipeline
    from edgekit.schema.results import RunReport

    asked: dict[str, Any] = {}

    def run_recipe(path: Path, **options: Any) -> RunReport:
        asked.update(path=path, **options)
        return RunReport(recipe="digits", run="runs/digits", artifacts=(), passed=False)

    monkeypatch.setattr(pipeline, "run_recipe", run_recipe)
    ran = edgekit(tmp_path / "r.yaml", "--set", "seed=3", "--json")
    assert asked["path"] == tmp_path / "r.yaml"
    assert asked["until"] == "compress"
    assert asked["overrides"] == ("seed=3",)
    assert ran.json["recipe"] == "digits"
    assert ran.code == 1  # the run did not pass
