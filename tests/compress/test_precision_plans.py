"""Plans of layers in several precisions, made of simulations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.base.child import Worker
from edgekit.base.errors import InputError, PreconditionError
from edgekit.data.dataset import Dataset, Split
from edgekit.schema.plan import QuantizationPlan
from tests.compress.exported_files import exported

pytestmark = pytest.mark.slow


def heads_net() -> Any:
    """Two inputs, a nested model called twice, an operation, and a small and a large head joined.

    The heads stand for scores and boxes: one scale for both leaves the small one few steps.
    """
    import keras

    layers = keras.layers
    a = keras.Input((8, 8, 1), name="inside")
    b = layers.Conv2D(4, 3, padding="same", activation="relu", name="conv")(a)
    body = keras.Model(a, layers.GlobalAveragePooling2D(name="mean")(b), name="body")
    left, right = keras.Input((8, 8, 1), name="left"), keras.Input((8, 8, 1), name="right")
    h = layers.Concatenate(name="both")([body(left), body(right)])
    h = h * 2.0
    small = layers.Dense(3, activation="tanh", name="small")(h)
    large = layers.Dense(4, kernel_initializer="ones", name="large")(h)
    large = layers.Rescaling(300.0, name="wide")(large)
    joined = layers.Concatenate(name="joined")([layers.Dropout(0.5)(small), large])
    return keras.Model([left, right], [joined, layers.Dense(2, name="other")(h)])


@pytest.fixture(scope="module")
def pairs() -> Dataset:
    from edgekit.schema.artifact import Preprocessing

    def split(count: int, seed: int) -> Split:
        random = np.random.default_rng(seed)
        x = {name: random.normal(size=(count, 8, 8, 1)).astype("f4") for name in ("left", "right")}
        return Split(x, np.zeros((count, 1), np.float32))  # no labels of these outputs

    splits = [split(count, seed) for seed, count in enumerate((8, 0, 120, 8))]
    return Dataset(*splits, labels=(), preprocessing=Preprocessing())


def test_int8_that_is_good_enough_stays(
    precision_nets: Callable[[str], Any], dataset: Dataset
) -> None:
    from edgekit.compress import fallback

    model = precision_nets("mixed")
    result = fallback(model, dataset, max_drop=2.0, samples=120)
    assert result.model is model
    assert not result.modified
    assert result.plan == QuantizationPlan(precision="int8", calibration_samples=120)
    assert result.report["layers"] == []


@pytest.mark.parametrize("to", ["int16x8", "fp32"])
def test_fallback_repairs_what_int8_breaks_with_the_layers_at_fault(
    to: str, precision_nets: Callable[[str], Any], dataset: Dataset
) -> None:
    from edgekit.compress import fallback
    from edgekit.compress.sensitivity import measure
    from edgekit.compress.simulation import Simulation

    model = precision_nets("bad")
    said: list[str] = []
    result = fallback(model, dataset, to=to, max_drop=1.0, tell=said.append)
    assert result.report["drop_int8"] > 10
    assert result.report["drop"] <= 1.0
    assert result.plan is not None
    assert result.plan.layers == {"conv1": to, "conv2": to}
    assert any("conv1" in line for line in said)
    assert all(
        row["drop_in_int8"] > 1.0 for row in result.report["layers"] if row["precision"] == to
    )
    simulation = Simulation(model, dataset.calibration)
    int8, planned, exact = measure(simulation, dataset.test, [{}, result.plan.layers])
    assert exact.metric is not None
    assert int8.metric is not None
    assert planned.metric is not None
    assert int8.metric["accuracy"] < exact.metric["accuracy"] - 0.1
    assert planned.metric["accuracy"] > exact.metric["accuracy"] - 0.03


def test_fallback_keeps_the_outputs_too(
    precision_nets: Callable[[str], Any], dataset: Dataset
) -> None:
    from edgekit.compress import fallback

    model = precision_nets("bad")
    by_accuracy = fallback(model, dataset, max_drop=100.0, min_snr_db=None)
    assert by_accuracy.report["layers"] == []
    noisy = by_accuracy.report["simulated"]["int8"]["sqnr_db"]
    result = fallback(model, dataset, max_drop=100.0, min_snr_db=noisy + 5)
    assert result.report["simulated"]["planned"]["sqnr_db"] >= noisy + 5
    assert [row for row in result.report["layers"] if row["precision"] != "int8"]
    with pytest.raises(PreconditionError, match="200 dB") as caught:
        fallback(model, dataset, max_drop=100.0, min_snr_db=200)
    assert "min_snr_db=" in str(caught.value.hint)


def test_budgets_are_kept_and_more_is_never_worse(
    precision_nets: Callable[[str], Any], dataset: Dataset
) -> None:
    from edgekit.compress import mixed_precision

    before = -np.inf
    for ratio in (0.3, 0.5, 1.0):
        result = mixed_precision(precision_nets("bad"), dataset, size_ratio=ratio)
        cost = result.report["cost"]
        assert cost["planned"] <= ratio * cost["fp32"]
        found = result.report["simulated"]["planned"]["sqnr_db"]
        assert found >= before - 0.5
        before = found
        chosen = {row["layer"]: row["precision"] for row in result.report["layers"]}
        assert chosen["conv1"] != "int8"
        assert result.plan is not None
        assert result.plan.precision in ("mixed", "fp32")
    with pytest.raises(PreconditionError) as error:
        mixed_precision(precision_nets("bad"), dataset, max_bytes=1000)
    assert error.value.hint is not None
    nearest = int(error.value.hint.split(" is ")[1].split()[0])
    assert mixed_precision(
        precision_nets("bad"), dataset, max_bytes=nearest, candidates=["int8", "fp32"]
    ).plan == QuantizationPlan(precision="int8")


@pytest.mark.parametrize("metric", ["sqnr", "kl", "accuracy"])
def test_the_cheapest_assignment_keeps_the_accuracy(
    metric: str, precision_nets: Callable[[str], Any], dataset: Dataset
) -> None:
    from edgekit.compress import mixed_precision

    result = mixed_precision(precision_nets("bad"), dataset, max_drop=1.0, metric=metric)
    assert result.report["simulated"]["planned"]["drop"] <= 1.0
    cost = result.report["cost"]
    assert cost["int8"] < cost["planned"] < cost["fp32"]


def test_a_latency_budget_of_a_target_is_kept(
    precision_nets: Callable[[str], Any], dataset: Dataset
) -> None:
    from edgekit.compress import mixed_precision
    from edgekit.compress.layer_costs import latency
    from edgekit.profiling.targets import load_target

    target, model = load_target("raspberry-pi-4"), precision_nets("bad")
    result = mixed_precision(model, dataset, max_latency_ms=100.0, target="raspberry-pi-4")
    cost = result.report["cost"]
    assert cost["planned"] <= 100.0
    assert "int16x8" not in cost  # there are no kernels' costs of it
    assert any("int16x8" in line for line in result.report["warnings"])
    assert result.plan is not None
    if result.plan.precision == "mixed":
        whole = latency(model, dict(result.plan.layers), target)  # type: ignore[arg-type]
        assert whole is not None
        assert whole <= 100.0
    with pytest.raises(PreconditionError, match="more than the budget"):
        mixed_precision(model, dataset, max_latency_ms=1e-3, targets=(target,))


def test_one_scale_of_different_heads_is_found(pairs: Dataset) -> None:
    import keras

    from edgekit.compress import mixed_precision
    from edgekit.compress.sensitivity import scan
    from edgekit.compress.simulation import Simulation

    keras.utils.clear_session()  # the operation is numbered after those of other tests otherwise
    keras.utils.set_random_seed(0)
    model = heads_net()
    found = scan(model, pairs)
    labels = [unit.label for unit in found.units]
    assert labels.count("body/conv") == labels.count("body/mean") == 1  # shared: one precision
    result = mixed_precision(model, pairs, size_ratio=0.5, samples=100)
    assert [row["layer"] for row in result.report["untreated"]] == ["multiply"]
    assert result.plan is not None
    assert not {"multiply", "dropout"} & set(result.plan.layers)
    # In int8 the small head has the steps of the large one, and is lost.
    simulation = Simulation(model, pairs.calibration)
    plain = simulation.uniform("fp32")
    wanted = simulation.outputs(pairs.calibration, plain)["joined"][:, :3]
    errors = []
    for choice in ("int8", "int16x8"):
        one = {"small": "int16x8", "wide": "int16x8", "large": "int16x8", "joined": choice}
        made = simulation.outputs(pairs.calibration, one)["joined"][:, :3]
        errors.append(float(np.abs(made - wanted).max()))
    assert errors[0] > 20 * errors[1]
    with pytest.raises(PreconditionError, match="multiply"):
        mixed_precision(model, pairs, size_ratio=0.5, strict=True)
    with pytest.raises(PreconditionError, match="labels"):
        mixed_precision(model, pairs, max_drop=1.0)


def test_every_name_of_a_plan_is_found_in_the_float_file(
    dataset: Dataset, tmp_path: Path, worker: Worker
) -> None:
    import keras

    from edgekit.compress.precision_graph import PrecisionGraph
    from edgekit.export.layer_precision import planned_ops
    from edgekit.graph.read import read_graph

    layers = keras.layers
    encoder = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, padding="same", name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="relu"),
            layers.MaxPooling2D(name="pool"),
        ],
        name="encoder",
    )
    x = keras.Input((8, 8, 1), name="x")
    h = encoder(x)
    h = layers.Add(name="sum")([h, layers.Conv2D(4, 1, name="side")(h)])
    h = layers.Dropout(0.1, name="drop")(layers.Activation("relu", name="act")(h))
    h = layers.Flatten(name="flat")(h)
    h = layers.Dense(8, activation="tanh", name="hidden")(h)
    outputs = [
        layers.Dense(3, activation="softmax", name="scores")(h),
        layers.Dense(2, name="box")(h),
    ]
    model = keras.Model(x, outputs)
    graph = PrecisionGraph(model)
    named = graph.layers({unit.label: "int16x8" for unit in graph.units})
    assert set(named) == {
        *("encoder/conv", "encoder/pool", "side", "sum", "flat", "hidden", "scores", "box")
    }
    file = exported(model, dataset, tmp_path, worker, "fp32")
    float_graph = read_graph(file)
    planned = planned_ops(float_graph, {**named}, where="test")  # an error for an unknown name
    assert set(planned) == {op.index for op in float_graph.ops}


def test_plans_are_made_once_and_of_float_models(
    precision_nets: Callable[[str], Any], dataset: Dataset
) -> None:
    from edgekit.compress import fallback, mixed_precision, qat

    model = precision_nets("mixed")
    with pytest.raises(PreconditionError, match="planned already"):
        fallback(model, dataset, plan=QuantizationPlan(precision="int8"))
    with pytest.raises(PreconditionError, match="calibration samples"):
        fallback(model, None)
    with pytest.raises(PreconditionError, match="quantized already"):
        mixed_precision(qat(model, dataset, epochs=0).model, dataset, size_ratio=0.5)
    for wrong in ({}, {"size_ratio": 0.5, "max_drop": 1.0}, {"size_ratio": 2.0}):
        with pytest.raises(InputError):
            mixed_precision(model, dataset, **wrong)
