from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgekit.compress
from edgekit.base.errors import InputError, ModelFileError, PreconditionError
from edgekit.compress.distillation_losses import attention_loss, relation_loss, soft_targets
from edgekit.compress.kernels import find_kernels
from edgekit.data.dataset import Dataset
from edgekit.schema.recipe import OptimizerSpec, TrainSpec

pytestmark = pytest.mark.slow

TRAIN = TrainSpec(epochs=4, batch_size=16, optimizer=OptimizerSpec(learning_rate=4e-3))
CNN = {"name": "mlp", "args": {"hidden": [32]}}


def network(width: int, *, last: str = "softmax", outputs: int = 3, seed: int = 1) -> Any:
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(seed)
    x = image = keras.Input((8, 8, 1), name="x")
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(width, activation="relu", name="hidden")(x)
    x = layers.Dense(outputs, activation=last, name="out")(x)
    return keras.Model(image, x)


@pytest.fixture(scope="module")
def teacher(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from edgekit.models.files import save_model
    from edgekit.training.fit import fine_tune

    model = network(48)
    fine_tune(model, dataset, epochs=12, learning_rate=3e-3, batch_size=16, seed=0)
    path = tmp_path_factory.mktemp("teacher") / "teacher.keras"
    save_model(model, path)
    return path


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


def hinton(teacher: np.ndarray, student: np.ndarray, temperature: float) -> float:
    """T^2 KL(softmax(z_t / T) || softmax(z_s / T)), mean over samples, in float64."""
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    return float(temperature**2 * np.mean(np.sum(p * (np.log(p) - np.log(q)), -1)))


def logits(outputs: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, (40, outputs))


@pytest.mark.parametrize("temperature", [1.0, 3.0, 10.0])
def test_the_loss_of_models_with_a_softmax_is_that_of_hinton(temperature: float) -> None:
    loss = soft_targets(network(4), network(4), temperature)
    t, s = logits(3, 0), logits(3, 1)
    found = loss.compute_loss(softmax(t).astype("float32"), softmax(s).astype("float32"))
    assert float(found) == pytest.approx(hinton(t, s, temperature), rel=1e-4)


def test_the_loss_of_models_that_give_logits_is_the_same() -> None:
    plain, soft = network(4, last="linear"), network(4)
    t, s = logits(3, 0), logits(3, 1)
    expected = hinton(t, s, 4.0)
    mixed = soft_targets(plain, soft, 4.0)
    assert float(
        mixed.compute_loss(t.astype("float32"), softmax(s).astype("float32"))
    ) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("last", ["sigmoid", "linear"])
def test_one_output_is_a_choice_between_two(last: str) -> None:
    model = network(4, last=last, outputs=1)
    t, s = logits(1, 0), logits(1, 1)
    both = [np.concatenate([z, np.zeros_like(z)], -1) for z in (t, s)]
    given = [z if last == "linear" else 1 / (1 + np.exp(-z)) for z in (t, s)]
    found = soft_targets(model, model, 2.0).compute_loss(*(z.astype("float32") for z in given))
    assert float(found) == pytest.approx(hinton(*both, 2.0), rel=1e-4)


def test_a_student_learns_from_a_teacher_in_a_file(dataset: Dataset, teacher: Path) -> None:
    from edgekit.training.evaluate import evaluate

    student = network(6, seed=2)
    before = student.get_weights()
    result = edgekit.compress.distill(
        student, dataset, teacher=teacher.name, root=teacher.parent, train=TRAIN, epochs=12,
        learning_rate=5e-3,
    )  # fmt: skip
    assert evaluate(result.model, dataset.test)["accuracy"] > 0.9
    assert [layer.name for layer in result.model.layers] == ["x", "flatten", "hidden", "out"]
    for old, kept in zip(before, student.get_weights(), strict=True):
        np.testing.assert_array_equal(old, kept)
    metrics = result.report["metrics"]
    assert metrics["teacher"]["accuracy"] > 0.95
    assert metrics["student"]["accuracy"] > metrics["student_before"]["accuracy"]
    assert {row["layer"] for row in result.report["layers"]} == {"hidden", "out"}
    assert all(row["relative_change"] > 0 for row in result.report["layers"])
    history = result.report["history"]["distillation_loss"]
    assert history[-1] < history[0]


def test_with_alpha_one_only_the_teacher_counts(dataset: Dataset, teacher: Path) -> None:
    """Labels that are all wrong do no harm if they weigh nothing."""
    from dataclasses import replace

    from edgekit.data.dataset import Split
    from edgekit.training.evaluate import evaluate

    wrong = Split(dataset.train.x, (dataset.train.y + 1) % 3)
    result = edgekit.compress.distill(
        network(6, seed=2), replace(dataset, train=wrong), teacher=str(teacher), alpha=1.0,
        train=TRAIN, epochs=12, learning_rate=5e-3,
    )  # fmt: skip
    assert evaluate(result.model, dataset.test)["accuracy"] > 0.9


def test_a_family_is_trained_first(dataset: Dataset) -> None:
    said: list[str] = []

    def watch(text: str, done: float = 0.0, total: float | None = None) -> None:
        said.append(text)

    result = edgekit.compress.distill(
        network(6), dataset, teacher={"name": "mlp"}, teacher_epochs=3, epochs=1, train=TRAIN,
        progress=watch,
    )  # fmt: skip
    assert result.report["metrics"]["teacher"]["accuracy"] > 0.5
    assert result.report["teacher_parameters"] > result.report["student_parameters"]
    assert said[0].startswith("teacher: epoch 1/3")


def test_pruned_weights_stay_zero(dataset: Dataset, teacher: Path) -> None:
    pruned = edgekit.compress.prune(network(8), sparsity=0.5).model
    result = edgekit.compress.distill(pruned, dataset, teacher=str(teacher), epochs=2, train=TRAIN)
    for old, new in zip(find_kernels(pruned)[0], find_kernels(result.model)[0], strict=True):
        np.testing.assert_array_equal(old.values == 0, new.values == 0)
        assert np.any(old.values != new.values)


def test_features_are_matched(dataset: Dataset, teacher: Path) -> None:
    pair = {"teacher": "hidden", "student": "hidden", "weight": 2.0}
    result = edgekit.compress.distill(
        network(48, seed=3), dataset, teacher=str(teacher), features=[pair], epochs=1, train=TRAIN
    )
    assert np.isfinite(result.report["history"]["loss"][0])


@pytest.mark.parametrize(
    ("student", "options", "words"),
    [
        ({"outputs": 2, "width": 4}, {}, "the teacher's inputs and outputs"),
        (
            {"width": 4},
            {"features": [{"teacher": "hidden", "student": "hiden"}]},
            "the student has no layer 'hiden'\n  did you mean 'hidden'?",
        ),
        (
            {"width": 4},
            {"features": [{"teacher": "hid", "student": "hidden"}]},
            "the teacher has no layer 'hid'",
        ),
        (
            {"width": 4},
            {"features": [{"teacher": "hidden", "student": "x"}]},
            "'hidden' of the teacher gives (None, 48), 'x' of the student (None, 8, 8, 1)",
        ),
        (
            {"width": 4},
            {"features": [{"teacher": "hidden", "student": "hidden", "kind": "attention"}]},
            "attention are matched between layers of the same positions, of which there are none",
        ),
        ({"width": 4, "last": "linear"}, {"teacher": "both"}, "end in different activations"),
    ],
)
def test_models_that_do_not_fit_are_refused(
    student: dict[str, Any], options: dict[str, Any], words: str, dataset: Dataset, teacher: Path
) -> None:
    from edgekit.models.files import save_model

    if options.get("teacher") == "both":
        logits_too = teacher.parent / "logits.keras"
        save_model(network(8, last="linear"), logits_too)
        options = {"teacher": [str(teacher), str(logits_too)]}
    with pytest.raises(InputError) as caught:
        edgekit.compress.distill(
            network(**student), dataset, **{"teacher": str(teacher), **options}
        )
    assert words in str(caught.value) or "the data has 3 classes" in str(caught.value)


def test_a_teacher_that_cannot_be_read_is_one_clear_error(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "big.keras").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(ModelFileError):
        edgekit.compress.distill(network(4), dataset, teacher="big.keras", root=tmp_path)


def test_distillation_needs_data() -> None:
    with pytest.raises(PreconditionError, match="needs training samples with labels"):
        edgekit.compress.distill(network(4), None, teacher="mlp")


def images(width: int, seed: int = 1) -> Any:
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(seed)
    x = image = keras.Input((8, 8, 1), name="x")
    x = layers.Conv2D(width, 3, activation="relu", name="conv")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(3, activation="softmax", name="out")(x))


def test_attention_is_that_of_the_paper() -> None:
    random = np.random.default_rng(0)
    t, s = random.normal(0, 1, (5, 4, 3, 8)), random.normal(0, 1, (5, 4, 3, 2))
    maps = [np.mean(one**2, axis=-1).reshape(5, 12) for one in (t, s)]
    maps = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in maps]
    expected = np.mean(np.sum((maps[0] - maps[1]) ** 2, axis=1))
    found = attention_loss(t.astype("float32"), s.astype("float32"))
    assert float(found) == pytest.approx(expected, rel=1e-4)
    assert float(attention_loss(t.astype("float32"), 3 * t.astype("float32"))) < 1e-9


def huber(difference: np.ndarray) -> float:
    size = np.abs(difference)
    return float(np.mean(np.where(size <= 1, size**2 / 2, size - 0.5)))


def test_relations_are_those_of_the_paper() -> None:
    random = np.random.default_rng(0)
    t, s = random.normal(0, 1, (5, 7)), random.normal(0, 2, (5, 3))

    def relations(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n = len(rows)
        distance = np.array([[np.linalg.norm(a - b) for b in rows] for a in rows])
        angle = np.zeros((n, n, n))
        for i, j, k in np.ndindex(n, n, n):
            if j not in (i,) and k not in (i,):
                one, two = rows[j] - rows[i], rows[k] - rows[i]
                angle[i, j, k] = one @ two / np.linalg.norm(one) / np.linalg.norm(two)
        return distance / distance[distance > 0].mean(), angle

    (near, angles), (near_s, angles_s) = relations(t), relations(s)
    expected = huber(near - near_s) + 2 * huber(angles - angles_s)
    found = relation_loss(t.astype("float32"), s.astype("float32"))
    assert float(found) == pytest.approx(expected, rel=1e-4)
    # Neither turning nor scaling changes how samples lie to each other.
    turned = 4 * t @ np.linalg.qr(random.normal(0, 1, (7, 7)))[0]
    assert float(relation_loss(t.astype("float32"), turned.astype("float32"))) < 1e-9


def test_the_gradients_of_equal_samples_are_finite() -> None:
    import keras
    import tensorflow as tf

    rows = keras.Variable(np.zeros((4, 3), np.float32))
    for loss in (relation_loss, attention_loss):
        with tf.GradientTape() as tape:
            value = loss(np.zeros((4, 2, 3), np.float32), keras.ops.stack([rows, rows], 1))
        assert np.all(np.isfinite(tape.gradient(value, rows.value)))


@pytest.mark.parametrize("kind", ["features", "attention", "relation"])
def test_narrow_layers_learn_from_wide_ones(kind: str, dataset: Dataset, tmp_path: Path) -> None:
    from edgekit.models.files import save_model
    from edgekit.training.fit import fine_tune

    wide = images(16)
    fine_tune(wide, dataset, epochs=6, learning_rate=5e-3, batch_size=16, seed=0)
    save_model(wide, tmp_path / "wide.keras")
    pair = {"teacher": "conv", "student": "conv", "weight": 20.0, "kind": kind}
    result = edgekit.compress.distill(
        images(4, seed=2), dataset, teacher=str(tmp_path / "wide.keras"), features=[pair],
        alpha=1.0, epochs=4, learning_rate=1e-2, train=TRAIN,
    )  # fmt: skip
    history = result.report["history"]["distillation_loss"]
    assert history[-1] < 0.9 * history[0]
    assert [layer.name for layer in result.model.layers] == ["x", "conv", "pool", "out"]


def test_the_mean_of_several_teachers_is_learnt(
    dataset: Dataset, teacher: Path, tmp_path: Path
) -> None:
    from edgekit.models.files import load_model, save_model
    from edgekit.training.evaluate import record_outputs

    save_model(network(8, seed=9), tmp_path / "other.keras")
    paths = [teacher, tmp_path / "other.keras"]
    result = edgekit.compress.distill(
        network(24, seed=2), dataset, teacher=[str(path) for path in paths], alpha=1.0,
        temperature=1.0, features=[{"teacher": "hidden", "student": "hidden", "weight": 0.01}],
        epochs=30, learning_rate=1e-2, train=TRAIN,
    )  # fmt: skip
    outputs = [record_outputs(load_model(path), dataset.train.x)["out"] for path in paths]
    learnt = record_outputs(result.model, dataset.train.x)["out"]
    distance = [float(np.mean((learnt - one) ** 2)) for one in (*outputs, np.mean(outputs, 0))]
    assert distance[2] < 0.25 * min(distance[:2])
    models = [load_model(path).count_params() for path in paths]
    assert result.report["teacher_parameters"] == sum(models)


def test_several_outputs_are_learnt_from_the_teacher_alone(
    dataset: Dataset, tmp_path: Path
) -> None:
    import keras

    from edgekit.models.files import save_model

    def two(width: int, seed: int) -> Any:
        model = network(width, seed=seed)
        box = keras.layers.Dense(4, name="box")(model.get_layer("hidden").output)
        return keras.Model(model.inputs, [model.outputs[0], box])

    save_model(two(32, 1), tmp_path / "two.keras")
    options: dict[str, Any] = {"teacher": str(tmp_path / "two.keras"), "train": TRAIN}
    with pytest.raises(PreconditionError, match="2 outputs, and labels are for one"):
        edgekit.compress.distill(two(8, 2), dataset, **options)
    result = edgekit.compress.distill(
        two(8, 2), dataset, alpha=1.0, epochs=20, learning_rate=1e-2, **options
    )
    before, after = (result.report["metrics"][who] for who in ("student_before", "student"))
    assert set(before) == {"mse_0", "mse_1"}
    assert all(after[name] < 0.5 * before[name] for name in before)
