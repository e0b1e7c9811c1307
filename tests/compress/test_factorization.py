from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgekit.compress
from edgekit.base.errors import InputError, PreconditionError
from edgekit.compress.kernels import find_kernels
from edgekit.compress.lowrank import Places, Svd, Tucker, kept_energy, product
from edgekit.data.dataset import Dataset
from edgekit.schema.recipe import TrainSpec

SEEDS = st.integers(0, 2**32 - 1)
SPATIAL = st.sampled_from([(), (1,), (3,), (1, 1), (3, 3), (3, 5), (2, 2, 3)])
CHANNELS = st.integers(1, 9)


def kernel_of(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.3, shape).astype(np.float32)


def thin(random: Any, shape: tuple[int, ...], rank: int) -> np.ndarray:
    """A kernel whose rank is `rank` over the inputs and over the outputs."""
    *spatial, inputs, outputs = shape
    into = random.normal(0, 1, (inputs, rank))
    out = random.normal(0, 1, (rank, outputs))
    core = random.normal(0, 1, (*spatial, rank, rank))
    kernel = np.einsum("ir,...rs,so->...io", into, core, out) if spatial else into @ out
    return np.asarray(kernel / np.abs(kernel).max() / 3, np.float32)


@given(SEEDS, SPATIAL, CHANNELS, CHANNELS)
def test_at_full_rank_the_product_is_the_kernel(
    seed: int, spatial: tuple[int, ...], inputs: int, outputs: int
) -> None:
    kernel = kernel_of(seed, (*spatial, inputs, outputs))
    ways = [Svd(kernel), *([Tucker(kernel)] if spatial else [])]
    for way in ways:
        ranks = way.ranks(1.0)
        factors = way.factors(ranks)
        np.testing.assert_allclose(product(factors), kernel, atol=1e-5)
        assert sum(factor.size for factor in factors) == way.weights(ranks)


@given(SEEDS, SPATIAL, CHANNELS, CHANNELS, st.floats(0, 1))
def test_the_energy_asked_for_is_kept_and_less_rank_keeps_less(
    seed: int, spatial: tuple[int, ...], inputs: int, outputs: int, energy: float
) -> None:
    kernel = kernel_of(seed, (*spatial, inputs, outputs))
    for way in [Svd(kernel), *([Tucker(kernel)] if spatial else [])]:
        ranks = way.ranks(energy)
        kept = kept_energy(kernel, way.factors(ranks))
        assert energy - 1e-6 <= kept <= 1 + 1e-6
        if isinstance(way, Svd) and ranks[0] > 1:
            assert kept_energy(kernel, way.factors((ranks[0] - 1,))) < energy + 1e-6


@given(SEEDS, st.integers(2, 9), st.integers(2, 9), st.data())
def test_tucker_is_no_worse_than_its_start(
    seed: int, inputs: int, outputs: int, data: st.DataObject
) -> None:
    kernel = kernel_of(seed, (3, 3, inputs, outputs)).astype(np.float64)
    ranks = data.draw(st.tuples(st.integers(1, inputs), st.integers(1, outputs)))
    bases = []
    for axis, rank in zip((2, 3), ranks, strict=True):  # the truncated higher-order SVD
        unfolded = np.moveaxis(kernel, axis, 0).reshape(kernel.shape[axis], -1)
        bases.append(np.linalg.svd(unfolded, full_matrices=False)[0][:, :rank])
    core = np.einsum("hwio,ir,os->hwrs", kernel, *bases)
    start = np.sum(core**2) / np.sum(kernel**2)
    assert kept_energy(kernel, Tucker(kernel).factors(ranks)) >= start - 1e-9


def test_macs_are_those_of_the_papers() -> None:
    kernel = kernel_of(0, (3, 3, 8, 16))
    places = Places(inputs=64, outputs=16)  # strides of 2 over 8x8
    assert Svd(kernel).macs((4,), places) == 16 * (9 * 8 * 4 + 4 * 16)
    tucker = 64 * 8 * 3 + 16 * (9 * 3 * 5 + 5 * 16)
    assert Tucker(kernel).macs((3, 5), places) == tucker


def network(rank: int | None = None, seed: int = 1) -> Any:
    """Shared, nested, strided, dilated and causal layers; of low rank if asked for."""
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(seed)
    one = keras.Input((8, 8, 1), name="x")
    steps = keras.Input((12, 16), name="steps")
    shared = layers.Conv2D(16, 3, padding="same", activation="relu", name="shared")
    x = layers.Conv2D(16, 3, padding="same", name="first")(one)
    x = shared(shared(layers.BatchNormalization(name="norm")(x)))
    inner = keras.Sequential(
        [keras.Input((8, 8, 16)),
         layers.Conv2D(24, 3, strides=2, padding="same", activation="relu", name="conv"),
         layers.Conv2D(24, 1, strides=2, use_bias=False, name="point")], name="inner",
    )  # fmt: skip
    x = layers.Flatten(name="flat")(inner(x))
    y = layers.Conv1D(16, 3, dilation_rate=2, padding="causal", name="causal")(steps)
    y = layers.Dense(16, activation="tanh", name="each")(y)
    y = layers.GlobalAveragePooling1D(name="mean")(y)
    x = layers.Dense(48, activation="relu", name="wide")(layers.Concatenate(name="both")([x, y]))
    outputs = [layers.Dense(3, activation="softmax", name="a")(x),
               layers.Dense(2, name="b")(x)]  # fmt: skip
    model = keras.Model([one, steps], outputs)
    for number, kernel in enumerate(find_kernels(model)[0] if rank else ()):
        random = np.random.default_rng(number)
        kernel.variable.assign(thin(random, tuple(kernel.variable.shape), rank or 1))
    return model


def outputs_of(model: Any) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    x = [random.normal(0, 1, (4, *tensor.shape[1:])).astype(np.float32) for tensor in model.inputs]
    return [np.asarray(y) for y in model(x)]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["auto", "svd", "tucker"])
def test_layers_of_low_rank_become_thin_and_the_model_computes_the_same(method: str) -> None:
    model = network(rank=2)
    result = edgekit.compress.factorize(model, energy=1.0, method=method)
    rows = {row["layer"]: row for row in result.report["layers"]}
    expected = {"shared", "inner/conv", "inner/point", "causal", "each", "wide", "a"}
    assert {*rows} | {"first"} == expected | {"first"}
    for row in rows.values():
        assert row["weights"] < row["weights_before"]
        assert row["macs"] <= row["macs_before"]
        assert row["energy"] == pytest.approx(1.0, abs=1e-5)
    for a, b in zip(outputs_of(model), outputs_of(result.model), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    saved = sum(row["weights_before"] - row["weights"] for row in rows.values())
    assert model.count_params() - result.model.count_params() == saved
    assert result.report["parameters"] == result.model.count_params()


@pytest.mark.slow
def test_the_macs_of_the_report_are_those_of_the_model_made() -> None:
    import keras

    from edgekit.models.inspect import macs

    layers = keras.layers
    keras.utils.set_random_seed(0)
    image = keras.Input((9, 9, 8))
    x = layers.Conv2D(16, 3, strides=2, name="conv")(image)
    x = layers.Conv2D(16, 1, strides=2, name="point")(x)
    x = layers.Dense(8, name="dense")(x)
    model = keras.Model(image, x)
    for method in ("svd", "tucker"):
        result = edgekit.compress.factorize(model, energy=0.4, method=method)
        report = result.report
        assert {row["layer"] for row in report["layers"]} == {"conv", "point", "dense"}
        for name, one in [("macs_before", model), ("macs", result.model)]:
            found = sum(macs(operation) for operation in one.operations)
            assert sum(row[name] for row in report["layers"]) == found


@pytest.mark.slow
@settings(max_examples=8)
@given(st.floats(0.3, 0.95), st.sampled_from(["parameters", "macs"]))
def test_a_budget_is_met_and_used(share: float, what: str) -> None:
    model = network(seed=3)
    result = edgekit.compress.factorize(model, None, **{what: share})
    rows = result.report["layers"]
    if what == "parameters":
        left = result.model.count_params() / model.count_params()
        assert share - 0.15 < left <= share
    else:
        assert sum(row["macs_before"] - row["macs"] for row in rows) > 0
    named = {row["layer"] for row in (*rows, *result.report["untreated"])}
    assert named == {kernel.layer for kernel in find_kernels(model)[0]}


@pytest.mark.slow
def test_what_is_pruned_or_clustered_or_would_not_pay_stays_and_is_named() -> None:
    import keras

    model = edgekit.compress.prune(network(), sparsity=0.5, skip=["[!s]*"]).model
    model = edgekit.compress.cluster(model, clusters=8, skip=["[!w]*"]).model
    result = edgekit.compress.factorize(model, energy=0.5, layers={"each": 1.0}, skip=["causal"])
    reasons = {row["layer"]: row["reason"] for row in result.report["untreated"]}
    assert reasons["shared"] == "it is pruned, which its factors would not be"
    assert reasons["wide"] == "it is clustered, which its factors would not be"
    assert reasons["causal"] == "skipped as asked"
    assert reasons["each"].startswith("at the ranks that keep its energy, 16, its factors would")
    assert "instead of 256 and 3,072" in reasons["each"]
    before = {kernel.layer: kernel.values for kernel in find_kernels(model)[0]}
    after = {kernel.layer: kernel.values for kernel in find_kernels(result.model)[0]}
    for layer in reasons:
        np.testing.assert_array_equal(before[layer], after[layer])

    layers = keras.layers
    tokens = keras.Input((6, 8))
    x = layers.MultiHeadAttention(2, 4, name="attention")(tokens, tokens)
    x = layers.SeparableConv1D(8, 3, name="separable")(x)
    x = layers.Conv1D(8, 3, groups=2, name="grouped")(x)
    x = layers.GRU(8, name="gru")(x)
    other = keras.Model(tokens, layers.Dense(8, name="dense")(x))
    result = edgekit.compress.factorize(other, energy=0.5)
    reasons = {row["layer"]: row["reason"] for row in result.report["untreated"]}
    assert reasons["attention/query"] == "it is a part of another layer"
    assert reasons["separable"] == (
        "it is no plain dense or convolution layer, but SeparableConv1D"
    )
    assert reasons["grouped"] == "its channels are in 2 groups"
    assert reasons["gru/gru_cell"] == "it is a part of another layer"
    with pytest.raises(PreconditionError, match=r"cannot be factorized: .*grouped"):
        edgekit.compress.factorize(other, strict=True)


@pytest.mark.slow
def test_nothing_to_factorize_leaves_the_model_and_what_cannot_be_is_refused() -> None:
    model = network()
    result = edgekit.compress.factorize(model, energy=1.0)
    assert result.model is model
    assert not result.modified
    with pytest.raises(PreconditionError, match=r"at rank 1 everywhere .* more than 1\.0%"):
        edgekit.compress.factorize(model, parameters=0.01)
    with pytest.raises(InputError, match="'energy' and 'macs' are two aims"):
        edgekit.compress.factorize(model, energy=0.9, macs=0.5)
    with pytest.raises(PreconditionError, match="no layer with weights is named 'wid'"):
        edgekit.compress.factorize(model, layers={"wid": 0.5})


@pytest.mark.slow
def test_factors_are_fine_tuned_saved_and_loaded(dataset: Dataset, tmp_path: Any) -> None:
    import keras

    from edgekit.models.files import load_model, save_model
    from edgekit.training.evaluate import evaluate
    from edgekit.training.fit import fine_tune

    layers = keras.layers
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Conv2D(12, 3, activation="relu", name="one"),
         layers.Conv2D(12, 3, activation="relu", name="two"), layers.Flatten(),
         layers.Dense(3, activation="softmax", name="out")]
    )  # fmt: skip
    fine_tune(model, dataset, epochs=8, learning_rate=3e-3, batch_size=16, seed=0)
    train = TrainSpec(epochs=8, batch_size=16)
    result = edgekit.compress.factorize(
        model, dataset, parameters=0.6, epochs=4, learning_rate=2e-3, train=train
    )
    assert result.model.count_params() <= 0.6 * model.count_params()
    assert evaluate(result.model, dataset.test)["accuracy"] > 0.9
    assert len(result.report["history"]["loss"]) == 4
    save_model(result.model, tmp_path / "thin.keras")
    loaded = load_model(tmp_path / "thin.keras")
    for a, b in zip(outputs_of(result.model), outputs_of(loaded), strict=True):
        np.testing.assert_array_equal(a, b)
