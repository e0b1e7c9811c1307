from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import edgekit.compress
from edgekit.base.errors import InputError, PreconditionError
from edgekit.compress.grid import quantized_activations
from edgekit.data.dataset import Dataset, Split
from edgekit.models.ranges import Histogram, choose_range
from edgekit.schema.plan import QuantizationPlan

pytestmark = pytest.mark.slow


def network(name: str = "x") -> Any:
    import keras

    layers = keras.layers
    x = image = keras.Input((8, 8, 1), name=name)
    x = layers.Conv2D(4, 3, name="conv")(x)
    x = layers.Flatten(name="flatten")(x)
    return keras.Model(image, layers.Dense(3, name="dense")(x))


@pytest.mark.parametrize("precision", ["int8", "int8-dynamic", "fp16", "int16x8"])
def test_the_plan_is_made_and_the_model_stays(dataset: Dataset, precision: str) -> None:
    model = network()
    before = model.get_weights()
    result = edgekit.compress.quantize(model, dataset, precision=precision)
    assert result.model is model
    assert not result.modified
    assert result.plan == QuantizationPlan(precision=precision)  # type: ignore[arg-type]
    assert [row["layer"] for row in result.report["layers"]] == ["conv", "dense"]
    assert result.report["warnings"] == []
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    ("precision", "needed"),
    [("int8", True), ("int16x8", True), ("fp16", False), ("int8-dynamic", False)],
)
def test_calibration_data_are_needed_where_activations_are_integers(
    precision: str, needed: bool
) -> None:
    if needed:
        with pytest.raises(PreconditionError, match="needs calibration samples"):
            edgekit.compress.quantize(network(), precision=precision)
    else:
        assert edgekit.compress.quantize(network(), precision=precision).plan is not None


def test_the_calibration_set_is_checked_first(dataset: Dataset) -> None:
    said: list[str] = []
    odd = Split({"x": dataset.calibration.x["x"][:30] * 255}, dataset.calibration.y[:30])
    result = edgekit.compress.quantize(
        network(), replace(dataset, calibration=odd), tell=said.append
    )
    words = "\n".join(result.report["warnings"])
    assert "30 calibration samples are few" in words
    assert "were they preprocessed alike?" in words
    assert said == [f"quantize: {line}" for line in result.report["warnings"]]


def test_as_many_samples_as_asked_are_checked_and_planned(dataset: Dataset) -> None:
    result = edgekit.compress.quantize(network(), dataset, samples=120)
    assert result.plan == QuantizationPlan(precision="int8", calibration_samples=120)
    assert result.report["calibration"]["samples"] == 120
    more = edgekit.compress.quantize(network(), dataset, samples=999)
    assert more.plan == QuantizationPlan(precision="int8")
    assert "999 calibration samples were asked for, there are 150" in more.report["warnings"]


def test_one_input_takes_an_array_of_any_name(dataset: Dataset) -> None:
    assert edgekit.compress.quantize(network("image"), dataset).plan is not None


def test_samples_of_another_shape_are_refused(dataset: Dataset) -> None:
    flat = Split({"x": np.zeros((10, 64), np.float32)}, dataset.calibration.y[:10])
    with pytest.raises(PreconditionError, match=r"have shape \(64,\), the model takes \(8, 8, 1\)"):
        edgekit.compress.quantize(network(), replace(dataset, calibration=flat))


def test_a_second_plan_is_refused(dataset: Dataset) -> None:
    with pytest.raises(PreconditionError, match="is planned already"):
        edgekit.compress.quantize(network(), dataset, plan=QuantizationPlan(precision="fp16"))


def test_ranges_and_engine_come_into_the_plan(dataset: Dataset) -> None:
    options: dict[str, Any] = {"calibration": "percentile", "percentile": 99.9, "engine": "native"}
    result = edgekit.compress.quantize(network(), dataset, **options)
    assert result.plan == QuantizationPlan(precision="int8", **options)
    assert (result.report["ranges"], result.report["engine"]) == ("percentile", "native")
    assert not result.modified


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "int16x8", "calibration": "mse"},
        {"precision": "fp16", "engine": "native"},
        {"precision": "int8-dynamic", "calibration": "entropy"},
        {"percentile": 20},
        {"calibration": "moving"},
    ],
)
def test_ranges_and_engine_that_mean_nothing_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        edgekit.compress.quantize(network(), **options)


@pytest.mark.parametrize("how", ["minmax", "mse", "percentile", "entropy"])
def test_activations_are_simulated_on_the_grid_of_the_calibration(how: Any) -> None:
    values = np.abs(np.random.default_rng(0).normal(size=20_000)).astype(np.float32)
    values[0] = 9
    histogram = Histogram.between(0, 9)
    histogram.add(values)
    low, high = choose_range(histogram, how)
    (made,) = quantized_activations([values], [values], how)
    found = np.asarray(made)
    step = (high - low) / 255
    assert found.max() <= high + step
    kept = values <= high
    np.testing.assert_allclose(found[kept], values[kept], atol=0.5 * step * 1.01)
    assert len(np.unique(found)) <= 256
