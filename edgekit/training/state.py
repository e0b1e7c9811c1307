"""What changes from epoch to epoch: the history, the best weights, and the states kept of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.base.errors import RecipeError
from edgekit.schema.recipe import EarlyStoppingSpec
from edgekit.training.checkpoint import Checkpoint, History, Keeper
from edgekit.training.stopping import best_epoch, should_stop

if TYPE_CHECKING:
    import keras


class EpochState:
    """The state of one training, moved on by `begin` and `end` of each epoch."""

    def __init__(
        self,
        model: keras.Model,
        stopping: EarlyStoppingSpec | None,
        seed: int,
        keeper: Keeper | None,
    ) -> None:
        self._model = model
        self._stopping = stopping
        self._seed = seed
        self._keeper = keeper
        self._best: list[NDArray[Any]] = []
        self.history: History = {}

    @property
    def epochs(self) -> int:
        """How many epochs are done."""
        return len(self.history.get("loss", ()))

    def resume(self) -> int:
        """Takes over a kept state and returns the epoch to start at."""
        kept = self._keeper.load() if self._keeper else None
        if kept is not None:
            self.history, self._best = kept.history, kept.best
            self._model.set_weights(kept.weights)
            for variable, value in zip(
                self._model.optimizer.variables, kept.optimizer, strict=True
            ):
                variable.assign(value)
        return self.epochs

    def stopped(self) -> bool:
        """Whether early stopping ended the training."""
        return bool(self._stopping and self.history and should_stop(self.history, self._stopping))

    def begin(self, epoch: int, logs: object = None) -> None:  # noqa: ARG002
        """Makes dropout and other random layers a function of seed and epoch."""
        states = [v for v in self._model.variables if v.name == "seed_generator_state"]
        for index, variable in enumerate(states):
            entropy = np.random.SeedSequence([self._seed, epoch, index])
            variable.assign(entropy.generate_state(2, np.uint32))

    def end(self, epoch: int, logs: dict[str, float]) -> None:
        """Takes the metrics of an epoch, and keeps what must be kept.

        Raises:
            RecipeError: the loss is not finite, or there is no such quantity to watch.
            StorageError: the disk is full.
        """
        if not math.isfinite(logs["loss"]):
            raise RecipeError(
                f"the loss became {logs['loss']} in epoch {epoch + 1}",
                where="train",
                hint="lower train.optimizer.learning_rate, or set train.optimizer.clipnorm: 1.0",
            )
        for name, value in logs.items():
            self.history.setdefault(name, []).append(float(value))
        if self._stopping and best_epoch(self.history, self._stopping) == self.epochs - 1:
            self._best = self._model.get_weights()
        if self.stopped():
            self._model.stop_training = True
        if self._keeper and self._keeper.is_due():
            optimizer = [np.asarray(variable) for variable in self._model.optimizer.variables]
            weights = self._model.get_weights()
            self._keeper.save(Checkpoint(self.history, weights, optimizer, self._best))

    def take_best(self) -> int | None:
        """Gives the model the weights of the best epoch, if early stopping is on."""
        if not self._stopping or not self._best:
            return None
        self._model.set_weights(self._best)
        return best_epoch(self.history, self._stopping)
