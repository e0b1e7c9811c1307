from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from edgekit.base.errors import DataError, InputError, MissingDependencyError
from edgekit.data.dataset import SPLITS, load_saved, save_dataset
from edgekit.data.sources import load_dataset
from edgekit.schema.recipe import DataSpec

HERE = Path()


def load(root, source, seed=0, **options):
    settings = {
        key: options.pop(key) for key in ("preprocess", "labels", "limit") if key in options
    }
    return load_dataset(DataSpec(source=source, options=options, **settings), seed=seed, root=root)


def every(dataset, name="x"):
    x = np.concatenate([getattr(dataset, split).x[name] for split in SPLITS])
    return x, np.concatenate([getattr(dataset, split).y for split in SPLITS])


def test_digits_are_those_of_scikit_learn():
    dataset = load(HERE, "digits", preprocess={"scale": 1 / 16})
    images, classes = load_digits(return_X_y=True)
    x, y = every(dataset)
    assert x.shape == (1797, 8, 8, 1)
    assert x.dtype == np.float32
    assert dataset.labels == tuple("0123456789")
    assert dataset.preprocessing.scale == 1 / 16

    def rows(pixels, labels):
        return sorted(map(tuple, np.column_stack([pixels, labels]).tolist()))

    assert rows(x.reshape(1797, -1) * 16, y) == rows(images, classes)


def test_the_input_as_target():
    dataset = load(HERE, "digits", target="input")
    assert dataset.classes is None
    np.testing.assert_array_equal(dataset.train.x["x"], dataset.train.y)


def test_npz_with_names_and_several_inputs(tmp_path):
    images = np.arange(60 * 12, dtype=np.uint8).reshape(60, 2, 2, 3)
    tab = np.arange(60)[:, None]
    np.savez(tmp_path / "d.npz", image=images, tab=tab, kind=np.arange(60) % 3)
    dataset = load(
        tmp_path, "npz:d.npz", x=["image", "tab"], y="kind", preprocess={"scale": 1 / 255}
    )
    assert dataset.input_shapes == {"image": (2, 2, 3), "tab": (1,)}
    split = dataset.train
    assert split.x["tab"].dtype == np.int32  # only images are scaled
    np.testing.assert_array_equal(split.x["tab"][:, 0] % 3, split.y)  # the inputs stay together
    np.testing.assert_allclose(split.x["image"], images[split.x["tab"][:, 0]] / 255, rtol=1e-6)


def test_npz_with_one_input_calls_it_x(tmp_path):
    np.savez(tmp_path / "d.npz", images=np.ones((30, 4)), labels=np.arange(30) % 2)
    dataset = load(tmp_path, "npz:d.npz", x="images", y="labels")
    assert list(dataset.train.x) == ["x"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"x": "image"}, "no array 'image'"),
        ({"z": 1}, "unknown key 'z'"),
        ({"x": []}, "must be one name"),
        ({"target": "inputs"}, "'target' is 'inputs'"),
    ],
)
def test_bad_npz_options(tmp_path, options, message):
    np.savez(tmp_path / "d.npz", images=np.ones((30, 4)), y=np.arange(30) % 2)
    with pytest.raises(DataError, match=message):
        load(tmp_path, "npz:d.npz", **{"x": "images", **options})


def test_the_nearest_word_is_named(tmp_path):
    np.savez(tmp_path / "d.npz", images=np.ones((30, 4)), y=np.arange(30) % 2)
    with pytest.raises(DataError) as caught:
        load(tmp_path, "npz:d.npz", x="image")
    assert "did you mean 'images'" in (caught.value.hint or "")
    with pytest.raises(InputError) as unknown:
        load(tmp_path, "npy:d.npz")
    assert "did you mean 'npz'" in (unknown.value.hint or "")


@pytest.mark.parametrize(
    ("source", "message"), [("npz", "is written npz:FILE"), ("digits:3", "takes nothing")]
)
def test_the_form_of_a_source(source, message):
    with pytest.raises(DataError, match=message):
        load(HERE, source)


CSV = "a,b,kind\n" + "\n".join(f"{i},{i / 2},{'odd' if i % 2 else 'even'}" for i in range(40))


@pytest.mark.parametrize("label", ["kind", 2, -1])
def test_csv_with_a_header(tmp_path, label):
    (tmp_path / "d.csv").write_text(CSV)
    dataset = load(tmp_path, "csv:d.csv", label=label)
    assert dataset.labels == ("even", "odd")
    x, y = every(dataset)
    np.testing.assert_array_equal(x[:, 0] % 2, y)
    np.testing.assert_array_equal(x[:, 0], 2 * x[:, 1])


def test_csv_without_a_header_and_with_numbers_as_labels(tmp_path):
    lines = [f"{i % 2 + 9};{i}" for i in range(40)]
    (tmp_path / "d.csv").write_text("\n".join(lines))
    dataset = load(tmp_path, "csv:d.csv", label=0, delimiter=";")
    assert dataset.labels == ("9", "10")  # by value, not by letters
    x, y = every(dataset)
    assert len(x) == 40
    np.testing.assert_array_equal(x[:, 0] % 2, y)


def test_csv_values_and_shape(tmp_path):
    lines = [f"{i},{i},{i},{i},{i / 4}" for i in range(40)]
    (tmp_path / "d.csv").write_text("\n".join(lines))
    dataset = load(tmp_path, "csv:d.csv", task="values", shape=[2, 2, 1])
    x, y = every(dataset)
    assert x.shape == (40, 2, 2, 1)
    np.testing.assert_array_equal(x[:, 0, 0, 0] / 4, y)
    assert dataset.classes is None


@pytest.mark.parametrize(
    ("text", "options", "message", "place"),
    [
        ("", {}, "is empty", "d.csv"),
        ("a,b\n", {"header": True}, "no samples", "d.csv"),
        ("1,2\n1\n", {}, "1 cells, the first row has 2", "d.csv:2"),
        ("a,b,c\n1,2,x\n1,oops,y\n", {"label": "c"}, "column 'b' is 'oops'", "d.csv:3"),
        ("a,b\n1,2\n", {"label": "d"}, "no column 'd'", "d.csv"),
        ("1,2\n1,2\n", {"label": 5}, "no column 5", "d.csv"),
        ("1,2\n3,4\n", {"label": "a", "header": False}, "header is false", "d.csv"),
        ("1,0.5\n3,0.7\n", {}, "not classes", "d.csv"),
        ("1,a\nnan,b\n" * 20, {}, "NaN", "csv:d.csv: x"),
        ("1,a\n2,b\n", {"shape": [3]}, "do not fit the shape", "d.csv"),
        ("1\n2\n", {}, "no columns of features", "d.csv"),
    ],
)
def test_bad_csv(tmp_path, text, options, message, place):
    (tmp_path / "d.csv").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path, "csv:d.csv", **options)
    assert str(caught.value.where).endswith(place)


def test_csv_that_is_no_text(tmp_path):
    (tmp_path / "d.csv").write_bytes(b"\xff\xfe\x00\x81" * 50)
    with pytest.raises(DataError, match="cannot be read as CSV"):
        load(tmp_path, "csv:d.csv")


def folder(root, sizes=((6, 5), (6, 5)), classes=("ant", "bee")):
    rng = np.random.default_rng(0)
    for index, name in enumerate(classes):
        (root / "photos" / name).mkdir(parents=True)
        for number in range(12):
            height, width = sizes[number % len(sizes)]
            pixels = rng.integers(0, 100, (height, width, 3), np.uint8)
            pixels[..., 0] += 100 * index
            Image.fromarray(pixels).save(root / "photos" / name / f"{number}.png")
    (root / "photos" / ".cache").mkdir()


def test_image_folder(tmp_path):
    folder(tmp_path)
    dataset = load(tmp_path, "image_folder:photos", preprocess={"scale": 1 / 255})
    assert dataset.labels == ("ant", "bee")
    x, y = every(dataset)
    assert x.shape == (24, 6, 5, 3)
    np.testing.assert_array_equal(x[..., 0].min((1, 2)) >= 100 / 255, y == 1)


def test_image_folder_of_several_sizes_records_its_resize(tmp_path):
    folder(tmp_path, sizes=((6, 5), (9, 4)))
    dataset = load(tmp_path, "image_folder:photos", size=[8, 8], channels=1)
    assert dataset.train.x["x"].shape[1:] == (8, 8, 1)
    assert dataset.preprocessing.resize == (8, 8)
    with pytest.raises(DataError, match="different shapes"):
        load(tmp_path, "image_folder:photos")
    with pytest.raises(DataError, match="give one of them"):
        load(tmp_path, "image_folder:photos", size=[8, 8], preprocess={"resize": [4, 4]})


def test_an_empty_class_is_named(tmp_path):
    folder(tmp_path)
    (tmp_path / "photos" / "cow").mkdir()
    (tmp_path / "photos" / "cow" / "notes.txt").write_text("no image")
    with pytest.raises(DataError, match="class 'cow' is empty"):
        load(tmp_path, "image_folder:photos")


def test_a_damaged_image_is_named(tmp_path):
    folder(tmp_path)
    path = tmp_path / "photos" / "bee" / "3.png"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match="cannot be read as an image") as caught:
        load(tmp_path, "image_folder:photos")
    assert caught.value.where == str(path)


def test_folders_that_hold_no_classes(tmp_path):
    with pytest.raises(DataError, match="not a folder"):
        load(tmp_path, "image_folder:photos")
    folder(tmp_path, classes=("ant",))
    with pytest.raises(DataError, match="holds 1 folders"):
        load(tmp_path, "image_folder:photos")


def test_an_unknown_keras_dataset():
    with pytest.raises(DataError) as caught:
        load(HERE, "keras:cifar")
    assert "did you mean 'cifar10" in (caught.value.hint or "")


def cached_mnist(keras_home, monkeypatch):
    """A small archive in the place and form of the one that Keras downloads."""
    import keras

    monkeypatch.setenv("KERAS_HOME", str(keras_home))
    (keras_home / "datasets").mkdir(parents=True)
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.integers(0, 256, (300, 28, 28), np.uint8),
        "y_train": np.arange(300, dtype=np.uint8) % 10,
        "x_test": rng.integers(0, 256, (50, 28, 28), np.uint8),
        "y_test": np.arange(50, dtype=np.uint8) % 10,
    }
    # Keras verifies the hash of what it downloads; the small archive stands in for that.
    module = keras.datasets.mnist.load_data.__globals__
    path = keras_home / "datasets" / "mnist.npz"
    np.savez(path, **arrays)
    monkeypatch.setitem(module, "get_file", lambda *args, **kwargs: str(path))
    return arrays


@pytest.mark.slow
def test_keras_dataset_keeps_its_test_part(tmp_path, monkeypatch):
    arrays = cached_mnist(tmp_path, monkeypatch)
    dataset = load(HERE, "keras:mnist")
    assert dataset.input_shapes == {"x": (28, 28, 1)}
    assert len(dataset.test) == 50
    found = sorted(map(bytes, dataset.test.x["x"].astype(np.uint8)))
    assert found == sorted(map(bytes, arrays["x_test"]))
    anew = load(HERE, "keras:mnist", keep_test=False)
    assert len(anew.test) == 70


@pytest.mark.slow
def test_keras_dataset_offline(tmp_path, monkeypatch, capsys):
    import keras

    monkeypatch.setitem(keras.datasets.mnist.load_data.__globals__, "get_file", offline)
    with pytest.raises(MissingDependencyError, match="could not be downloaded") as caught:
        load(HERE, "keras:mnist")
    assert "load_data" in (caught.value.hint or "")
    assert capsys.readouterr().out == ""


def offline(*args, **kwargs):
    print("Downloading data")  # noqa: T201 as Keras does
    raise Exception("URL fetch failure: Name or service not known")  # noqa: TRY002


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"source": "npz:d.npz", "labels": ["a", "b"]}, "label 2 is out of range"),
        ({"source": "npz:d.npz", "limit": 3}, "too few samples"),
        ({"source": "npz:d.npz", "preprocess": {"resize": [2, 2]}}, "a resize needs images"),
    ],
)
def test_faults_of_the_whole(tmp_path, spec, message):
    np.savez(tmp_path / "d.npz", x=np.ones((30, 4)), y=np.arange(30) % 3)
    with pytest.raises(DataError, match=message):
        load_dataset(DataSpec.model_validate(spec), seed=0, root=tmp_path)


def test_a_dataset_survives_saving(tmp_path):
    dataset = load(HERE, "digits", preprocess={"scale": 0.0625, "mean": [0.5]})
    save_dataset(dataset, tmp_path)
    again = load_saved(tmp_path)
    assert (again.labels, again.preprocessing) == (dataset.labels, dataset.preprocessing)
    for name in SPLITS:
        np.testing.assert_array_equal(getattr(again, name).x["x"], getattr(dataset, name).x["x"])
        np.testing.assert_array_equal(getattr(again, name).y, getattr(dataset, name).y)


def test_a_damaged_saved_dataset(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        load_saved(tmp_path)
    save_dataset(load(HERE, "digits"), tmp_path)
    (tmp_path / "test.y.npy").write_bytes(b"nothing")
    with pytest.raises(DataError, match="damaged"):
        load_saved(tmp_path)
