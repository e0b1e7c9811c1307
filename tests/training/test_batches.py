"""What a training step sees: the order of samples, their weights, and augmented images."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest

pytestmark = pytest.mark.slow


def test_class_weights():
    from edgekit.training.batches import class_factors

    y = np.array([0, 0, 0, 1])
    np.testing.assert_allclose(class_factors(y, "balanced"), [2 / 3, 2 / 3, 2 / 3, 2])
    np.testing.assert_allclose(class_factors(y, {1: 5.0}), [1, 1, 1, 5])


def test_each_epoch_shows_each_sample_once_in_another_order():
    from edgekit.training.batches import training_batches

    x = {"x": np.arange(10, dtype=np.float32)[:, None]}

    def epochs(first):
        batches = training_batches(
            x, np.arange(10), batch_size=4, epochs=3, seed=1, first_epoch=first
        )
        shown = [(a.numpy()[:, 0].tolist(), b.numpy().tolist()) for a, b in batches]
        assert all(a == b for a, b in shown)
        assert [len(a) for a, _ in shown] == [4, 4, 2] * (3 - first)
        return [list(chain(*(a for a, _ in shown[i : i + 3]))) for i in range(0, len(shown), 3)]

    orders = epochs(0)
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    assert epochs(2) == orders[2:]


def test_augmentation_moves_images_within_its_bounds():
    import tensorflow as tf

    from edgekit.schema.recipe import AugmentSpec
    from edgekit.training.augment import augmenter

    images = np.zeros((64, 21, 21, 1), np.float32)
    images[:, 10, 10] = 1
    inputs = {"x": tf.constant(images)}

    def change(seed=0, **spec):
        function = augmenter(AugmentSpec(**spec), inputs)
        return function(inputs, tf.constant([seed, 0]))["x"].numpy()

    def centres(batch):
        weight = batch[..., 0] / batch[..., 0].sum((1, 2), keepdims=True)
        grid = np.arange(21)
        return np.stack([(weight.sum(2) * grid).sum(1), (weight.sum(1) * grid).sum(1)], 1)

    assert np.array_equal(change(), images)
    moved = centres(change(translate=0.2)) - 10
    assert np.abs(moved).max() <= 0.2 * 21 + 1e-3
    assert moved.std(0).min() > 1  # both ways
    np.testing.assert_allclose(centres(change(rotate=0.5)), 10, atol=1e-3)  # about the centre
    np.testing.assert_allclose(centres(change(zoom=0.5)), 10, atol=1e-3)
    assert np.array_equal(change(seed=4, translate=0.2), change(seed=4, translate=0.2))
    assert not np.array_equal(change(seed=4, translate=0.2), change(seed=5, translate=0.2))
    assert change(noise=0.1).std() == pytest.approx(np.hypot(0.1, images.std()), rel=0.05)


@pytest.mark.parametrize(
    ("flip", "axes"), [("horizontal", (2,)), ("vertical", (1,)), ("both", (1, 2))]
)
def test_flips_are_exact(flip, axes):
    import tensorflow as tf

    from edgekit.schema.recipe import AugmentSpec
    from edgekit.training.augment import augmenter

    image = np.random.default_rng(0).random((1, 6, 5, 2), np.float32)
    inputs = {"x": tf.repeat(tf.constant(image), 40, axis=0)}
    flipped = augmenter(AugmentSpec(flip=flip), inputs)(inputs, tf.constant([1, 0]))["x"].numpy()
    allowed = [image[0]]
    for axis in axes:
        allowed += [np.flip(one, axis - 1) for one in allowed]
    kinds = [[np.abs(one - other).max() < 1e-5 for other in allowed] for one in flipped]
    assert all(sum(kind) == 1 for kind in kinds)
    assert all(any(kind[i] for kind in kinds) for i in range(len(allowed)))
