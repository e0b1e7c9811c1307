from pathlib import Path

import numpy as np
import pytest

from edgekit.base.errors import InputError, ModelFileError, RecipeError
from edgekit.models.build import build_model
from edgekit.models.files import save_model
from edgekit.models.inspect import describe
from edgekit.schema.recipe import ModelSpec

pytestmark = pytest.mark.slow
HERE = Path()


def build(name, shape=(8, 8, 1), classes=10, root=HERE, seed=0, **args):
    shapes = shape if isinstance(shape, dict) else {"x": shape}
    spec = ModelSpec(name=name, args=args)
    return build_model(spec, input_shapes=shapes, classes=classes, root=root, seed=seed)


# Parameters and multiply-accumulates as published for MLPerf Tiny v1 (Banbury et al. 2021, and
# the benchmark's reference models); batch norms fold into the biases that the references keep.
@pytest.mark.parametrize(
    ("name", "shape", "classes", "macs"),
    [
        ("resnet8", (32, 32, 3), 10, 12_501_632),
        ("mobilenet_v1", (96, 96, 3), 2, 7_489_664),
        ("dscnn", (49, 10, 1), 12, 2_656_768),
        ("autoencoder", (640,), None, 264_192),
    ],
)
def test_mlperf_tiny_families_cost_what_the_benchmark_says(name, shape, classes, macs):
    model = build(name, shape, classes)
    assert sum(row["macs"] for row in describe(model)) == macs


@pytest.mark.parametrize(
    ("family", "file", "shape", "classes"),
    [
        ("resnet8", "mlperf_tiny_ic.h5", (32, 32, 3), 10),
        ("mobilenet_v1", "mlperf_tiny_vww.h5", (96, 96, 3), 2),
    ],
)
def test_families_have_the_kernels_of_the_reference_files(shared, family, file, shape, classes):
    from edgekit.models.files import load_model

    def kernels(model):
        return sorted(tuple(w.shape) for w in model.weights if len(w.shape) > 1)

    reference = load_model(shared / "models" / file)
    assert kernels(build(family, shape, classes)) == kernels(reference)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("cnn", {"dense": None}),
        ("mlp", {"units": [8], "batch_norm": True, "dropout": 0.1}),
        ("rnn", {"cell": "lstm", "bidirectional": True, "units": [4, 3]}),
        ("rnn", {"cell": "gru", "unroll": False}),
        ("vit", {"depth": 1}),
    ],
)
@pytest.mark.parametrize("classes", [3, None])
def test_families_build_for_classes_and_values(name, args, classes):
    model = build(name, classes=classes, **args)
    assert model.input.name == "x"
    assert model.output.shape == (None, classes or 1)
    outputs = model(np.ones((2, 8, 8, 1), np.float32)).numpy()
    if classes:
        np.testing.assert_allclose(outputs.sum(-1), 1, rtol=1e-5)


def test_unrolling_changes_no_number():
    unrolled, rolled = (build("rnn", unroll=unroll, cell="lstm") for unroll in (True, False))
    rolled.set_weights(unrolled.get_weights())
    x = np.random.default_rng(0).random((4, 8, 8, 1), np.float32)
    np.testing.assert_allclose(unrolled(x), rolled(x), atol=1e-6)


def test_the_seed_gives_the_weights():
    one, same, other = (build("cnn", seed=seed).get_weights() for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not np.array_equal(one[0], other[0])


@pytest.mark.parametrize(
    ("name", "args", "message", "hint"),
    [
        ("cnm", {}, "unknown model family 'cnm'", "did you mean 'cnn'"),
        ("cnn", {"filter": [3]}, "unknown key 'filter'", "did you mean 'filters'"),
        ("cnn", {"filters": "many"}, "'filters'", None),
        ("cnn", {"input_name": "y"}, "unknown key 'input_name'", None),
        ("rnn", {"cell": "elman"}, "'cell' is 'elman'", "lstm"),
        ("vit", {"patch": 3}, "do not divide", None),
        ("vit", {"heads": 3}, "do not divide", None),
        ("net.py", {}, "needs the name of a function", "net.py:build"),
        ("net.py:build", {}, "does not exist", None),
    ],
)
def test_what_cannot_be_built(name, args, message, hint):
    with pytest.raises(InputError, match=message) as caught:
        build(name, **args)
    assert caught.value.where
    assert hint is None or hint in (caught.value.hint or "")


def test_images_are_asked_for():
    with pytest.raises(RecipeError, match="takes images"):
        build("cnn", (10,))
    with pytest.raises(RecipeError, match="takes one input, the data has 2: a, b"):
        build("cnn", {"a": (4, 4, 1), "b": (2,)})


OWN = """
import keras
from helper_beside import WIDTH

def build(input_shapes, classes, depth=1):
    inputs = {name: keras.Input(shape, name=name) for name, shape in input_shapes.items()}
    x = keras.layers.Concatenate()([keras.layers.Flatten()(i) for i in inputs.values()])
    for _ in range(depth):
        x = keras.layers.Dense(WIDTH)(x)
    return keras.Model(inputs, keras.layers.Dense(classes)(x))

def sequential(input_shape, classes):
    layers = [keras.layers.Input(input_shape), keras.layers.Flatten(), keras.layers.Dense(classes)]
    return keras.Sequential(layers)

def anything(input_shape, **options):
    x = i = keras.Input(input_shape)
    return keras.Model(i, keras.layers.Dense(options["width"])(keras.layers.Flatten()(x)))

def fails(input_shape):
    width = 3
    raise ValueError("no idea")

def nothing():
    return 3
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "net.py").write_text(OWN)
    (tmp_path / "helper_beside.py").write_text("WIDTH = 7\n")
    return tmp_path


def test_a_function_of_ones_own(own):
    model = build("net.py:build", {"a": (4, 4, 1), "b": (2,)}, root=own, depth=2)
    assert [tensor.name for tensor in model.inputs] == ["a", "b"]
    assert len(model.layers) > 5
    assert build("net.py:anything", root=own, width=10).output.shape == (None, 10)


def test_a_sequential_model_becomes_functional(own):
    model = build("net.py:sequential", root=own)
    assert len(model.operations) == 3
    assert len(model.output_names) == 1


@pytest.mark.parametrize(
    ("name", "args", "message", "place"),
    [
        ("net.py:fails", {}, "ValueError: no idea", "net.py:22"),
        ("net.py:nothing", {}, "returned int, not a Keras model", "model net.py:nothing"),
        ("net.py:built", {}, "no function 'built'", "model net.py:built"),
        ("net.py:sequential", {"deep": 1}, "unknown key 'deep'", "model.args.deep"),
        ("broken.py:build", {}, "SyntaxError", "broken.py:2"),
        ("raises.py:build", {}, "ZeroDivisionError", "raises.py:3"),
    ],
)
def test_faults_in_a_file_of_ones_own(own, name, args, message, place):
    (own / "broken.py").write_text("import keras\ndef build(:\n")
    (own / "raises.py").write_text("import keras\n\nx = 1 / 0\n")
    with pytest.raises(RecipeError, match=message) as caught:
        build(name, root=own, **args)
    assert str(caught.value.where).endswith(place)


def test_a_model_file(tmp_path):
    save_model(build("mlp"), tmp_path / "m.keras")
    model = build("m.keras", root=tmp_path)
    assert model.output.shape == (None, 10)
    with pytest.raises(RecipeError, match="takes no arguments"):
        build("m.keras", root=tmp_path, units=[3])
    with pytest.raises(RecipeError, match="has 10 outputs, the data has 3 classes"):
        build("m.keras", root=tmp_path, classes=3)
    with pytest.raises(RecipeError, match="do not fit the data"):
        build("m.keras", (9, 9, 1), root=tmp_path)
    with pytest.raises(ModelFileError, match="does not exist"):
        build("none.keras", root=tmp_path)
