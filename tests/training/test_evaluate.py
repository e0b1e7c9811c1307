import numpy as np
import pytest

from edgekit.base.errors import DataError
from edgekit.data.dataset import Split
from edgekit.models.files import save_model
from edgekit.runtimes.session import predict
from edgekit.training.evaluate import evaluate, record_outputs
from edgekit.training.session import KerasSession

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model():
    """Two inputs whose order in the model is not that of their names, and two outputs."""
    import keras

    keras.utils.set_random_seed(0)
    zebra, ant = keras.Input((3,), name="zebra"), keras.Input((2,), name="ant")
    both = keras.layers.Concatenate()([zebra, ant])
    first = keras.layers.Dense(4, activation="softmax", name="first")(both)
    second = keras.layers.BatchNormalization(name="second")(zebra)
    return keras.Model([zebra, ant], [first, second])


@pytest.fixture(scope="module")
def x():
    rng = np.random.default_rng(0)
    shapes = {"ant": (600, 2), "zebra": (600, 3)}
    return {name: rng.random(shape, np.float32) for name, shape in shapes.items()}


def test_outputs_are_those_of_keras_by_name(model, x):
    outputs = record_outputs(model, x)
    expected = model.predict([x["zebra"], x["ant"]], verbose=0)
    assert list(outputs) == ["first", "second"]
    for found, want in zip(outputs.values(), expected, strict=True):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, want, atol=1e-6)


def test_the_session_computes_the_same(model, x, tmp_path):
    import keras

    expected = record_outputs(model, x)
    save_model(model, tmp_path / "m.keras")
    for session in (KerasSession(model), KerasSession(tmp_path / "m.keras")):
        assert session.runtime == "keras"
        assert session.version == keras.__version__
        assert [info.name for info in session.inputs] == ["zebra", "ant"]
        assert session.outputs[0].shape == (None, 4)
        with session:
            found = predict(session, x)
        for name, want in expected.items():
            np.testing.assert_allclose(found[name], want, atol=1e-6)


def test_arrays_that_do_not_fit(model, x):
    session = KerasSession(model)
    with pytest.raises(DataError, match="the model has inputs"):
        record_outputs(model, {"bee": x["ant"], "zebra": x["zebra"]})
    with pytest.raises(DataError, match="input 'ant' is float64"):
        session.run({"ant": x["ant"].astype(np.float64), "zebra": x["zebra"]})
    with pytest.raises(DataError, match="input 'ant' is float32 "):
        session.run({"ant": x["ant"][:, :1], "zebra": x["zebra"]})


def test_evaluation():
    import keras

    inputs = keras.Input((3,), name="x")
    same = keras.Model(inputs, keras.layers.Identity()(inputs))
    x = np.eye(3, dtype=np.float32)[[0, 1, 2, 2]]
    assert evaluate(same, Split({"x": x}, np.array([0, 1, 2, 0], np.int32))) == {"accuracy": 0.75}
    assert evaluate(same, Split({"x": x}, x + 2)) == {"mse": 4.0}
