from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgekit.compress
from edgekit.base.errors import InputError, PostconditionError, PreconditionError
from edgekit.compress.kernels import find_kernels
from edgekit.compress.masks import zeros_asked
from edgekit.data.dataset import Dataset
from edgekit.profiling.targets import load_target
from edgekit.schema.recipe import TrainSpec

pytestmark = pytest.mark.slow

QUICK: dict[str, Any] = {"train": TrainSpec(epochs=8, batch_size=16)}


def functional() -> Any:
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(1)
    x = image = keras.Input((8, 8, 1), name="x")
    x = layers.Conv2D(8, 3, name="conv")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU(name="relu")(x)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.SeparableConv2D(12, 3, name="separable")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(3, activation="softmax", name="dense")(x)
    return keras.Model(image, x)


def sequential() -> Any:
    import keras

    layers = keras.layers
    return keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Conv2D(4, 3, name="rows"), layers.Flatten(),
         layers.Dense(3, activation="softmax", name="dense")]
    )  # fmt: skip


def nested() -> Any:
    import keras

    layers = keras.layers
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(6, name="dense")], name="inner")
    x = given = keras.Input((6,))
    x = inner(inner(x))  # shared: its kernel counts once
    x = layers.Dense(2, name="dense")(x)
    return keras.Model(given, x)


def sequence() -> Any:
    import keras

    layers = keras.layers
    tokens = keras.Input((5,), dtype="int32")
    x = layers.Embedding(11, 8, name="embedding")(tokens)
    x = layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    x = layers.Bidirectional(layers.LSTM(4, name="lstm"), name="both")(x)
    return keras.Model(tokens, layers.Dense(2, name="dense")(x))


def zeros_of(model: Any) -> dict[str, int]:
    return {
        f"{k.layer}.{k.name}": k.size - int(np.count_nonzero(k.values))
        for k in find_kernels(model)[0]
    }


def sizes_of(model: Any) -> dict[str, int]:
    return {f"{k.layer}.{k.name}": k.size for k in find_kernels(model)[0]}


@pytest.mark.parametrize(
    ("build", "names"),
    [
        (
            functional,
            ["conv.kernel", "depthwise.kernel", "separable.depthwise_kernel",
             "separable.pointwise_kernel", "dense.kernel"],
        ),
        (sequential, ["rows.kernel", "dense.kernel"]),
        (nested, ["inner/dense.kernel", "dense.kernel"]),
        (
            sequence,
            ["attention/query.kernel", "attention/key.kernel", "attention/value.kernel",
             "attention/attention_output.kernel", "both/forward_lstm/lstm_cell.kernel",
             "both/forward_lstm/lstm_cell.recurrent_kernel", "both/backward_lstm/lstm_cell.kernel",
             "both/backward_lstm/lstm_cell.recurrent_kernel", "dense.kernel"],
        ),
    ],
)  # fmt: skip
def test_all_kinds_of_models_are_pruned_to_the_weight(build: Any, names: list[str]) -> None:
    model = build()
    result = edgekit.compress.prune(model, sparsity=0.7)
    zeros, sizes = zeros_of(result.model), sizes_of(result.model)
    assert set(zeros) == set(names)
    assert zeros == {name: zeros_asked(size, 0.7) for name, size in sizes.items()}
    assert [row["zeros"] for row in result.report["layers"]] == list(zeros.values())
    assert result.report["sparsity"] == pytest.approx(sum(zeros.values()) / sum(sizes.values()))
    assert result.report["gzip_bytes"] < result.report["gzip_bytes_before"]


@settings(max_examples=12, deadline=None)
@given(st.floats(0, 0.99), st.floats(0, 0.99))
def test_the_sparsity_of_each_layer_is_reached_to_one_weight(one: float, two: float) -> None:
    model = nested()
    result = edgekit.compress.prune(model, sparsity=one, layers={"inner/*": two})
    sizes, zeros = sizes_of(model), zeros_of(result.model)
    assert zeros == {
        "inner/dense.kernel": zeros_asked(sizes["inner/dense.kernel"], two),
        "dense.kernel": zeros_asked(sizes["dense.kernel"], one),
    }
    assert result.modified == (sum(zeros.values()) > 0)
    if not result.modified:
        assert result.model is model


def test_what_is_not_pruned_keeps_its_values_and_the_given_model_all() -> None:
    model = functional()
    before = {w.path: w.numpy() for w in model.weights}
    result = edgekit.compress.prune(model, sparsity=0.5, skip=["dense", "sep*"])
    changed = {
        w.path
        for w, old in zip(result.model.weights, before.values(), strict=True)
        if not np.array_equal(w.numpy(), old)
    }
    assert changed == {"conv/kernel", "depthwise/kernel"}
    assert all(np.array_equal(w.numpy(), before[w.path]) for w in model.weights)
    kept = {item["layer"]: item["reason"] for item in result.report["untreated"]}
    assert kept == {"dense": "skipped as asked", "separable": "skipped as asked"}


def test_a_model_with_nothing_to_remove_computes_the_same(dataset: Dataset) -> None:
    model = functional()
    x = dataset.test.x["x"]
    result = edgekit.compress.prune(model, sparsity=0.0)
    np.testing.assert_array_equal(result.model(x), model(x))
    assert not result.modified


def test_zeros_stay_zero_while_fine_tuning_and_it_helps(dataset: Dataset) -> None:
    from edgekit.training.evaluate import evaluate
    from edgekit.training.fit import fine_tune

    model = functional()
    fine_tune(model, dataset, epochs=10, learning_rate=3e-3, batch_size=16, seed=0)
    once = edgekit.compress.prune(model, sparsity=0.8)
    tuned = edgekit.compress.prune(
        model, dataset, sparsity=0.8, epochs=8, learning_rate=3e-3, **QUICK
    )
    sizes = sizes_of(model)
    asked = {name: zeros_asked(size, 0.8) for name, size in sizes.items()}
    assert zeros_of(once.model) == zeros_of(tuned.model) == asked
    accuracy = {
        name: evaluate(one, dataset.test)["accuracy"]
        for name, one in [("float", model), ("once", once.model), ("tuned", tuned.model)]
    }
    assert accuracy["float"] > 0.95
    assert accuracy["tuned"] > max(accuracy["once"], 0.9)
    assert len(tuned.report["history"]["loss"]) == 8


def test_one_seed_gives_the_same_weights(dataset: Dataset) -> None:
    model = functional()
    one, two = (
        edgekit.compress.prune(model, dataset, epochs=1, seed=5, **QUICK).model for _ in range(2)
    )
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_zeros_follow_the_schedule_while_training(dataset: Dataset) -> None:
    seen: list[float] = []

    def watch(text: str, done: float = 0.0, total: float | None = None) -> None:
        seen.append(done)

    result = edgekit.compress.prune(
        functional(), dataset, sparsity=0.6, epochs=2, begin=0.5, end=1.0, progress=watch, **QUICK
    )
    assert seen[-1] == 2.0
    assert result.report["sparsity"] == pytest.approx(0.6, abs=0.01)


def test_layers_that_cannot_be_treated_are_named_with_the_reason() -> None:
    model = sequence()
    model.get_layer("dense").trainable = False
    result = edgekit.compress.prune(model, sparsity=0.5)
    reasons = {item["layer"]: item["reason"] for item in result.report["untreated"]}
    assert reasons == {
        "embedding": "its rows are looked up, not multiplied",
        "dense": "it is frozen (trainable is false)",
    }
    with pytest.raises(PreconditionError, match=r"embedding \(Embedding\): its rows"):
        edgekit.compress.prune(model, strict=True)
    edgekit.compress.prune(model, strict=True, skip=["embedding", "dense"])


def test_what_targets_make_of_zeros_is_said_before_the_work(dataset: Dataset) -> None:
    said: list[str] = []
    events: list[str] = []

    def watch(text: str, done: float = 0.0, total: float | None = None) -> None:
        events.append(f"{len(said)} lines were said")

    target = load_target("raspberry-pi-4")
    result = edgekit.compress.prune(
        functional(), dataset, epochs=1, targets=(target,), tell=said.append, progress=watch,
        **QUICK,
    )  # fmt: skip
    assert said[0].startswith("prune: raspberry-pi-4: zero weights ")
    assert target.zeros.why in said[0]
    assert events
    assert events[0] != "0 lines were said"
    assert result.report["targets"][0]["effect"] == target.zeros.effect
    without = edgekit.compress.prune(functional())
    assert "no target is chosen" in without.report["warnings"][0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"skip": ["dens"]}, "no layer with weights is named 'dens'\n  did you mean 'dense'?"),
        ({"layers": {"relu": 0.5}}, "no layer with weights is named 'relu'"),
        ({"epochs": 3}, "need training samples with labels"),
    ],
)
def test_what_cannot_be_done_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(PreconditionError) as caught:
        edgekit.compress.prune(functional(), **options)
    assert words in str(caught.value)


def test_unknown_arguments_are_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'sparsity'"):
        edgekit.compress.prune(functional(), sparcity=0.5)


def test_weights_that_are_not_numbers_are_refused() -> None:
    model = functional()
    kernel = model.get_layer("dense").kernel.numpy()
    kernel[0, 0] = np.nan
    model.get_layer("dense").kernel.assign(kernel)
    with pytest.raises(PreconditionError, match="NaN") as caught:
        edgekit.compress.prune(model)
    assert "dense/kernel" in str(caught.value.where)


def test_too_few_zeros_break_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgekit.compress.masks import Masks

    monkeypatch.setattr(Masks, "choose", lambda self, sparsities: None)
    with pytest.raises(PostconditionError, match=r"0 of \d+ weights are zero, 50\.0% were asked"):
        edgekit.compress.prune(functional())
