"""Batch norm as the families use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.base.extras import require

if TYPE_CHECKING:
    import keras

# Keras' 0.99 needs hundreds of steps until inference statistics follow; small data has few.
_MOMENTUM = 0.9


def batch_norm(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Batch norm whose statistics for inference settle within tens of steps."""
    layers = require("keras", purpose="to build models").layers
    return layers.BatchNormalization(momentum=_MOMENTUM, name=name)(x)
