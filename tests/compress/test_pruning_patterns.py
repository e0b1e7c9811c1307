from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import edgekit.compress
from edgekit.base.errors import InputError, PreconditionError
from edgekit.compress.kernels import find_kernels
from edgekit.compress.masks import zeros_asked
from edgekit.data.dataset import Dataset
from edgekit.schema.recipe import TrainSpec

pytestmark = pytest.mark.slow

TRAIN = TrainSpec(epochs=8, batch_size=16)


def network() -> Any:
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(1)
    x = image = keras.Input((8, 8, 1), name="x")
    x = layers.Conv2D(8, 3, activation="relu", name="first")(x)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.Conv2D(16, 1, activation="relu", name="point")(x)
    x = layers.Conv2DTranspose(12, 3, activation="relu", name="up")(x)
    x = layers.Reshape((36, 12), name="tokens")(x)
    x = layers.MultiHeadAttention(2, 6, name="attention")(x, x)
    x = layers.LSTM(10, name="lstm")(x)
    return keras.Model(image, layers.Dense(3, activation="softmax", name="out")(x))


INPUT_AXES = {  # of the layouts that Keras documents
    "point.kernel": 2,
    "up.kernel": 3,
    "attention/query.kernel": 0,
    "attention/key.kernel": 0,
    "attention/value.kernel": 0,
    "attention/attention_output.kernel": 1,
    "lstm/lstm_cell.kernel": 0,
    "lstm/lstm_cell.recurrent_kernel": 0,
    "out.kernel": 0,
}


def kernels_of(model: Any) -> dict[str, np.ndarray]:
    return {f"{k.layer}.{k.name}": k.values for k in find_kernels(model)[0]}


def most_in_a_group(values: np.ndarray, axis: int) -> int:
    rows = np.moveaxis(values != 0, axis, -1).reshape(-1, values.shape[axis])
    groups = [rows[:, start : start + 4] for start in range(0, rows.shape[1], 4)]
    return max(int(np.count_nonzero(group, axis=1).max()) for group in groups)


@pytest.mark.parametrize(("pattern", "n"), [("2:4", 2), ("1:4", 1)])
def test_no_group_along_the_inputs_has_more_weights_than_the_pattern(
    pattern: Any, n: int, dataset: Dataset
) -> None:
    model = network()
    ways: list[Any] = [(None, {}), (dataset, {"epochs": 1, "train": TRAIN})]
    for data, options in ways if n == 2 else ways[:1]:
        result = edgekit.compress.prune(model, data, pattern=pattern, **options)
        kernels = kernels_of(result.model)
        for name, axis in INPUT_AXES.items():
            assert most_in_a_group(kernels[name], axis) == n
        reasons = {row["layer"]: row["reason"] for row in result.report["untreated"]}
        assert reasons == {
            "first": f"it has 1 inputs, fewer than a group of 4 (its kernel, {pattern})",
            "depthwise": f"each of its channels has one input only (its kernel, {pattern})",
        }
        assert not np.any(kernels["first.kernel"] == 0)
    with pytest.raises(PreconditionError, match="cannot be pruned: first"):
        edgekit.compress.prune(model, pattern=pattern, strict=True)


def test_blocks_of_four_output_channels_go_together() -> None:
    result = edgekit.compress.prune(network(), sparsity=0.6, pattern="block_1x4")
    rows = {f"{row['layer']}.{row['weight']}": row for row in result.report["layers"]}
    kernels = kernels_of(result.model)
    assert {*rows} == {*kernels} - {"depthwise.kernel", "out.kernel"}
    for name in ("first.kernel", "point.kernel", "lstm/lstm_cell.kernel"):
        zeros = kernels[name] == 0
        blocks = zeros.reshape(-1, zeros.shape[-1] // 4, 4)
        assert np.all(blocks.all(axis=-1) == blocks.any(axis=-1))
        asked = zeros_asked(zeros.size, 0.6)
        assert asked <= np.count_nonzero(zeros) < asked + 4


@pytest.mark.parametrize("distribution", ["erdos_renyi", "sensitivity"])
def test_the_kernels_have_the_sparsity_together(dataset: Dataset, distribution: Any) -> None:
    model = network()
    result = edgekit.compress.prune(
        model, dataset, sparsity=0.7, distribution=distribution, layers={"first": 0.2}, epochs=0
    )
    rows = {f"{row['layer']}.{row['weight']}": row for row in result.report["layers"]}
    assert rows["first.kernel"]["zeros"] == zeros_asked(72, 0.2)
    others = [row for name, row in rows.items() if name != "first.kernel"]
    total = sum(row["weights"] for row in others)
    assert sum(row["zeros"] for row in others) == pytest.approx(0.7 * total, abs=len(others) / 2)
    assert len({round(row["asked"], 6) for row in others}) > 3
    assert ("sensitivity" in result.report) == (distribution == "sensitivity")


def test_a_scan_spares_what_the_outputs_depend_on(dataset: Dataset) -> None:
    import keras

    from edgekit.training.evaluate import evaluate
    from edgekit.training.fit import fine_tune

    layers = keras.layers
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(24, activation="relu", name="big"),
         layers.Dense(24, activation="relu", name="mid"),
         layers.Dense(3, activation="softmax", name="out")]
    )  # fmt: skip
    fine_tune(model, dataset, epochs=10, learning_rate=3e-3, batch_size=16, seed=0)
    before = model.get_weights()
    errors = {}
    for distribution in ("uniform", "sensitivity"):
        result = edgekit.compress.prune(
            model,
            dataset,
            sparsity=0.9,
            distribution=distribution,
            epochs=0,
        )
        x = dataset.test.x["x"]
        errors[distribution] = float(np.mean((np.asarray(result.model(x)) - model(x)) ** 2))
        assert evaluate(result.model, dataset.test)["accuracy"] > 0.3
    assert errors["sensitivity"] < errors["uniform"]
    for old, kept in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, kept)
    scanned = result.report["sensitivity"]
    assert {*scanned} == {"big.kernel", "mid.kernel", "out.kernel"}
    assert scanned["big.kernel"]["0.25"] < scanned["big.kernel"]["0.97"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pattern": "2:4", "sparsity": 0.8}, "'sparsity' is 0.5 with the pattern 2:4"),
        ({"pattern": "1:4", "layers": {"out": 0.5}}, "'layers' does not go with the pattern 1:4"),
        (
            {"pattern": "2:4", "distribution": "erdos_renyi"},
            "'distribution' does not go with the pattern 2:4",
        ),
        ({"pattern": "3:4"}, "2:4"),
        ({"distribution": "sensitivity"}, "a sensitivity scan needs validation samples"),
    ],
)
def test_what_does_not_go_together_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        edgekit.compress.prune(network(), None, **options)
    assert words in str(caught.value)


def test_a_pattern_stays_through_clustering_and_another_pruning(dataset: Dataset) -> None:
    model = edgekit.compress.prune(network(), pattern="2:4").model
    model = edgekit.compress.cluster(model, dataset, clusters=6, epochs=1, train=TRAIN).model
    model = edgekit.compress.prune(
        model, dataset, sparsity=0.2, skip=["up"], epochs=1, train=TRAIN
    ).model
    kernels = kernels_of(model)
    for name, axis in INPUT_AXES.items():
        assert most_in_a_group(kernels[name], axis) == 2
    assert np.unique(kernels["up.kernel"]).size <= 7
