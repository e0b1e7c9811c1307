"""Batches of training data in an order that is a function of seed and epoch alone.

So a resumed training sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.base.errors import RecipeError
from edgekit.base.extras import require
from edgekit.schema.recipe import AugmentSpec
from edgekit.training.augment import augmenter, moves_images

if TYPE_CHECKING:
    import tensorflow as tf


def steps_per_epoch(samples: int, batch_size: int) -> int:
    """How many batches an epoch has; the last one may be smaller."""
    return math.ceil(samples / batch_size)


def training_batches(
    x: Mapping[str, NDArray[Any]],
    y: NDArray[Any],
    *,
    batch_size: int,
    epochs: int,
    seed: int,
    first_epoch: int = 0,
    weights: NDArray[np.float32] | None = None,
    augment: AugmentSpec | None = None,
) -> tf.data.Dataset:
    """Shuffled, augmented batches for `keras.Model.fit` with `steps_per_epoch`.

    Step `s` of epoch `e` is computed from (seed, e, s): no state, any epoch can be the first.

    Args:
        x: arrays of shape (n, ...) by input name; one input is passed without its name.
        y: targets of n rows.
        batch_size: samples of a batch.
        epochs: the epoch to stop before.
        seed: of order and augmentation.
        first_epoch: where to start.
        weights: weight of each sample, of shape (n,).
        augment: random changes of the images.

    Returns:
        A dataset of (x, y) or (x, y, weights), `epochs - first_epoch` epochs long.

    Raises:
        RecipeError: images are to be moved while they are the target too.
    """
    tf = require("tensorflow", purpose="to train models")
    if augment and moves_images(augment) and y.ndim > 2:
        raise RecipeError(
            "images that are the target cannot be moved",
            where="train.augment",
            hint="noise and contrast can be changed: the model then learns to undo them",
        )
    count = len(y)
    steps = steps_per_epoch(count, batch_size)
    inputs = {name: tf.constant(np.asarray(array)) for name, array in x.items()}
    targets = tf.constant(np.asarray(y))
    factors = None if weights is None else tf.constant(weights, tf.float32)
    change = augmenter(augment, inputs) if augment else None

    def batch(step: Any) -> tuple[Any, ...]:
        epoch, number = step // steps, step % steps
        start = number * batch_size
        positions = tf.range(start, tf.minimum(start + batch_size, count))
        order = tf.cast(tf.stack([seed, epoch]), tf.int32)
        chosen = tf.random.experimental.index_shuffle(positions, order, count - 1)
        taken = {name: tf.gather(array, chosen) for name, array in inputs.items()}
        target = tf.gather(targets, chosen)
        if change is not None:
            taken = change(taken, tf.cast(tf.stack([seed, step]), tf.int32))
        ready = next(iter(taken.values())) if len(taken) == 1 else taken
        return (ready, target) if factors is None else (ready, target, tf.gather(factors, chosen))

    numbers = tf.data.Dataset.range(first_epoch * steps, epochs * steps)
    plain = tf.autograph.experimental.do_not_convert(batch)
    return numbers.map(plain, num_parallel_calls=2, deterministic=True).prefetch(4)


def class_factors(y: NDArray[Any], weights: Mapping[int, float] | str) -> NDArray[np.float32]:
    """The weight of each sample by its class; "balanced" gives n / (classes * n_class).

    Args:
        y: int classes of shape (n,).
        weights: by class, 1 where none is given; or "balanced".

    Returns:
        float32 of shape (n,).
    """
    counts = np.bincount(y)
    if isinstance(weights, str):
        table = len(y) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    else:
        table = np.array([weights.get(index, 1.0) for index in range(len(counts))])
    factors: NDArray[np.float32] = table.astype(np.float32)[y]
    return factors
