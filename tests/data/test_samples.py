import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.base.errors import DataError, InputError
from edgekit.data.samples import load_samples


def test_arrays_by_name_and_labels(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, image=np.ones((3, 2)), tab=np.ones((3, 4), np.int64), y=np.array([0, 1, 2]))
    x, y = load_samples(path)
    assert {name: array.dtype.name for name, array in x.items()} == {
        "image": "float32",
        "tab": "int32",
    }
    assert y is not None
    assert y.tolist() == [0, 1, 2]


def test_without_labels(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones((3, 2)))
    assert load_samples(tmp_path / "a.npz")[1] is None


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.ones((3, 2)), "y": np.ones(2)}, "differ in their number"),
        ({"y": np.ones(2)}, "holds no samples"),
        ({"x": np.ones((0, 2))}, "hold no samples"),
        ({"x": np.array(3.0)}, "one number"),
        ({"x": np.array([[np.nan]])}, "NaN"),
        ({"x": np.array([["a"]])}, "not a number"),
        ({"x": np.array([{}], object)}, "cannot be read"),
    ],
)
def test_arrays_that_are_no_samples(tmp_path, arrays, message):
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=message) as caught:
        load_samples(path)
    assert str(path) in (caught.value.where or "")


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        load_samples(tmp_path / "none.npz")


def test_a_npy_file_is_no_npz(tmp_path):
    np.save(tmp_path / "a.npy", np.ones(3))
    with pytest.raises(DataError, match=r"not an \.npz"):
        load_samples(tmp_path / "a.npy")


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_damaged_file_is_one_clear_error(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("npz") / "a.npz"
    np.savez_compressed(path, x=np.arange(300.0).reshape(30, 10), y=np.arange(30))
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(content))
    try:
        x, _ = load_samples(path)
    except InputError as error:
        assert error.where  # noqa: PT017
    else:
        assert all(np.isfinite(array).all() for array in x.values())
