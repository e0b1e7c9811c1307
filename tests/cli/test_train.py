import json

import numpy as np
import pytest

from edgekit.cli.main import run

RECIPE = """
name: tiny
data: {source: "npz:data.npz", preprocess: {scale: 0.5}}
model: {name: mlp, args: {units: [8]}}
train: {epochs: 3, batch_size: 16, optimizer: {learning_rate: 0.02}}
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    y = np.arange(200) % 2
    x = np.random.default_rng(0).normal(y[:, None] * 4, 1, (200, 5))
    np.savez(tmp_path / "data.npz", x=x, y=y)
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    return str(tmp_path / "tiny.yaml")


@pytest.mark.slow
def test_a_recipe_becomes_a_model_file(recipe, tmp_path, capsys):
    from edgekit.models.files import load_model

    assert run(["train", recipe, "--json", "--quiet", "--set", "train.epochs=10"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["epochs"] == 10
    assert report["samples"] == {"train": 120, "validation": 20, "test": 40}
    assert report["metrics"]["test"]["accuracy"] > 0.9
    assert report["parameters"] == load_model(tmp_path / "tiny.keras").count_params()
    history = json.loads((tmp_path / "tiny.history.json").read_text())
    assert history == report["history"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "data.npz", "tiny.history.json", "tiny.keras", "tiny.yaml",
    ]  # fmt: skip


@pytest.mark.slow
def test_the_result_in_words(recipe, tmp_path, capsys):
    assert run(["train", recipe, "-o", "sub/other.keras"]) == 0
    shown = capsys.readouterr()
    assert "loading npz:data.npz" in shown.err
    assert all(word in shown.out for word in ("validation", "accuracy", "other.keras"))
    assert (tmp_path / "sub" / "other.keras").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "where", "hint"),
    [
        ("model.args.unit=[3]", "--set model.args.unit=[3]", "did you mean 'units'"),
        ("data.options.y=label", "data.npz", "allowed: x, y"),
        ("train.early_stopping.monitor=val_acc", "train.early_stopping.monitor", "val_accuracy"),
        ("train.epoch=3", "--set train.epoch=3", "did you mean 'epochs'"),
    ],
)
def test_bad_settings(recipe, tmp_path, capsys, setting, where, hint):
    assert run(["train", recipe, "--json", "--quiet", "--set", setting]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["where"].endswith(where)
    assert hint in error["hint"]
    assert not (tmp_path / "tiny.keras").exists()


def test_data_that_cannot_be_used(recipe, tmp_path, capsys):
    np.savez(tmp_path / "data.npz", x=np.full((50, 2), np.nan), y=np.arange(50) % 2)
    assert run(["train", recipe]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "NaN" in shown.err
    assert "Traceback" not in shown.err


def test_help_has_an_example(capsys):
    assert run(["train", "--help"]) == 0
    assert "edgekit train recipes/digits-cnn.yaml" in capsys.readouterr().out
