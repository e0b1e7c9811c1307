import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.base.errors import DataError
from edgekit.data.dataset import SPLITS
from edgekit.data.splits import split_indices, stratified_order
from edgekit.schema.recipe import Splits


@given(
    st.lists(st.integers(40, 120), min_size=2, max_size=5),
    st.integers(0, 2**31 - 1),
    st.sampled_from([(0.6, 0.1, 0.1, 0.2), (0.25, 0.25, 0.25, 0.25), (0.7, 0.1, 0.05, 0.1)]),
)
@settings(max_examples=50, deadline=None)
def test_splits_are_disjoint_stratified_and_seeded(counts, seed, shares):
    y = np.repeat(np.arange(len(counts)), counts)
    splits = Splits(**dict(zip(SPLITS, shares, strict=True)))
    parts = split_indices(y, splits, seed=seed, stratify=True)
    everything = np.concatenate(list(parts.values()))
    assert len(np.unique(everything)) == len(everything)
    assert len(everything) == round(sum(shares) * len(y))
    for name, share in zip(SPLITS, shares, strict=True):
        assert abs(len(parts[name]) - share * len(y)) <= 1
        found = np.bincount(y[parts[name]], minlength=len(counts))
        assert np.all(np.abs(found - share * np.array(counts)) <= 3)
    again = split_indices(y, splits, seed=seed, stratify=True)
    assert all(np.array_equal(parts[name], again[name]) for name in SPLITS)


def test_another_seed_gives_other_splits():
    y = np.repeat([0, 1], 50)
    one, two = (split_indices(y, Splits(), seed=seed, stratify=True) for seed in (0, 1))
    assert not np.array_equal(one["test"], two["test"])


def test_any_prefix_is_stratified():
    y = np.repeat([0, 1], [900, 100])
    order = stratified_order(y, np.random.default_rng(0))
    for count in (50, 100, 500):
        assert abs(np.mean(y[order[:count]]) - 0.1) < 0.03


def test_a_set_aside_test_part_is_the_test_split():
    y = np.tile([0, 1], 100)
    test = np.arange(200) >= 150
    parts = split_indices(y, Splits(), seed=3, stratify=True, test=test)
    assert sorted(parts["test"]) == list(range(150, 200))
    rest = np.concatenate([parts[name] for name in SPLITS if name != "test"])
    assert sorted(rest) == list(range(150))
    assert len(parts["train"]) == round(150 * 0.6 / 0.8)


def test_a_limit_takes_fewer_samples():
    y = np.tile([0, 1], 500)
    parts = split_indices(y, Splits(), seed=3, stratify=True, limit=100)
    assert [len(parts[name]) for name in SPLITS] == [60, 10, 10, 20]
    test = np.arange(1000) >= 800
    parts = split_indices(y, Splits(), seed=3, stratify=True, limit=100, test=test)
    assert [len(parts[name]) for name in SPLITS] == [60, 10, 10, 20]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_too_few_samples(count):
    with pytest.raises(DataError, match="too few samples"):
        split_indices(np.arange(count) % 2, Splits(), seed=0, stratify=True)


def test_a_class_without_training_samples():
    y = np.array([0] * 50 + [1])
    faults = 0
    for seed in range(20):  # where the one sample goes depends on the seed
        try:
            parts = split_indices(y, Splits(), seed=seed, stratify=True)
        except DataError as error:
            assert "class 1 has none to train on" in error.message  # noqa: PT017
            faults += 1
        else:
            assert 50 in parts["train"]
    assert 0 < faults < 20
