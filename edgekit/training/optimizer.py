"""Optimizers and learning-rate schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgekit.base.errors import RecipeError
from edgekit.base.extras import require
from edgekit.schema.recipe import OptimizerSpec, ScheduleSpec

if TYPE_CHECKING:
    import keras

_CLASSES = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD", "rmsprop": "RMSprop", "lion": "Lion"}


def make_optimizer(
    spec: OptimizerSpec, schedule: ScheduleSpec, *, epochs: int, steps_per_epoch: int
) -> keras.Optimizer:
    """A Keras optimizer whose learning rate is a function of its step.

    Raises:
        RecipeError: the optimizer does not take one of the settings.
    """
    optimizers = require("keras", purpose="to train models").optimizers
    settings = {
        key: value
        for key in ("weight_decay", "momentum", "clipnorm")
        if (value := getattr(spec, key)) is not None
    }
    if "momentum" in settings and spec.name not in ("sgd", "rmsprop"):
        raise RecipeError(f"{spec.name} takes no momentum", where="train.optimizer.momentum")
    rate = learning_rate(spec.learning_rate, schedule, epochs, steps_per_epoch)
    return getattr(optimizers, _CLASSES[spec.name])(learning_rate=rate, **settings)


def learning_rate(peak: float, spec: ScheduleSpec, epochs: int, steps_per_epoch: int) -> Any:
    """The learning rate: a number, or a Keras schedule over steps.

    After a linear warm-up from 0 to `peak` over `warmup_epochs`, the rest of the training follows
    `cosine` (Loshchilov and Hutter 2017, without restarts) or `exponential` decay down to
    `final_fraction`, or drops by `step_factor` at the start of each of `step_epochs`.
    """
    if spec.name == "constant" and not spec.warmup_epochs:
        return peak
    keras = require("keras", purpose="to train models")
    ops = keras.ops
    warmup = spec.warmup_epochs * steps_per_epoch
    length = max(epochs * steps_per_epoch - warmup, 1.0)

    def rate(_: Any, step: Any) -> Any:
        now = ops.cast(step, "float32")
        share = ops.clip((now - warmup) / length, 0.0, 1.0)
        decayed = peak * _decay(spec, share, now / steps_per_epoch, ops)
        return ops.where(now < warmup, peak * (now + 1) / max(warmup, 1.0), decayed)

    base = keras.optimizers.schedules.LearningRateSchedule
    return type(
        "Schedule", (base,), {"__call__": rate, "get_config": lambda _: spec.model_dump()}
    )()


def _decay(spec: ScheduleSpec, share: Any, epoch: Any, ops: Any) -> Any:
    """The share of the peak rate that is left after `share` of the decay."""
    if spec.name == "cosine":
        rest = 0.5 * (1.0 + ops.cos(share * 3.141592653589793))
        return spec.final_fraction + (1.0 - spec.final_fraction) * rest
    if spec.name == "exponential":
        return ops.power(max(spec.final_fraction, 1e-6), share)
    factor = ops.ones_like(share)
    for drop in spec.step_epochs:
        factor = ops.where(epoch >= drop, factor * spec.step_factor, factor)
    return factor
