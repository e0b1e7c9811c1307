"""Budgets of predicted latency."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import edgekit.compress
from edgekit.base.errors import InputError, PreconditionError
from edgekit.compress.latency import LatencyModel, predicted, usual_precision
from edgekit.compress.network import trace
from edgekit.compress.surgery import remove_channels
from edgekit.profiling.targets import load_target
from edgekit.schema.target import RuntimeSpec, Variant
from tests.compress.test_shrinking import attention, residual

pytestmark = pytest.mark.slow


def grouped() -> Any:
    import keras

    layers = keras.layers
    given = keras.Input((8, 8, 4), name="x")
    x = layers.Conv2D(16, 3, strides=2, activation="relu", name="stem")(given)
    x = layers.Conv2D(16, 3, groups=4, padding="same", name="groups")(x)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.EinsumDense("abcx,xy->abcy", (1, 1, 24), name="einsum")(x)
    x = layers.Concatenate()([x, layers.SeparableConv2D(8, 1, name="separable")(x)])
    return keras.Model(given, layers.Dense(3, name="last")(layers.Flatten()(x)))


@pytest.mark.parametrize(
    ("build", "target", "precision"),
    [
        (residual, "raspberry-pi-4", "int8"),
        (residual, "stm32-l4r5-tflm", "int8"),
        (attention, "pixel-3", "fp32"),
        (grouped, "pixel-3", "int8"),
        (grouped, "stm32-l4r5-tflm", "int8"),
    ],
)
def test_the_latency_is_known_before_the_model_is_built(
    build: Any, target: str, precision: Any
) -> None:
    model, hardware = build(), load_target(target)
    network = trace(model)
    cost = LatencyModel(model, network, hardware, precision)
    assert cost.total == predicted(model, hardware, precision)
    random = np.random.default_rng(0)
    for part in (0.2, 0.7):
        gone = np.concatenate(
            [one.roots[1:][random.random(len(one.roots) - 1) < part] for one in network.groups()]
        )
        small = remove_channels(model, network, gone)
        assert cost.without(gone) == pytest.approx(predicted(small, hardware, precision))
        assert cost.without(gone) < cost.total


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("scope", ["layer", "model"])
def test_a_budget_of_latency_is_met_and_reported(scope: str, steps: int) -> None:
    model, target = residual(), load_target("stm32-l4r5-tflm")
    result = edgekit.compress.shrink(
        model, budget={"latency_ratio": 0.5, "target": target.name}, scope=scope, steps=steps
    )
    before, after = (predicted(one, target, "int8") for one in (model, result.model))
    assert 0.35 * before < after <= 0.5 * before
    assert result.report["round_to"] == target.channel_multiple == 4
    (row,) = result.report["predicted_latency"]
    assert (row["target"], row["precision"], row["origin"]) == (target.name, "int8", "predicted")
    assert row["before"]["value"] == pytest.approx(before)
    assert row["after"]["value"] == pytest.approx(after)
    error = (target.error or {}).get("int8")
    assert row["error"] == (None if error is None else error.model_dump())


def test_the_variant_that_runs_the_file_is_charged() -> None:
    target = load_target("raspberry-pi-4")
    (processor,) = target.processors
    own = Variant(runtime=target.runtime, rules=processor.rules, costs=processor.costs)
    other = RuntimeSpec(name="ONNX Runtime", threads=own.runtime.threads, formats=("onnx",))
    swapped = target.model_copy(update={"runtime": other, "variants": (own,)})
    model = residual()
    assert predicted(model, swapped, "int8") == predicted(model, target, "int8")


def test_milliseconds_and_the_target_of_the_run() -> None:
    target = load_target("raspberry-pi-4")
    start = predicted(residual(), target, "fp32")
    result = edgekit.compress.shrink(
        residual(), budget={"latency_ms": 0.99 * start, "precision": "fp32"}, targets=(target,)
    )
    assert predicted(result.model, target, "fp32") <= 0.99 * start
    assert [row["precision"] for row in result.report["predicted_latency"]] == ["fp32"]


def test_the_latency_on_the_targets_is_reported_without_such_a_budget_too() -> None:
    targets = (load_target("raspberry-pi-4"), load_target("coral-usb"))
    result = edgekit.compress.shrink(residual(), ratio=0.5, round_to=1, targets=targets)
    rows = result.report["predicted_latency"]
    assert [row["target"] for row in rows] == [target.name for target in targets]
    assert rows[0]["after"]["value"] < rows[0]["before"]["value"]
    assert [usual_precision(target) for target in targets] == ["int8", "int8"]


@pytest.mark.parametrize(
    ("budget", "error", "words"),
    [
        ({"latency_ratio": 0.5}, PreconditionError, "needs one target, not 0"),
        ({"latency_ratio": 0.5, "macs": 0.5}, InputError, "name one of"),
        ({"macs": 0.5, "target": "pixel-3"}, InputError, "are for latency"),
        ({"latency_ratio": 0.5, "target": "pixel-33"}, InputError, "unknown target"),
        ({"latency_ms": 1e-6, "target": "pixel-3"}, PreconditionError, "cannot be met"),
        (
            {"latency_ms": 1, "target": "coral-usb", "precision": "fp32"},
            PreconditionError,
            "no measurements of fp32",
        ),
    ],
)
def test_what_cannot_be_predicted_is_refused(budget: Any, error: Any, words: str) -> None:
    with pytest.raises(error) as caught:
        edgekit.compress.shrink(residual(), budget=budget)
    assert words in str(caught.value)
