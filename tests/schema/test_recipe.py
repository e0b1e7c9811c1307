from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit.base.errors import RecipeError
from edgekit.schema.recipe import (
    Budget,
    ExportSpec,
    ModelSpec,
    PassSpec,
    Recipe,
    Splits,
    dump_recipe,
    load_recipe,
)
from edgekit.schema.yamlfile import parse_yaml, validate

SMALLEST = "name: digits\ndata: {source: digits}\nmodel: {name: cnn}\n"
ROOT = Path(__file__).parents[2]


def recipe_of(text: str) -> Recipe:
    return validate(Recipe, parse_yaml(text, "r.yaml"), RecipeError)


def fault_of(text: str) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        recipe_of(text)
    return caught.value


@pytest.fixture
def smallest(tmp_path: Path) -> Path:
    path = tmp_path / "r.yaml"
    path.write_text(SMALLEST)
    return path


def test_the_smallest_recipe_has_useful_defaults(smallest: Path) -> None:
    recipe, source = load_recipe(smallest)
    assert recipe.train.epochs == 10
    assert recipe.export[0].precision == ("fp32", "int8")
    assert source.where(("model",)) == f"{smallest}:3:1"


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_recipes_are_valid(path: Path) -> None:
    recipe, _ = load_recipe(path)
    assert recipe.name == path.stem
    assert "yaml-language-server: $schema=" in path.read_text()


def test_a_resolved_recipe_is_read_back_equal() -> None:
    recipe = recipe_of(SMALLEST + "compress: [{prune: {sparsity: 0.5}}, quantize]\nseed: 3")
    assert recipe_of(dump_recipe(recipe)) == recipe


PARTS = {
    "seed": st.integers(0, 2**31 - 1),
    "targets": st.lists(st.sampled_from(["pixel-4", "coral-usb"]), max_size=3),
    "train": st.fixed_dictionaries(
        {},
        optional={
            "epochs": st.integers(0, 100),
            "loss": st.none() | st.just("mse"),
            "class_weights": st.none() | st.just("balanced") | st.just({0: 1.0, 1: 2.5}),
            "early_stopping": st.none() | st.just({"patience": 3}),
        },
    ),
    "compress": st.lists(
        st.sampled_from(["quantize", {"prune": {"sparsity": 0.5}}, {"prune": None}]), max_size=3
    ),
    "export": st.lists(
        st.sampled_from(
            [{"format": "onnx", "opset": 17}, {"format": "tflite", "precision": ["int8", "fp32"]}]
        ),
        min_size=1,
        max_size=3,
    ),
    "budgets": st.lists(st.just({"metric": "bytes", "max": 1000}), max_size=2),
}


@given(st.fixed_dictionaries({}, optional=PARTS))
def test_valid_recipes_survive_writing_and_reading(parts: dict[str, Any]) -> None:
    recipe = recipe_of(SMALLEST + (yaml.safe_dump(parts) if parts else ""))
    assert recipe_of(dump_recipe(recipe)) == recipe


@pytest.mark.parametrize(
    ("extra", "where", "message", "hint"),
    [
        ("trian: {epochs: 3}", "4:1", "unknown key 'trian'", "did you mean 'train'?"),
        ("train:\n  epoch: 3", "5:3", "unknown key 'train.epoch'", "did you mean 'epochs'?"),
        ("train: {epochs: -1}", "4:9", "greater than or equal to 0 (found -1)", ""),
        ("train: {epochs: many}", "4:9", "'train.epochs' should be a valid integer", ""),
        ("seed: .inf", "4:1", "'seed' should be a finite number", ""),
        (
            "train:\n  optimizer: {name: adamm}",
            "5:15",
            "'train.optimizer.name' is 'adamm'",
            "did you mean 'adam'? allowed: adam, adamw, lion, rmsprop, sgd",
        ),
        (
            "export: [{format: tflite, precision: int9}]",
            "4:27",
            "'export.0.precision' is 'int9'",
            "did you mean 'int8'?",
        ),
        ("export: []", "4:1", "at least 1 item", ""),
        ("budgets: [{metric: bytes}]", "4:11", "give either 'max' or 'min'", ""),
        ("budgets: [{metric: byte, max: 1}]", "4:12", "is 'byte'", "did you mean 'bytes'?"),
        ("compress: [{prune: {sparsity: 1}, x: 1}]", "4:12", "is not one pass", ""),
        ("compress: [{prune: 0.5}]", "4:12", "should be a mapping of keys to values", ""),
    ],
)
def test_a_fault_is_named_with_its_place_and_the_nearest_word(
    extra: str, where: str, message: str, hint: str
) -> None:
    fault = fault_of(SMALLEST + extra)
    assert fault.where == f"r.yaml:{where}"
    assert message in fault.message
    assert hint in (fault.hint or "")
    assert "Tuple" not in (fault.hint or "")  # no follow-up complaint of the list around it


@pytest.mark.parametrize("text", ["", "[1]", "just words", "3"])
def test_what_is_not_a_mapping_is_no_recipe(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(RecipeError):
        load_recipe(tmp_path / "r.yaml")


def test_overrides_replace_add_and_reach_into_lists(smallest: Path) -> None:
    recipe, _ = load_recipe(
        smallest,
        (
            "train.epochs=2",
            "train.optimizer={name: sgd, momentum: 0.9}",
            "train.loss=",
            "targets=[pixel-4, coral-usb]",
            "targets.1=raspberry-pi-4",
            "train.class_weights={0: 1.0}",
            "train.class_weights.0=3",
        ),
    )
    assert recipe.train.epochs == 2
    assert recipe.train.optimizer.momentum == 0.9
    assert recipe.train.loss is None
    assert recipe.targets == ("pixel-4", "raspberry-pi-4")
    assert recipe.train.class_weights == {0: 3.0}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.epochs", "an override is written a.b=c"),
        ("=3", "an override is written a.b=c"),
        ("name.x=3", "'x' is not a key of a mapping or an index of a list"),
        ("train.epochs=[", "is not valid YAML"),
        ("train.epochs=many", "should be a valid integer"),
        ("train.epoch=3", "did you mean 'epochs'?"),
    ],
)
def test_a_bad_override_is_named(smallest: Path, override: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(smallest, (override,))
    assert str(caught.value.where).startswith(f"--set {override}")
    assert words in str(caught.value)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=30))
def test_any_override_is_taken_or_refused_with_one_error(smallest: Path, text: str) -> None:
    fault = None
    try:
        load_recipe(smallest, (text,))
    except RecipeError as error:
        fault = error
    assert fault is None or str(fault.where).startswith("--set")


@pytest.mark.parametrize("word", ["prune", {"prune": None}, {"name": "prune"}, {"prune": {}}])
def test_a_pass_without_arguments_has_four_spellings(word: Any) -> None:
    assert PassSpec.model_validate(word) == PassSpec(name="prune")


@given(*[st.floats(0.05, 0.9) for _ in range(4)])
def test_splits_never_overlap(
    train: float, validation: float, calibration: float, test: float
) -> None:
    shares = {"train": train, "validation": validation, "calibration": calibration, "test": test}
    if sum(shares.values()) > 1 + 1e-9:
        with pytest.raises(ValueError, match="more than 1"):
            Splits(**shares)
    else:
        assert Splits(**shares).model_dump() == shares


def test_one_precision_may_be_written_without_a_list() -> None:
    assert ExportSpec.model_validate({"format": "onnx", "precision": "int8"}).precision == ("int8",)


def test_a_budget_has_one_limit() -> None:
    assert Budget(metric="bytes", max=1).max == 1
    with pytest.raises(ValueError, match="either"):
        Budget(metric="bytes", max=1, min=0)


def test_a_model_may_be_just_its_name() -> None:
    assert ModelSpec.model_validate("resnet8") == ModelSpec(name="resnet8")


def test_an_opset_is_for_onnx_and_one_a_file() -> None:
    fault = fault_of(SMALLEST + "export: [{format: tflite, opset: 17}]")
    assert fault.where == "r.yaml:4:10"
    assert "'opset' is for onnx only" in fault.message
    twice = (
        "export: [{format: onnx, opset: 17}, {format: onnx, precision: [int8, fp32], opset: 13}]"
    )
    assert "asks for onnx fp32 with two opsets" in fault_of(SMALLEST + twice).message
    assert recipe_of(SMALLEST + "export: [{format: onnx, opset: 17}, {format: tflite}]").export
