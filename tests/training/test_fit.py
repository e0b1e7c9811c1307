"""Training: what it learns, that it is reproducible, and that it survives a kill."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgekit.base.errors import RecipeError
from edgekit.data.dataset import Dataset, Split
from edgekit.data.sources import load_dataset
from edgekit.models.build import build_model
from edgekit.schema.artifact import Preprocessing
from edgekit.schema.recipe import DataSpec, ModelSpec, TrainSpec
from edgekit.training.fit import fine_tune, fit

pytestmark = pytest.mark.slow


def digits(**settings):
    spec = DataSpec.model_validate(
        {"source": "digits", "preprocess": {"scale": 0.0625}, **settings}
    )
    return load_dataset(spec, seed=7, root=Path())


def blobs(classes=3, count=60, values=False):
    """Samples around one point a class; every split is the same."""
    rng = np.random.default_rng(0)
    y = np.arange(count, dtype=np.int32) % classes
    x = (rng.normal(0, 0.3, (count, 4)) + np.eye(4)[y] * 3).astype(np.float32)
    split = Split({"x": x}, x.sum(1) if values else y)
    names = () if values else tuple(map(str, range(classes)))
    return Dataset(split, split, split, split, names, Preprocessing())


def network(dataset, name="mlp", seed=1, **args):
    return build_model(
        ModelSpec(name=name, args=args),
        input_shapes=dataset.input_shapes,
        classes=dataset.classes,
        root=Path(),
        seed=seed,
    )


def train(dataset, directory, *, model=None, seed=3, **spec):
    model = model or network(dataset, units=[8], dropout=0.2)
    result = fit(model, dataset, TrainSpec(**spec), seed=seed, directory=directory)
    return model, result


def same(one, two):
    return all(
        np.array_equal(a, b) for a, b in zip(one.get_weights(), two.get_weights(), strict=True)
    )


FULL = {
    "schedule": {"name": "cosine", "warmup_epochs": 1},
    "augment": {"translate": 0.1, "rotate": 0.03, "zoom": 0.1, "contrast": 0.1, "noise": 0.05},
    "class_weights": "balanced",
    "early_stopping": {"patience": 3},
}


def test_a_small_cnn_learns_digits(tmp_path):
    from edgekit.training.evaluate import evaluate

    dataset = digits()
    model = network(dataset, "cnn", filters=[32, 64], dropout=0.3)
    spec = TrainSpec.model_validate(
        {
            "epochs": 30,
            "optimizer": {"learning_rate": 0.002},
            "schedule": {"name": "cosine", "warmup_epochs": 1},
            "augment": {"translate": 0.1, "rotate": 0.03},
        }
    )
    result = fit(model, dataset, spec, seed=0, directory=tmp_path)
    assert evaluate(model, dataset.test)["accuracy"] >= 0.98
    assert result.epochs == 30
    assert len(result.history["val_loss"]) == 30


def test_one_seed_gives_the_same_weights(tmp_path):
    dataset = digits(limit=200)

    def once(seed):
        model = network(dataset, "cnn", filters=[4], dense=8, dropout=0.3)
        return train(dataset, tmp_path, model=model, seed=seed, epochs=2, **FULL)

    (one, first), (two, second), (other, _) = once(5), once(5), once(6)
    assert same(one, two)
    assert first.history == second.history
    assert not same(one, other)


def test_early_stopping_takes_the_best_weights(tmp_path):
    dataset = blobs()
    wrong = Dataset(
        dataset.train, Split(dataset.train.x, (dataset.train.y + 1) % 3), dataset.calibration,
        dataset.test, dataset.labels, dataset.preprocessing,
    )  # fmt: skip
    model, result = train(
        wrong, tmp_path, epochs=30, optimizer={"learning_rate": 0.01},
        early_stopping={"monitor": "val_loss", "patience": 4},
    )  # fmt: skip
    losses = result.history["val_loss"]
    assert result.best_epoch == int(np.argmin(losses))
    assert result.epochs == len(losses) == result.best_epoch + 5 < 30
    again = model.evaluate(wrong.validation.x["x"], wrong.validation.y, verbose=0)[0]
    assert again == pytest.approx(min(losses), rel=1e-4)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "rmsprop", "lion"])
def test_each_optimizer_learns(tmp_path, name):
    dataset = blobs()
    rate = {"sgd": 0.1, "lion": 0.003}.get(name, 0.02)
    _, result = train(
        dataset, tmp_path, epochs=6, batch_size=10, optimizer={"name": name, "learning_rate": rate}
    )
    assert result.history["loss"][-1] < 0.8 * result.history["loss"][0]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({"name": "constant", "warmup_epochs": 1}, [0.25, 1.0, 1.0, 1.0, 1.0]),
        ({"name": "cosine", "final_fraction": 0.0}, [1.0, 0.853553, 0.5, 0.146447, 0.0]),
        ({"name": "exponential", "final_fraction": 0.01}, [1.0, 0.316228, 0.1, 0.0316228, 0.01]),
        ({"name": "step", "step_epochs": [1, 3]}, [1.0, 0.1, 0.1, 0.01, 0.01]),
        (
            {"name": "cosine", "warmup_epochs": 2, "final_fraction": 0.2},
            [1 / 8, 5 / 8, 1, 0.6, 0.2],
        ),
    ],
)
def test_the_learning_rate_at_the_start_of_each_epoch(schedule, expected):
    from edgekit.schema.recipe import ScheduleSpec
    from edgekit.training.optimizer import learning_rate

    rate = learning_rate(2.0, ScheduleSpec.model_validate(schedule), 4, 4)
    found = [float(rate(step)) / 2.0 for step in (0, 4, 8, 12, 16)]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("activation", "classes", "loss", "from_logits"),
    [
        ("softmax", 3, "SparseCategoricalCrossentropy", False),
        (None, 3, "SparseCategoricalCrossentropy", True),
        ("sigmoid", 1, "BinaryCrossentropy", False),
        (None, 1, "BinaryCrossentropy", True),
    ],
)
def test_the_loss_fits_the_outputs(activation, classes, loss, from_logits):
    import keras

    from edgekit.training.task import find_task

    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(classes, activation)(inputs))
    task = find_task(model, np.array([0, 1], np.int32), loss=None, metrics=("accuracy",))
    assert type(task.loss).__name__ == loss
    assert task.loss.get_config()["from_logits"] is from_logits
    assert task.metrics == ("accuracy",)


def test_a_softmax_layer_is_seen_too():
    import keras

    from edgekit.training.task import last_activation

    inputs = keras.Input((4, 3))
    x = keras.layers.Softmax()(keras.layers.Dense(5)(keras.layers.Flatten()(inputs)))
    assert last_activation(keras.Model(inputs, keras.layers.Reshape((5,))(x))) == "softmax"


def test_values_and_autoencoders_learn_the_mean_squared_error(tmp_path):
    values = blobs(values=True)
    _, result = train(values, tmp_path, epochs=20, optimizer={"learning_rate": 0.05})
    assert result.history["loss"][-1] < 0.1 * result.history["loss"][0]
    assert "accuracy" not in result.history
    images = digits(options={"target": "input"}, limit=300)
    model = network(images, "autoencoder", units=[32], code=16)
    _, result = train(images, tmp_path, model=model, epochs=25, optimizer={"learning_rate": 0.01})
    assert result.history["val_loss"][-1] < 0.5 * result.history["val_loss"][0]


def test_several_inputs_go_where_they_are_named(tmp_path):
    import keras

    rng = np.random.default_rng(0)
    y = np.arange(80, dtype=np.int32) % 2
    x = {"right": np.eye(2, dtype=np.float32)[y], "left": rng.random((80, 2), np.float32)}
    split = Split(x, y)
    dataset = Dataset(split, split, split, split, ("0", "1"), Preprocessing())
    left, right = keras.Input((2,), name="left"), keras.Input((2,), name="right")
    only_right = keras.layers.Dense(2, activation="softmax")(right)
    zero = keras.layers.Dense(2, kernel_initializer="zeros", trainable=False)(left)
    model = keras.Model([left, right], keras.layers.Add()([only_right, zero]))
    _, result = train(
        dataset, tmp_path, model=model, epochs=20, optimizer={"learning_rate": 0.1},
        loss="sparse_categorical_crossentropy",
    )  # fmt: skip
    assert result.history["accuracy"][-1] == 1.0


def test_class_weights_move_the_decision(tmp_path):
    rng = np.random.default_rng(0)
    y = (np.arange(200) % 10 == 0).astype(np.int32)
    x = (rng.normal(0, 1, (200, 4)) + y[:, None] * 0.5).astype(np.float32)
    split = Split({"x": x}, y)
    dataset = Dataset(split, split, split, split, ("0", "1"), Preprocessing())
    found = []
    for weights in (None, "balanced"):
        model, _ = train(
            dataset, tmp_path, epochs=15, optimizer={"learning_rate": 0.01}, class_weights=weights
        )
        found.append(int(np.argmax(model.predict(x, verbose=0), 1).sum()))
    assert found[1] > found[0] + 20


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"optimizer": {"learning_rate": 1e30, "name": "sgd"}}, "the loss became"),
        ({"loss": "mean_squared_eror"}, "unknown loss"),
        ({"metrics": ["acuracy"]}, "unknown metric"),
        ({"early_stopping": {"monitor": "val_acc"}}, "no 'val_acc' to watch"),
        ({"optimizer": {"momentum": 0.9}}, "takes no momentum"),
        ({"augment": {"rotate": 0.1}}, "only images"),
        ({"class_weights": {7: 2.0}}, "no class 7"),
    ],
)
def test_settings_that_cannot_be_used(tmp_path, spec, message):
    with pytest.raises(RecipeError, match=message):
        train(blobs(), tmp_path, epochs=3, **spec)


def test_labels_that_do_not_fit_the_model(tmp_path):
    dataset = blobs()
    model = network(blobs(classes=2), units=[3])
    with pytest.raises(RecipeError, match="does not fit labels"):
        train(dataset, tmp_path, model=model, epochs=1)


def test_fine_tuning_calls_back_after_each_batch():
    import keras

    dataset = blobs()
    model = network(dataset, units=[8])
    steps = []
    counter = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda step, logs: steps.append(step)
    )
    seen = []
    result = fine_tune(
        model, dataset, epochs=3, learning_rate=0.01, batch_size=25, seed=0, callbacks=[counter],
        progress=lambda text, done=0.0, total=None: seen.append((text, done, total)),
    )  # fmt: skip
    assert len(steps) == 9
    assert result.epochs == 3
    assert seen[-1][0].startswith("epoch 3/3: loss ")
    assert seen[-1][1:] == (3, 3)


def test_no_epochs_change_nothing(tmp_path):
    dataset = blobs()
    model = network(dataset, units=[8])
    before = model.get_weights()
    _, result = train(dataset, tmp_path, model=model, epochs=0)
    assert result.epochs == 0
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_the_tensorboard_log_holds_each_epoch(tmp_path):
    import tensorflow as tf

    _, result = train(blobs(), tmp_path, epochs=3, tensorboard=True)
    (path,) = (tmp_path / "tensorboard").iterdir()
    assert "tfevents" in path.name
    records = list(tf.compat.v1.io.tf_record_iterator(str(path)))
    events = [tf.compat.v1.Event.FromString(record) for record in records]
    losses = [v.simple_value for e in events for v in e.summary.value if v.tag == "val_loss"]
    np.testing.assert_allclose(losses, result.history["val_loss"], rtol=1e-6)


KILLED = """
import json, sys
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[1])
from test_fit import FULL, digits, fit, network, TrainSpec
dataset = digits(limit=200)
model = network(dataset, "cnn", filters=[4], dense=8, dropout=0.3)
def report(text, done=0.0, total=None):
    print("epoch", done, flush=True)
result = fit(model, dataset, TrainSpec(epochs=int(sys.argv[3]), **FULL), seed=5,
             directory=Path(sys.argv[2]), progress=report, checkpoint_every_s=0)
print(json.dumps(result.history), flush=True)
np.savez(Path(sys.argv[2]) / "weights.npz", *model.get_weights())
"""


def start(directory, epochs):
    arguments = [
        sys.executable,
        "-c",
        KILLED,
        str(Path(__file__).parent),
        str(directory),
        str(epochs),
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment)


def test_a_killed_training_goes_on_as_if_nothing_had_happened(tmp_path):
    epochs = 12
    killed = start(tmp_path / "killed", epochs)
    assert killed.stdout is not None
    done = 0.0
    while done < 4:
        done = float(killed.stdout.readline().split()[1])
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert (tmp_path / "killed" / "checkpoint.npz").exists()
    resumed = start(tmp_path / "killed", epochs)
    dataset = digits(limit=200)
    model = network(dataset, "cnn", filters=[4], dense=8, dropout=0.3)
    whole = fit(
        model, dataset, TrainSpec(epochs=epochs, **FULL), seed=5, directory=tmp_path / "whole"
    )
    lines = (resumed.communicate()[0]).splitlines()
    assert resumed.returncode == 0
    # Finished epochs were not done again; the kill may have come before the last one was kept.
    assert float(lines[0].split()[1]) >= done
    assert json.loads(lines[-1]) == whole.history
    with np.load(tmp_path / "killed" / "weights.npz") as archive:
        weights = [archive[name] for name in archive.files]
    assert all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights(), strict=True))
    assert not (tmp_path / "killed" / "checkpoint.npz").exists()


def test_a_checkpoint_of_something_else_is_not_used(tmp_path):
    from edgekit.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

    save_checkpoint(tmp_path, "one", Checkpoint({"loss": [1.0]}, [np.ones(3)], [], []))
    assert load_checkpoint(tmp_path, "two") is None
    kept = load_checkpoint(tmp_path, "one")
    assert kept is not None
    assert (kept.epochs, len(kept.weights), kept.best) == (1, 1, [])
    path = tmp_path / "checkpoint.npz"
    path.write_bytes(path.read_bytes()[:100])
    assert load_checkpoint(tmp_path, "one") is None
