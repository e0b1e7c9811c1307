"""Time of edgekit's training against plain `keras.Model.fit` on the same network and data.

    python benchmarks/training.py [--rounds 5] [--epochs 20]

Both train in one process, in turn, from fresh weights; edgekit's time has its checkpoints in it.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from edgekit.data.dataset import Dataset
from edgekit.data.sources import load_dataset
from edgekit.models.build import build_model
from edgekit.schema.artifact import Preprocessing
from edgekit.schema.recipe import DataSpec, ModelSpec, TrainSpec
from edgekit.training.fit import fit


def plain_seconds(dataset: Dataset, epochs: int) -> float:
    """Keras alone: batches of 32, Adam, validation after each epoch."""
    import keras

    model = network(dataset)
    model.compile(
        keras.optimizers.Adam(), loss="sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    held_out = (dataset.validation.x["x"], dataset.validation.y)
    start = time.perf_counter()
    model.fit(
        dataset.train.x["x"],
        dataset.train.y,
        batch_size=32,
        epochs=epochs,
        validation_data=held_out,
        verbose=0,
    )
    return time.perf_counter() - start


def edgekit_seconds(dataset: Dataset, epochs: int) -> float:
    """edgekit: the same, reproducible and resumable."""
    model = network(dataset)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        fit(model, dataset, TrainSpec(epochs=epochs), seed=0, directory=Path(folder))
        return time.perf_counter() - start


def network(dataset: Dataset):  # type: ignore[no-untyped-def]
    """The small convolutional network of the demo."""
    return build_model(
        ModelSpec(name="cnn"),
        input_shapes=dataset.input_shapes,
        classes=dataset.classes,
        root=Path(),
    )


def main() -> None:
    """Prints both medians and the ratio of paired rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()
    spec = DataSpec(source="digits", preprocess=Preprocessing(scale=0.0625))
    dataset = load_dataset(spec, seed=0, root=Path())
    plain_seconds(dataset, 1)  # what TensorFlow does once in a process
    edgekit_seconds(dataset, 1)
    plain, own = [], []
    for _ in range(arguments.rounds):
        plain.append(plain_seconds(dataset, arguments.epochs))
        own.append(edgekit_seconds(dataset, arguments.epochs))
    ratio = statistics.median(b / a for a, b in zip(plain, own, strict=True))
    print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores")
    print(f"keras.Model.fit  {statistics.median(plain):6.2f} s")
    print(f"edgekit          {statistics.median(own):6.2f} s   {ratio:.2f} x")


if __name__ == "__main__":
    main()
