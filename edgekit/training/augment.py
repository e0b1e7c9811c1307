"""Random changes of training images, each a function of a seed: no state."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from edgekit.base.errors import RecipeError
from edgekit.base.extras import require
from edgekit.schema.recipe import AugmentSpec

if TYPE_CHECKING:
    import tensorflow as tf

Tensors = dict[str, Any]
_IMAGE_AXES = 4
_PRIME = 7919  # keeps the seeds of several inputs apart


def augmenter(
    spec: AugmentSpec, inputs: Mapping[str, tf.Tensor]
) -> Callable[[Tensors, tf.Tensor], Tensors]:
    """A function of (a batch by input name, an int32 seed of shape (2,)) for TensorFlow graphs.

    Translation, rotation, zoom and flip are one affine map with bilinear interpolation, the border
    repeated; then the contrast about each image's mean; then the noise. Inputs that are no images
    (n, height, width, channels) only get noise, and integers nothing.

    Raises:
        RecipeError: image changes are asked for, and there is no image.
    """
    tf = require("tensorflow", purpose="to augment images")
    images = [name for name, array in inputs.items() if len(array.shape) == _IMAGE_AXES]
    moves = moves_images(spec)
    if (moves or spec.contrast) and not images:
        raise RecipeError(
            "only images can be moved, turned, zoomed, flipped or changed in contrast",
            where="train.augment",
            hint="for other data, noise can be added",
        )

    def change(batch: Tensors, seed: Any) -> Tensors:
        changed = {}
        for index, (name, values) in enumerate(batch.items()):
            if not values.dtype.is_floating:
                changed[name] = values
                continue
            own = seed + tf.constant([index * _PRIME, 0], tf.int32)
            if name in images and moves:
                values = _moved(values, spec, own)
            if name in images and spec.contrast:
                values = _contrasted(values, spec.contrast, own)
            if spec.noise:
                noise = tf.random.stateless_normal(tf.shape(values), own + 4, stddev=spec.noise)
                values = values + noise
            changed[name] = values
        return changed

    return change


def moves_images(spec: AugmentSpec) -> bool:
    """Whether pixels change their place."""
    return bool(spec.translate or spec.rotate or spec.zoom or spec.flip)


def _moved(images: tf.Tensor, spec: AugmentSpec, seed: tf.Tensor) -> tf.Tensor:
    tf = require("tensorflow", purpose="to augment images")
    count = tf.shape(images)[0]
    height, width = images.shape[1], images.shape[2]
    draw = tf.random.stateless_uniform((6, count), seed, -1.0, 1.0)
    angle = draw[0] * (spec.rotate * 2 * math.pi)
    scale = 1.0 + draw[1] * spec.zoom
    shift_y, shift_x = draw[2] * spec.translate * height, draw[3] * spec.translate * width
    one = tf.ones_like(angle)
    flip_x = tf.sign(draw[4]) if spec.flip in ("horizontal", "both") else one
    flip_y = tf.sign(draw[5]) if spec.flip in ("vertical", "both") else one
    # The map from an output pixel to the input pixel it shows, about the centre of the image:
    # [a b c; d e f], row by row, as ImageProjectiveTransform takes it.
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    a, b = tf.cos(angle) * scale * flip_x, -tf.sin(angle) * scale * flip_y
    d, e = tf.sin(angle) * scale * flip_x, tf.cos(angle) * scale * flip_y
    c = centre_x - a * centre_x - b * centre_y + shift_x
    f = centre_y - d * centre_x - e * centre_y + shift_y
    zero = tf.zeros_like(angle)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([a, b, c, d, e, f, zero, zero], axis=1),
        output_shape=(height, width),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )


def _contrasted(images: tf.Tensor, amount: float, seed: tf.Tensor) -> tf.Tensor:
    tf = require("tensorflow", purpose="to augment images")
    shape = (tf.shape(images)[0], 1, 1, 1)
    factor = tf.random.stateless_uniform(shape, seed + 2, 1.0 - amount, 1.0 + amount)
    mean = tf.reduce_mean(images, axis=(1, 2), keepdims=True)
    return (images - mean) * factor + mean
