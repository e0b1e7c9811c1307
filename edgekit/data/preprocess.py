"""Preprocessing with NumPy and PIL, exactly as it is recorded for the device.

A resize works on each channel as a float image (PIL mode F), so that it neither rounds nor
depends on the dtype of the raw image. The methods are PIL's: nearest, bilinear and bicubic (both
with the support widened when an image gets smaller), and area (PIL's box filter).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.base.errors import DataError
from edgekit.base.extras import require
from edgekit.data.raw import Samples
from edgekit.schema.artifact import Preprocessing

_FILTERS = {"nearest": "NEAREST", "bilinear": "BILINEAR", "bicubic": "BICUBIC", "area": "BOX"}
_IMAGE_AXES = 4


def preprocess(samples: Samples, spec: Preprocessing, *, where: str = "data") -> NDArray[Any]:
    """Applies a recorded preprocessing to raw samples.

    Args:
        samples: an array of shape (n, ...), or a list of images (height, width, channels).
        spec: what to do.
        where: for messages.

    Returns:
        An array of shape (n, ...) of the dtype `spec.dtype`.

    Raises:
        DataError: a resize of something that is no image, images of several sizes without a
            resize, or as many means as there are not channels.
    """
    values = _resized(samples, spec, where)
    channels = values.shape[-1]
    for name, constant in (("mean", spec.mean), ("std", spec.std)):
        if isinstance(constant, tuple) and len(constant) not in (1, channels):
            raise DataError(
                f"the preprocessing has {len(constant)} values of {name} for {channels} channels",
                where=where,
            )
    if _does_nothing(spec):
        return values.astype(spec.dtype)
    real = values.astype(np.float32)
    real *= np.float32(spec.scale)
    real -= np.asarray(spec.mean, np.float32)
    real /= np.asarray(spec.std, np.float32)
    return real.astype(spec.dtype, copy=False)


def _does_nothing(spec: Preprocessing) -> bool:
    return spec.scale == 1.0 and spec.mean == 0.0 and spec.std == 1.0


def _resized(samples: Samples, spec: Preprocessing, where: str) -> NDArray[Any]:
    shapes = {sample.shape for sample in samples}
    if spec.resize is None:
        if len(shapes) > 1:
            raise DataError(
                f"the images have {len(shapes)} different shapes, such as "
                f"{' and '.join(str(shape) for shape in sorted(shapes)[:2])}",
                where=where,
                hint="give preprocess.resize: [height, width]",
            )
        return np.asarray(samples)
    wrong = [shape for shape in shapes if len(shape) != _IMAGE_AXES - 1]
    if wrong:
        raise DataError(
            f"a resize needs images (height, width, channels), found samples {wrong[0]}",
            where=where,
        )
    if shapes == {(*spec.resize, next(iter(shapes))[-1])}:
        return np.asarray(samples)
    if len({shape[-1] for shape in shapes}) > 1:
        raise DataError("the images differ in their number of channels", where=where)
    return np.stack([_resize_image(sample, spec) for sample in samples])


def _resize_image(image: NDArray[Any], spec: Preprocessing) -> NDArray[np.float32]:
    pil = require("PIL.Image", purpose="to resize images")
    if spec.resize is None:
        raise DataError("there is no size to resize to")
    height, width = spec.resize
    method = getattr(pil.Resampling, _FILTERS[spec.resize_method])
    planes = [
        np.asarray(pil.fromarray(plane).resize((width, height), method), np.float32)
        for plane in np.moveaxis(image.astype(np.float32), -1, 0)
    ]
    return np.stack(planes, axis=-1)
