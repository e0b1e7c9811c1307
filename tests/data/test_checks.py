import numpy as np
import pytest

from edgekit.base.errors import DataError
from edgekit.data.checks import check_finite, check_samples, to_targets


def test_finite_numbers_pass():
    check_finite(np.zeros((3, 2), np.float32), "here")
    check_finite(np.array([[255]], np.uint8), "here")
    check_finite(np.full((2, 2), np.finfo(np.float64).max), "here")  # the sum overflows


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_names_its_sample(value):
    x = np.zeros((9, 4))
    x[5, 2] = value
    with pytest.raises(DataError, match=r"1 values .* in the samples 5"):
        check_finite(x, "here")


@pytest.mark.parametrize("x", [np.array(["a"]), np.array([object()]), np.array([1j])])
def test_what_is_no_number_is_refused(x):
    with pytest.raises(DataError, match="not a number"):
        check_finite(x, "here")


def test_counts_must_agree():
    with pytest.raises(DataError, match="3 of x, 2 of labels"):
        check_samples({"x": np.zeros((3, 1))}, np.zeros(2), "here")


@pytest.mark.parametrize(
    ("shape", "message"),
    [((5,), "one number a sample"), ((5, 0), "empty shape"), ((0, 5), "no samples")],
)
def test_shapes_that_hold_no_samples(shape, message):
    with pytest.raises(DataError, match=message):
        check_samples({"x": np.zeros(shape)}, None, "here")


def test_a_bad_image_of_many_is_named():
    images = [np.zeros((2, 2, 1)), np.full((3, 3, 1), np.nan)]
    with pytest.raises(DataError) as caught:
        check_samples({"x": images}, None, "here")
    assert caught.value.where == "here: x[1]"


def test_strings_become_classes_in_their_order():
    y, names = to_targets(np.array(["cat", "bee", "cat"]), (), "here")
    assert y.tolist() == [1, 0, 1]
    assert y.dtype == np.int32
    assert names == ("bee", "cat")


def test_given_labels_set_the_order():
    y, names = to_targets(np.array(["cat", "bee"]), ("cat", "bee"), "here")
    assert y.tolist() == [0, 1]
    assert names == ("cat", "bee")


def test_floats_are_values():
    y, names = to_targets(np.array([[0.5], [1.5]]), (), "here")
    assert y.tolist() == [0.5, 1.5]
    assert names == ()


@pytest.mark.parametrize(
    ("y", "given", "message"),
    [
        ([0, 1, -1], (), "label -1 is out of range"),
        ([0, 1, 2], ("a", "b"), "label 2 is out of range"),
        ([0, 1, 3, 3], (), "no sample has the class 2"),
        ([0, 1, 1], ("a", "b", "c"), "no sample has the class c"),
        ([0, 0, 0], (), "only one class"),
        ([0, 1, 10**12], (), "larger than the number of samples"),
        (["a", "b"], ("a", "c"), "'b' is not among the given labels"),
        ([[1, 0], [0, 1]], (), "shape"),
        ([0.5, np.nan], (), "NaN"),
        ([0.5, 1.5], ("a", "b"), "floats"),
    ],
)
def test_bad_labels(y, given, message):
    with pytest.raises(DataError, match=message):
        to_targets(np.array(y), given, "here")
