"""Training and fine-tuning of Keras models, reproducible and resumable."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.base.errors import RecipeError
from edgekit.base.extras import require
from edgekit.base.progress import Progress, silent
from edgekit.data.dataset import Dataset
from edgekit.schema.recipe import AugmentSpec, OptimizerSpec, ScheduleSpec, TrainSpec
from edgekit.training.batches import class_factors, steps_per_epoch, training_batches
from edgekit.training.checkpoint import History, Keeper, discard_checkpoint, fingerprint
from edgekit.training.optimizer import make_optimizer
from edgekit.training.state import EpochState
from edgekit.training.task import find_task
from edgekit.training.watch import reporter, tensorboard_log

if TYPE_CHECKING:
    import keras

_VALIDATION_BATCH = 256


@dataclass(frozen=True)
class TrainResult:
    """What a training did.

    Attributes:
        history: one value an epoch, by metric ("loss", "accuracy", "val_loss", ...).
        epochs: how many were trained, resumed ones included.
        best_epoch: the epoch (from 0) whose weights the model has, if early stopping chose it.
        seconds: wall time of this call.
    """

    history: History
    epochs: int
    best_epoch: int | None
    seconds: float


def fit(
    model: keras.Model,
    dataset: Dataset,
    spec: TrainSpec,
    *,
    seed: int,
    directory: Path,
    progress: Progress = silent,
    callbacks: Sequence[Any] = (),
    checkpoint_every_s: float = 2.0,
) -> TrainResult:
    """Trains `model` in place.

    The weights after an epoch are a function of the initial weights, the data, `spec` and `seed`:
    two runs give the same, and so does a run that was killed and called again.

    Args:
        model: a functional model; it is compiled here.
        dataset: `train` is learnt, `validation` is watched.
        spec: the recipe's `train:`.
        seed: of shuffling, augmentation and dropout.
        directory: keeps the state while it trains, and the TensorBoard log if asked for.
        progress: told after each epoch, and within long ones.
        callbacks: further Keras callbacks.
        checkpoint_every_s: at least this many seconds, and whole epochs, between two states.

    Raises:
        RecipeError: settings that do not fit the model or the data, or a loss that became NaN.
        StorageError: the disk is full.
    """
    settings = {
        "spec": spec.model_dump(mode="json"),
        "seed": seed,
        "samples": len(dataset.train),
    }
    keeper = Keeper(directory, fingerprint(model, settings), checkpoint_every_s)
    result = _train(model, dataset, spec, spec.loss, seed, progress, callbacks, keeper)
    discard_checkpoint(directory)
    return result


def fine_tune(
    model: keras.Model,
    dataset: Dataset,
    *,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    seed: int,
    loss: Any = None,
    callbacks: Sequence[Any] = (),
    progress: Progress = silent,
    schedule: ScheduleSpec | None = None,
    augment: AugmentSpec | None = None,
) -> TrainResult:
    """Trains on for a few epochs with Adam; for compression passes.

    Args:
        model: a functional model, trained in place.
        dataset: as for `fit`.
        epochs: how many.
        learning_rate: of Adam.
        batch_size: samples a step.
        seed: of shuffling, augmentation and dropout.
        loss: a Keras loss or its name; by default found from the model and the labels.
        callbacks: Keras callbacks, such as one that applies masks after each batch.
        progress: told after each epoch.
        schedule: of the rate; by default it is constant.
        augment: random changes of the images.

    Raises:
        RecipeError: as for `fit`.
    """
    spec = TrainSpec(
        epochs=epochs,
        batch_size=batch_size,
        optimizer=OptimizerSpec(learning_rate=learning_rate),
        schedule=schedule or ScheduleSpec(),
        augment=augment,
    )
    return _train(model, dataset, spec, loss, seed, progress, callbacks, None)


def _train(
    model: keras.Model,
    dataset: Dataset,
    spec: TrainSpec,
    loss: Any,
    seed: int,
    progress: Progress,
    callbacks: Sequence[Any],
    keeper: Keeper | None,
) -> TrainResult:
    started = time.monotonic()
    keras = require("keras", purpose="to train models")
    tf = require("tensorflow", purpose="to train models")
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(seed)
    task = find_task(model, dataset.train.y, loss=loss, metrics=spec.metrics)
    steps = steps_per_epoch(len(dataset.train), spec.batch_size)
    optimizer = make_optimizer(
        spec.optimizer, spec.schedule, epochs=spec.epochs, steps_per_epoch=steps
    )
    model.compile(optimizer, loss=task.loss, metrics=list(task.metrics))
    optimizer.build(model.trainable_variables)
    state = EpochState(model, spec.early_stopping, seed, keeper)
    first = state.resume()
    if first < spec.epochs and not state.stopped():
        batches = training_batches(
            dataset.train.x,
            dataset.train.y,
            batch_size=spec.batch_size,
            epochs=spec.epochs,
            seed=seed,
            first_epoch=first,
            weights=_sample_weights(spec, dataset.train.y),
            augment=spec.augment,
        )
        own = keras.callbacks.LambdaCallback(
            on_epoch_begin=state.begin,
            on_epoch_end=state.end,
        )
        watching = [reporter(progress, spec.epochs, steps)]
        if spec.tensorboard and keeper is not None:
            watching.append(tensorboard_log(keeper.directory / "tensorboard"))
        model.fit(
            batches,
            steps_per_epoch=steps,
            initial_epoch=first,
            epochs=spec.epochs,
            validation_data=(pack(dataset.validation.x), dataset.validation.y),
            validation_batch_size=max(spec.batch_size, _VALIDATION_BATCH),
            callbacks=[own, *callbacks, *watching],
            shuffle=False,  # the batches are shuffled already
            verbose=0,
        )
    best = state.take_best()
    return TrainResult(state.history, state.epochs, best, time.monotonic() - started)


def pack(x: dict[str, NDArray[Any]]) -> Any:
    """Arrays as a Keras model takes them: one without its name, several by name."""
    return x if len(x) > 1 else next(iter(x.values()))


def _sample_weights(spec: TrainSpec, y: NDArray[Any]) -> NDArray[np.float32] | None:
    if spec.class_weights is None:
        return None
    if y.dtype.kind not in "iu":
        raise RecipeError("weights of classes need classes", where="train.class_weights")
    if not isinstance(spec.class_weights, str):
        unknown = sorted(set(spec.class_weights) - set(range(int(y.max()) + 1)))
        if unknown:
            raise RecipeError(f"there is no class {unknown[0]}", where="train.class_weights")
    return class_factors(y, spec.class_weights)
