"""Networks of all structures come out of quantization-aware training as int8 files, as trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.base.child import Worker
from edgekit.data.dataset import Dataset

pytestmark = pytest.mark.slow


def images(layers: Any, x: Any) -> Any:
    """Rescaling, separable, transposed and pooling layers, slices, and two kinds of joins."""
    h = layers.Rescaling(0.5, 0.25)(x)
    h = layers.SeparableConv2D(6, 3, strides=2, padding="same", activation="relu")(h)
    up = layers.Conv2DTranspose(4, 2, strides=2, activation="relu")(h)
    small = layers.AveragePooling2D(2)(up)
    h = layers.Concatenate()([small, layers.Conv2D(3, 1, activation="sigmoid")(h), h])
    h = h[:, :3, 1:, :]
    return layers.Flatten()(layers.MaxPooling2D(2, padding="same")(h))


def sequences(layers: Any, x: Any) -> Any:
    """1D convolutions, learnt positions and attention."""
    h = layers.Conv1D(8, 3, padding="same", activation="relu")(layers.Reshape((8, 8))(x))
    h = layers.EinsumDense(
        "btd,de->bte", (8, 8), bias_axes="te", bias_initializer="random_normal", activation="relu"
    )(h)
    h = layers.Add()([layers.MultiHeadAttention(2, 4)(h, h), h])
    return layers.GlobalAveragePooling1D()(h)


def recurrent(layers: Any, x: Any) -> Any:
    """Both directions, then a layer on their sequences, and one on those of that."""
    h = layers.Bidirectional(layers.LSTM(3, return_sequences=True))(layers.Reshape((4, 16))(x))
    h = layers.GRU(4, return_sequences=True)(h)
    return layers.SimpleRNN(4, activation="relu", go_backwards=True)(h)


def backwards(layers: Any, x: Any) -> Any:
    """Directions that are added, and cells of other forms."""
    h = layers.Reshape((4, 16))(x)
    both = layers.Bidirectional(layers.GRU(3, reset_after=False), merge_mode="sum")(h)
    one = layers.LSTM(4, go_backwards=True)(h)
    return layers.Concatenate()([both, one, layers.SimpleRNN(3)(h)])


def nested(layers: Any, x: Any) -> Any:
    """A model within the model, called twice."""
    import keras

    inner = keras.Sequential(
        [keras.Input((8, 8, 2)), layers.Conv2D(2, 3, padding="same", activation="relu")]
    )
    return layers.Flatten()(inner(inner(layers.Conv2D(2, 1)(x))))


STRUCTURES = {build.__name__: build for build in (images, sequences, recurrent, backwards, nested)}


def structured(name: str) -> Any:
    """A classifier of one of the structures, not trained."""
    import keras

    keras.utils.set_random_seed(0)
    x = keras.Input((8, 8, 1), name="x")
    h = STRUCTURES[name](keras.layers, x)
    return keras.Model(x, keras.layers.Dense(3, name="logits")(h))


@pytest.mark.parametrize("name", list(STRUCTURES))
def test_each_structure_becomes_an_int8_file_with_the_trained_ranges(
    name: str, dataset: Dataset, tmp_path: Path, worker: Worker
) -> None:
    from edgekit.compress import qat

    made = qat(structured(name), dataset, epochs=0).model
    assert_as_trained(made, dataset.calibration.x, dataset.test.x, tmp_path, worker)


def test_tokens_and_several_inputs_and_outputs_become_an_int8_file(
    tmp_path: Path, worker: Worker, some: Callable[[int], Dataset]
) -> None:
    import keras

    from edgekit.compress import qat

    layers = keras.layers
    keras.utils.set_random_seed(0)
    words = keras.Input((6,), dtype="int32", name="words")
    size = keras.Input((4,), name="size")
    h = layers.Flatten()(layers.Embedding(9, 4)(words))
    h = layers.Concatenate()([h, layers.Dense(5, activation="relu")(size)])
    outputs = [layers.Dense(3, name="logits")(h), layers.Dense(2, name="value")(h)]
    model = keras.Model([words, size], outputs)
    data = some(120)
    made = qat(model, data, epochs=0).model
    assert made.output_names == ["logits", "value"]
    assert_as_trained(made, data.calibration.x, data.test.x, tmp_path, worker)


@pytest.fixture
def some() -> Callable[[int], Dataset]:
    """Random tokens and numbers."""
    from edgekit.data.dataset import Split
    from edgekit.schema.artifact import Preprocessing

    def make(count: int) -> Dataset:
        random = np.random.default_rng(0)

        def split() -> Split:
            x = {
                "words": random.integers(0, 9, (count, 6)).astype(np.int32),
                "size": random.normal(0, 1, (count, 4)).astype(np.float32),
            }
            return Split(x, (np.arange(count) % 3).astype(np.int32))

        return Dataset(
            *(split() for _ in range(4)), labels=("a", "b", "c"), preprocessing=Preprocessing()
        )

    return make


def assert_as_trained(
    made: Any, calibration: Any, x: dict[str, np.ndarray], folder: Path, worker: Worker
) -> None:
    """The export's gate counts the steps; ranges are read from the file."""
    from edgekit.export.exporter import ExportJob, export
    from edgekit.graph.read import read_graph
    from edgekit.models.fakequant import fake_quant_layers, range_of
    from edgekit.models.files import save_model

    save_model(made, folder / "qat.keras")
    np.savez(folder / "calibration.npz", **calibration)
    file = folder / "model-int8.tflite"
    job = ExportJob(
        folder / "qat.keras", "tflite", "int8", file, calibration=folder / "calibration.npz"
    )
    sidecar = export(job, worker=worker, reference_x=x)
    assert sidecar.parity["model"]["within_one_step"] >= 0.995
    graph = read_graph(file)
    assert not [tensor.name for tensor in graph.tensors if tensor.dtype == "float32"]
    scales = {np.float32(t.quantization.scale[0]) for t in graph.tensors if t.quantization}
    for layer in fake_quant_layers(made):
        low, high = range_of(layer)
        assert np.float32((high - low) / 255) in scales, layer.name
