"""The last layer that all families share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.base.extras import require

if TYPE_CHECKING:
    import keras


def head(features: keras.KerasTensor, classes: int | None) -> keras.KerasTensor:
    """Class probabilities of shape (n, classes), or one value (n, 1) if `classes` is None."""
    layers = require("keras", purpose="to build models").layers
    if classes is None:
        return layers.Dense(1, name="value")(features)
    return layers.Dense(classes, activation="softmax", name="probabilities")(features)
