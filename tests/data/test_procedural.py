"""The sources that make their samples: what they hold, and that they are tasks worth learning."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.base.errors import DataError
from edgekit.data.dataset import SPLITS
from edgekit.data.formats.machine import LABELS
from edgekit.data.sources import SOURCES, load_dataset, read_raw
from edgekit.models.build import build_model
from edgekit.schema.recipe import DataSpec, ModelSpec, TrainSpec

HERE = Path()
FORMS = {
    "shapes": ((32, 32, 3), np.uint8, 10),
    "keywords": ((49, 10, 1), np.float32, 12),
    "motion": ((48, 6), np.float32, 8),
}
HARD_DIGITS = {"size": 16, "distort": 1.0}


def raw(source, **options):
    return read_raw(DataSpec(source=source, options=options), root=HERE)


def load(source, seed=0, **options):
    return load_dataset(DataSpec(source=source, options=options), seed=seed, root=HERE)


def rows(array):
    return {bytes(np.ascontiguousarray(row)) for row in array}


@pytest.mark.parametrize("source", FORMS)
def test_samples_have_the_documented_form_and_their_classes_are_balanced(source):
    shape, dtype, classes = FORMS[source]
    found = raw(source, samples=200)
    assert found.x["x"].shape == (200, *shape)
    assert found.x["x"].dtype == dtype
    assert len(found.labels) == classes
    counts = np.bincount(found.y, minlength=classes)
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("source", [*FORMS, "machine"])
def test_the_same_options_give_the_same_bits_and_another_seed_others(source):
    first, again, other = (raw(source, samples=150, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.x["x"], again.x["x"])
    np.testing.assert_array_equal(first.y, again.y)
    assert not rows(first.x["x"]) & rows(other.x["x"])


@pytest.mark.parametrize("source", FORMS)
def test_splits_are_disjoint_and_hold_every_sample(source):
    dataset = load(source, samples=200)
    parts = [rows(getattr(dataset, name).x["x"]) for name in SPLITS]
    assert len(set.union(*parts)) == sum(map(len, parts)) == 200


@given(
    st.sampled_from([*FORMS, "machine"]), st.integers(20, 300), st.floats(0, 2), st.integers(0, 99)
)
@settings(max_examples=25, deadline=None)
def test_any_options_give_finite_samples(source, samples, difficulty, seed):
    found = raw(source, samples=samples, difficulty=difficulty, seed=seed)
    assert np.isfinite(found.x["x"]).all()
    assert len(found.x["x"]) == len(found.y) == samples


def test_sizes_and_numbers_of_classes():
    assert raw("shapes", samples=20, size=96, classes=3).x["x"].shape == (20, 96, 96, 3)
    assert raw("shapes", samples=20, classes=3).labels == ("disc", "triangle", "square")
    assert raw("motion", samples=20, steps=100).x["x"].shape == (20, 100, 6)
    assert raw("keywords", samples=20, classes=2).labels == ("sani", "nasi")


def test_without_difficulty_a_shape_stands_on_a_plain_ground():
    images = raw("shapes", samples=40, difficulty=0).x["x"]
    corners = images[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    same = (corners == corners[:, :1]).all(axis=(1, 2))
    assert same.mean() > 0.9  # a shape seldom reaches a corner


def test_the_order_of_sounds_alone_tells_a_word():
    """Anagrams have one mean spectrum, but for noise."""
    found = raw("keywords", samples=600, classes=2, difficulty=0)
    sani, nasi = (found.x["x"][found.y == kind][..., 0] for kind in (0, 1))
    spectra = [np.log(np.exp(word).mean(axis=(0, 1))) for word in (sani, nasi)]
    assert np.abs(spectra[0] - spectra[1]).max() < 0.5
    assert np.abs(sani.mean(axis=0) - nasi.mean(axis=0)).max() > 1.5


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("shapes", {"classes": 11}, "'classes' should be less than or equal to 10"),
        ("shapes", {"size": 8}, "'size' should be"),
        ("keywords", {"sample": 100}, "unknown key 'sample'"),
        ("motion", {"difficulty": -1}, "'difficulty' should be"),
        ("machine", {"samples": 3}, "'samples' should be"),
        ("shapes", {"samples": 200_000, "size": 256}, "too many"),
        ("digits", {"copies": 2}, "would all be the same"),
        ("digits", {"size": 256, "distort": 1, "copies": 64}, "too many"),
    ],
)
def test_options_that_cannot_be(source, options, message):
    with pytest.raises(DataError, match=message):
        raw(source, **options)


def test_machine_keeps_its_anomalies_for_the_test():
    found = raw("machine", samples=500, test_share=0.4)
    assert found.x["x"].shape == (500, 640)
    assert found.labels == LABELS
    assert found.test.sum() == 200
    assert found.y[found.test].sum() == 100
    assert found.y[~found.test].sum() == 0
    dataset = load_dataset(
        DataSpec(
            source="machine",
            options={"samples": 500, "test_share": 0.4, "target": "input"},
            splits={"train": 0.4, "validation": 0.1, "calibration": 0.1, "test": 0.4},
        ),
        seed=0,
        root=HERE,
    )
    assert rows(dataset.test.x["x"]) == rows(found.x["x"][found.test])
    np.testing.assert_array_equal(dataset.train.x["x"], dataset.train.y)


def test_anomalies_sound_as_normal_ones_on_average():
    """What is wrong is how the parts go together, not a loudness."""
    found = raw("machine", samples=3000, test_share=0.6)
    x, y = found.x["x"][found.test], found.y[found.test]
    apart = np.abs(x[y == 1].mean(axis=0) - x[y == 0].mean(axis=0))
    assert apart.max() < 0.5 * x.std()


def test_plain_digits_are_enlarged_by_interpolation():
    small, large = raw("digits"), raw("digits", size=32)
    assert large.x["x"].shape == (1797, 32, 32, 1)
    # The mean of a block of enlarged pixels is near the pixel; at the border, outside is 0.
    blocks = large.x["x"].reshape(1797, 8, 4, 8, 4).mean(axis=(2, 4))
    scans = small.x["x"][..., 0]
    correlation = np.corrcoef(blocks.ravel(), scans.ravel())[0, 1]
    assert correlation > 0.97
    np.testing.assert_array_equal(large.y, small.y)


def test_copies_of_the_scans_of_the_test_are_nowhere_else():
    found = raw("digits", size=8, distort=0.5, copies=3, seed=1)
    assert found.x["x"].shape == (3 * 1797, 8, 8, 1)
    aside = found.test.reshape(3, 1797)
    assert (aside == aside[0]).all()
    assert aside[0].mean() == pytest.approx(0.25, abs=0.001)
    np.testing.assert_array_equal(found.y.reshape(3, -1)[0], raw("digits").y)
    again = raw("digits", size=8, distort=0.5, copies=3, seed=1)
    np.testing.assert_array_equal(found.x["x"], again.x["x"])
    assert len(rows(found.x["x"])) == 3 * 1797


def test_coloured_digits():
    images = raw("digits", size=16, colour=True, copies=2).x["x"]
    assert images.shape == (2 * 1797, 16, 16, 3)
    assert images.min() >= 0
    assert images.max() <= 16


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ("shapes", {"samples": 2400}),
        ("keywords", {"samples": 2400}),
        ("motion", {"samples": 2400}),
        ("digits", HARD_DIGITS),
    ],
)
def test_a_linear_model_does_not_solve_it(source, options):
    assert linear_accuracy(load(source, **options)) < 0.7


def linear_accuracy(dataset):
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    known, tested = (
        split.x["x"].reshape(len(split), -1) for split in (dataset.train, dataset.test)
    )
    mean, spread = known.mean(), known.std()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(max_iter=25).fit((known - mean) / spread, dataset.train.y)
    return model.score((tested - mean) / spread, dataset.test.y)


@pytest.mark.slow
def test_a_small_recurrent_network_learns_what_the_linear_model_does_not(tmp_path):
    """The other tasks' networks are trained by benchmarks/reference.py."""
    from edgekit.training.evaluate import evaluate
    from edgekit.training.fit import fit

    dataset = load("motion", samples=3000)
    model = build_model(
        ModelSpec(name="rnn", args={"units": [24]}),
        input_shapes=dataset.input_shapes,
        classes=dataset.classes,
        root=HERE,
    )
    spec = TrainSpec.model_validate(
        {"epochs": 16, "optimizer": {"learning_rate": 0.01}, "schedule": {"name": "cosine"}}
    )
    fit(model, dataset, spec, seed=0, directory=tmp_path)
    assert evaluate(model, dataset.test)["accuracy"] > linear_accuracy(dataset) + 0.4


def test_every_source_that_makes_samples_is_registered():
    assert {"shapes", "keywords", "motion", "machine", "digits"} <= set(SOURCES.names())
