from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgekit.compress
from edgekit.base.errors import InputError, PostconditionError, PreconditionError
from edgekit.compress.clustering import nearest_centroids
from edgekit.compress.constraints import constraints_of, distinct
from edgekit.compress.kernels import find_kernels
from edgekit.data.dataset import Dataset
from edgekit.schema.recipe import TrainSpec

TRAIN = TrainSpec(epochs=8, batch_size=16)
SEEDS = st.integers(0, 2**32 - 1)


def weights_of(seed: int, size: int, zeros: float) -> np.ndarray:
    random = np.random.default_rng(seed)
    values = random.normal(0, 0.2, size).astype(np.float32)
    return np.where(random.random(size) < zeros, np.float32(0), values)


@given(SEEDS, st.integers(1, 300), st.floats(0, 1), st.integers(1, 16))
def test_values_become_few_and_zeros_stay(
    seed: int, size: int, zeros: float, clusters: int
) -> None:
    values = weights_of(seed, size, zeros)
    found = nearest_centroids(values, clusters)
    assert found.shape == values.shape
    assert found.dtype == values.dtype
    assert distinct(found) <= clusters
    assert not np.any(found[values == 0])
    np.testing.assert_array_equal(nearest_centroids(found, clusters), found)


@given(SEEDS, st.integers(40, 300), st.integers(2, 8))
def test_each_weight_has_the_nearest_centroid_and_each_centroid_is_a_mean(
    seed: int, size: int, clusters: int
) -> None:
    values = weights_of(seed, size, 0.0).astype(np.float64)
    found = nearest_centroids(values, clusters)
    book = np.unique(found)
    distance = np.abs(values[:, None] - book[None])
    np.testing.assert_allclose(np.abs(values - found), distance.min(axis=1), atol=1e-6)
    for centroid in book:
        assert values[found == centroid].mean() == pytest.approx(centroid, abs=0.02)


@pytest.mark.parametrize("clusters", [2, 4, 8])
def test_the_error_is_near_that_of_the_best_of_many_random_starts(clusters: int) -> None:
    from sklearn.cluster import KMeans

    values = weights_of(5, 2000, 0.0)
    best = KMeans(clusters, n_init=20, random_state=0).fit(values[:, None]).inertia_
    found = np.sum((nearest_centroids(values, clusters) - values) ** 2)
    assert found <= 1.1 * best


def network(classes: int = 3) -> Any:
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(1)
    inner = keras.Sequential(
        [keras.Input((6, 6, 8)), layers.Conv2D(16, 3, activation="relu", name="conv")],
        name="inner",
    )
    x = image = keras.Input((8, 8, 1), name="x")
    x = layers.Conv2D(8, 3, name="first")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU(name="relu")(x)
    x = layers.Flatten(name="flatten")(inner(x))
    return keras.Model(image, layers.Dense(classes, activation="softmax", name="out")(x))


def kernels_of(model: Any) -> dict[str, np.ndarray]:
    return {kernel.layer: kernel.values for kernel in find_kernels(model)[0]}


@pytest.mark.slow
@settings(max_examples=10)
@given(st.integers(1, 30), st.sampled_from(["layer", "channel"]))
def test_each_codebook_has_as_many_values_as_asked(clusters: int, per: Any) -> None:
    model = network()
    result = edgekit.compress.cluster(model, clusters=clusters, per=per)
    rows = {row["layer"]: row for row in result.report["layers"]}
    reasons = {row["layer"]: row["reason"] for row in result.report["untreated"]}
    assert {*rows, *reasons} == {"first", "inner/conv", "out"}
    assert not {*rows} & {*reasons}
    before, after = kernels_of(model), kernels_of(result.model)
    for layer, values in after.items():
        if layer in reasons:
            np.testing.assert_array_equal(values, before[layer])
            assert "would not pay" in reasons[layer]
            continue
        books = values.reshape(-1, values.shape[-1]).T if per == "channel" else [values]
        sizes = [distinct(book) for book in books]
        assert max(sizes) == rows[layer]["clusters"] <= clusters
        assert max(sizes) >= 0.7 * clusters  # k-means loses a centroid without weights
        assert 2 * clusters * len(books) <= values.size
        assert rows[layer]["codebook_bytes"] == 4 * sum(sizes)
        # Each weight takes as many bits as number the values of its codebook.
        bits = sum(values.size // len(books) * (size - 1).bit_length() for size in sizes)
        assert rows[layer]["coded_bytes"] == 4 * sum(sizes) + -(-bits // 8)
    kept = constraints_of(result.model).kept
    assert {one.kernel.layer for one in kept if one.groups is not None} >= {*rows}


@pytest.mark.slow
def test_pruned_then_clustered_then_trained_on_keeps_zeros_and_few_centroids(
    dataset: Dataset, tmp_path: Any
) -> None:
    from edgekit.models.files import load_model, save_model
    from edgekit.training.evaluate import evaluate
    from edgekit.training.fit import fine_tune

    model = network()
    fine_tune(model, dataset, epochs=8, learning_rate=3e-3, batch_size=16, seed=0)
    pruned = edgekit.compress.prune(model, dataset, sparsity=0.6, epochs=3, train=TRAIN).model
    # What is kept is read from the weights, so a file in between changes nothing.
    save_model(pruned, tmp_path / "pruned.keras")
    pruned = load_model(tmp_path / "pruned.keras")
    once = edgekit.compress.cluster(pruned, clusters=4, skip=["first"])
    result = edgekit.compress.cluster(
        pruned, dataset, clusters=4, skip=["first"], epochs=4, learning_rate=2e-3, train=TRAIN
    )
    teacher = tmp_path / "teacher.keras"
    save_model(model, teacher)
    taught = edgekit.compress.distill(
        result.model, dataset, teacher=str(teacher), epochs=2, train=TRAIN
    )
    again = edgekit.compress.prune(taught.model, dataset, sparsity=0.7, epochs=1, train=TRAIN)
    zeros = {layer: values == 0 for layer, values in kernels_of(pruned).items()}
    for step in (once, result, taught, again):
        for layer, values in kernels_of(step.model).items():
            assert not np.any(values[zeros[layer]])
            if layer != "first":
                assert distinct(values) <= 4
    assert not np.array_equal(kernels_of(once.model)["out"], kernels_of(result.model)["out"])
    assert evaluate(result.model, dataset.test)["accuracy"] > 0.9
    assert result.report["gzip_bytes"] < 0.6 * result.report["gzip_bytes_before"]
    assert len(result.report["history"]["loss"]) == 4


@pytest.mark.slow
def test_a_clustered_model_is_left_as_it_is_and_one_seed_gives_the_same(dataset: Dataset) -> None:
    once = edgekit.compress.cluster(network(), clusters=4)
    again = edgekit.compress.cluster(once.model, clusters=4)
    assert not again.modified
    assert again.model is once.model
    one, two = (
        edgekit.compress.cluster(network(), dataset, clusters=4, epochs=1, train=TRAIN).model
        for _ in range(2)
    )
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_what_cannot_be_clustered_is_named() -> None:
    result = edgekit.compress.cluster(network(), clusters=64, layers={"out": 2}, skip=["inner/*"])
    reasons = {row["layer"]: row["reason"] for row in result.report["untreated"]}
    assert reasons == {
        "first": "1 codebook of 64 values would not pay for the 72 weights of its kernel that "
        "are not zero",
        "inner/conv": "skipped as asked",
    }
    with pytest.raises(PreconditionError, match=r"cannot be clustered: first \(Conv2D\): 1 code"):
        edgekit.compress.cluster(network(), clusters=64, strict=True)
    with pytest.raises(PreconditionError, match="no layer with weights is named 'outt'"):
        edgekit.compress.cluster(network(), layers={"outt": 4})
    with pytest.raises(InputError, match="must be from 1 to 256"):
        edgekit.compress.cluster(network(), layers={"out": 257})


@pytest.mark.slow
def test_too_many_values_break_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.compress.clustering.nearest_centroids", lambda v, clusters: v)
    with pytest.raises(PostconditionError, match=r"\d+ values in a codebook, 16 were asked for"):
        edgekit.compress.cluster(network())
