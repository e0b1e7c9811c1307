"""The simulation against real int8 files, sensitivities, and the plans that are made of them."""

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

pytestmark = pytest.mark.slow


def mixed_net() -> Any:
    """A residual block, depthwise layers, pooling and a softmax."""
    import keras

    layers = keras.layers
    x = keras.Input((8, 8, 1), name="x")
    h = layers.BatchNormalization(momentum=0.9)(layers.Conv2D(8, 3, padding="same", name="stem")(x))
    h = layers.ReLU()(h)
    y = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="dw")(h)
    y = layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.9)(y))
    y = layers.BatchNormalization(momentum=0.9)(layers.Conv2D(8, 1, name="pw")(y))
    h = layers.ReLU()(layers.Add(name="sum")([h, y]))
    h = layers.MaxPooling2D(name="pool")(h)
    h = layers.Conv2D(12, 3, activation="relu", name="last")(h)
    h = layers.Flatten(name="flat")(h)
    return keras.Model(x, layers.Dense(3, activation="softmax", name="scores")(h))


def plain_net() -> Any:
    """Convolutions with ReLUs, whose channels can be scaled without a change of function."""
    import keras

    layers = keras.layers
    h = x = keras.Input((8, 8, 1), name="x")
    for index, filters in enumerate((8, 12, 12, 12)):
        conv = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"conv{index}")
        h = conv(h)
    h = layers.GlobalAveragePooling2D(name="mean")(h)
    return keras.Model(x, layers.Dense(3, name="logits")(h))


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


def bad_channels(model: Any) -> None:
    """Spreads the channels between two convolutions over three decades; the function stays."""
    first, second = model.get_layer("conv1"), model.get_layer("conv2")
    scale = 10.0 ** np.random.default_rng(0).uniform(-3, 0, first.kernel.shape[-1])
    first.kernel.assign(first.kernel * scale)
    first.bias.assign(first.bias * scale)
    second.kernel.assign(second.kernel / scale[:, None])


@pytest.fixture(scope="module")
def trained(dataset: Dataset) -> Callable[[str], Any]:
    """Each network, trained for a few epochs, once."""
    import keras

    from edgekit.training.fit import fine_tune

    made: dict[str, Any] = {}

    def get(name: str) -> Any:
        if name not in made:
            keras.utils.set_random_seed(1)
            made[name] = plain_net() if name == "bad" else mixed_net()
            fine_tune(made[name], dataset, epochs=6, learning_rate=0.01, batch_size=16, seed=0)
            if name == "bad":
                bad_channels(made[name])
        return made[name]

    return get


@pytest.fixture(scope="module")
def pairs() -> Dataset:
    from edgekit.schema.artifact import Preprocessing

    def split(count: int, seed: int) -> Split:
        random = np.random.default_rng(seed)
        x = {name: random.normal(size=(count, 8, 8, 1)).astype("f4") for name in ("left", "right")}
        return Split(x, np.zeros((count, 1), np.float32))  # no labels of these outputs

    splits = [split(count, seed) for seed, count in enumerate((8, 0, 120, 8))]
    return Dataset(*splits, labels=(), preprocessing=Preprocessing())


def exported(
    model: Any,
    dataset: Dataset,
    precision: Any,
    folder: Path,
    worker: Worker,
    plan: QuantizationPlan | None = None,
) -> Path:
    from edgekit.export.exporter import ExportJob, export
    from edgekit.models.files import save_model

    folder.mkdir(exist_ok=True)
    save_model(model, folder / "model.keras")
    np.savez(folder / "calibration.npz", **dataset.calibration.x)  # type: ignore[arg-type]
    output = folder / f"model-{precision}.tflite"
    job = ExportJob(
        folder / "model.keras",
        "tflite",
        precision,
        output,
        calibration=None if precision == "fp32" else folder / "calibration.npz",
        plan=plan,
    )
    export(job, worker=worker, reference_x=dataset.test.x)
    return output


def steps_apart(file: Path, wanted: np.ndarray, x: dict[str, np.ndarray]) -> np.ndarray:
    from edgekit.runtimes.open import open_session
    from edgekit.runtimes.session import run_raw, to_real

    with open_session(file) as session:
        info = session.outputs[0]
        found = to_real(run_raw(session, x)[info.name], info)
    assert info.quantization is not None
    return np.abs(found - wanted) / info.quantization.scale[0]


def test_the_simulation_is_the_int8_file(
    trained: Callable[[str], Any], dataset: Dataset, tmp_path: Path, worker: Worker
) -> None:
    """Compared with the same ranges in the file, which `qat` without training brings.

    The converter's own calibration widens the ranges of what an addition takes: LiteRT adds in
    place, and the calibrator reads the sum where the summand was. With these ranges the file is
    another network, as near to the float one, that agrees less often.
    """
    from edgekit.compress import qat
    from edgekit.compress.simulation import Simulation

    model = trained("mixed")
    simulated = Simulation(model, dataset.calibration).outputs(dataset.test, {})["scores"]
    ours = exported(qat(model, dataset, epochs=0).model, dataset, "int8", tmp_path / "ours", worker)
    apart = steps_apart(ours, simulated, dataset.test.x)
    assert np.mean(apart <= 1.01) >= 0.995
    theirs = exported(model, dataset, "int8", tmp_path / "theirs", worker)
    apart = steps_apart(theirs, simulated, dataset.test.x)
    assert np.mean(apart <= 1.01) >= 0.9


def test_float_in_simulation_is_the_model_and_finer_is_nearer(
    trained: Callable[[str], Any], dataset: Dataset
) -> None:
    from edgekit.compress.sensitivity import measure
    from edgekit.compress.simulation import Simulation
    from edgekit.training.evaluate import evaluate, record_outputs

    for name in ("mixed", "bad"):
        model = trained(name)
        simulation = Simulation(model, dataset.calibration)
        plain = simulation.uniform("fp32")
        wanted = record_outputs(model, dataset.test.x)
        for output, values in simulation.outputs(dataset.test, plain).items():
            np.testing.assert_allclose(
                values, wanted[output], atol=1e-4 * np.abs(wanted[output]).max()
            )
        int8, int16, exact = measure(simulation, dataset.test, [{}, simulation.uniform("int16x8")])
        assert exact.metric == pytest.approx(evaluate(model, dataset.test))
        assert int8.sqnr_db < int16.sqnr_db < exact.sqnr_db


def test_the_scan_is_that_of_whole_runs(trained: Callable[[str], Any], dataset: Dataset) -> None:
    from edgekit.compress.sensitivity import measure, scan
    from edgekit.compress.simulation import Simulation

    model = trained("mixed")
    found = scan(model, dataset)
    simulation = Simulation(model, dataset.calibration)
    labels = [unit.label for unit in found.units]
    assert labels == ["stem", "dw", "pw", "sum", "last", "scores"]
    plain = simulation.uniform("fp32")
    for choice in ("int8", "int16x8"):
        each = [plain | {label: choice} for label in labels]
        for noises, whole in zip(
            found.noises, measure(simulation, dataset.validation, each), strict=False
        ):
            assert noises[choice].noise == pytest.approx(whole.noise, rel=1e-3, abs=1e-12)
            assert noises[choice].metric == whole.metric
    # Rounding errors of layers add up to that of the network, about.
    alone = sum(found.loss(index, "int8", "sqnr") for index in range(len(labels)))
    together = measure(simulation, dataset.validation, [{}])[0].noise
    assert alone / 4 < together < alone * 4


def test_int8_that_is_good_enough_stays(trained: Callable[[str], Any], dataset: Dataset) -> None:
    from edgekit.compress import fallback

    model = trained("mixed")
    result = fallback(model, dataset, max_drop=2.0, samples=120)
    assert result.model is model
    assert not result.modified
    assert result.plan == QuantizationPlan(precision="int8", calibration_samples=120)
    assert result.report["layers"] == []


@pytest.mark.parametrize("to", ["int16x8", "fp32"])
def test_fallback_repairs_what_int8_breaks_with_the_layers_at_fault(
    to: str, trained: Callable[[str], Any], dataset: Dataset
) -> None:
    from edgekit.compress import fallback
    from edgekit.compress.sensitivity import measure
    from edgekit.compress.simulation import Simulation

    model = trained("bad")
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


def test_fallback_keeps_the_outputs_too(trained: Callable[[str], Any], dataset: Dataset) -> None:
    from edgekit.compress import fallback

    model = trained("bad")
    by_accuracy = fallback(model, dataset, max_drop=100.0, min_snr_db=None)
    assert by_accuracy.report["layers"] == []
    noisy = by_accuracy.report["simulated"]["int8"]["sqnr_db"]
    result = fallback(model, dataset, max_drop=100.0, min_snr_db=noisy + 5)
    assert result.report["simulated"]["planned"]["sqnr_db"] >= noisy + 5
    assert [row for row in result.report["layers"] if row["precision"] != "int8"]
    with pytest.raises(PreconditionError, match="200 dB") as caught:
        fallback(model, dataset, max_drop=100.0, min_snr_db=200)
    assert "min_snr_db=" in str(caught.value.hint)


def test_the_mixed_file_is_as_simulated(
    trained: Callable[[str], Any], dataset: Dataset, tmp_path: Path, worker: Worker
) -> None:
    from edgekit.compress.simulation import Simulation
    from edgekit.runtimes.open import open_session
    from edgekit.runtimes.session import run_raw
    from edgekit.training.evaluate import record_outputs

    model = trained("bad")
    plan = QuantizationPlan(precision="mixed", layers={"conv1": "fp32", "conv2": "fp32"})
    file = exported(model, dataset, "mixed", tmp_path, worker, plan)
    with open_session(file) as session:
        info = session.outputs[0]
        raw = run_raw(session, dataset.test.x)[info.name]
    assert info.quantization is not None
    found = info.quantization.dequantize(raw)
    wanted = record_outputs(model, dataset.test.x)["logits"]
    simulated = Simulation(model, dataset.calibration).outputs(dataset.test, plan.layers)["logits"]
    power = [float(np.sum((made - wanted) ** 2)) for made in (found, simulated)]
    assert abs(10 * np.log10(power[0] / power[1])) < 1.0  # decibels
    apart = np.abs(found - simulated) / info.quantization.scale[0]
    assert np.mean(apart <= 1.01) >= 0.99


def test_budgets_are_kept_and_more_is_never_worse(
    trained: Callable[[str], Any], dataset: Dataset
) -> None:
    from edgekit.compress import mixed_precision

    before = -np.inf
    for ratio in (0.3, 0.5, 1.0):
        result = mixed_precision(trained("bad"), dataset, size_ratio=ratio)
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
        mixed_precision(trained("bad"), dataset, max_bytes=1000)
    assert error.value.hint is not None
    nearest = int(error.value.hint.split(" is ")[1].split()[0])
    assert mixed_precision(
        trained("bad"), dataset, max_bytes=nearest, candidates=["int8", "fp32"]
    ).plan == QuantizationPlan(precision="int8")


@pytest.mark.parametrize("metric", ["sqnr", "kl", "accuracy"])
def test_the_cheapest_assignment_keeps_the_accuracy(
    metric: str, trained: Callable[[str], Any], dataset: Dataset
) -> None:
    from edgekit.compress import mixed_precision

    result = mixed_precision(trained("bad"), dataset, max_drop=1.0, metric=metric)
    assert result.report["simulated"]["planned"]["drop"] <= 1.0
    cost = result.report["cost"]
    assert cost["int8"] < cost["planned"] < cost["fp32"]


def test_a_latency_budget_of_a_target_is_kept(
    trained: Callable[[str], Any], dataset: Dataset
) -> None:
    from edgekit.compress import mixed_precision
    from edgekit.compress.layer_costs import latency
    from edgekit.profiling.targets import load_target

    target, model = load_target("raspberry-pi-4"), trained("bad")
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
    file = exported(model, dataset, "fp32", tmp_path, worker)
    float_graph = read_graph(file)
    planned = planned_ops(float_graph, {**named}, where="test")  # an error for an unknown name
    assert set(planned) == {op.index for op in float_graph.ops}


def test_plans_are_made_once_and_of_float_models(
    trained: Callable[[str], Any], dataset: Dataset
) -> None:
    from edgekit.compress import fallback, mixed_precision, qat

    model = trained("mixed")
    with pytest.raises(PreconditionError, match="planned already"):
        fallback(model, dataset, plan=QuantizationPlan(precision="int8"))
    with pytest.raises(PreconditionError, match="calibration samples"):
        fallback(model, None)
    with pytest.raises(PreconditionError, match="quantized already"):
        mixed_precision(qat(model, dataset, epochs=0).model, dataset, size_ratio=0.5)
    for wrong in ({}, {"size_ratio": 0.5, "max_drop": 1.0}, {"size_ratio": 2.0}):
        with pytest.raises(InputError):
            mixed_precision(model, dataset, **wrong)
