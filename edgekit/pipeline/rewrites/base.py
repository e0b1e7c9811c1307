"""What rewrites of Keras models change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


@dataclass
class Draft:
    """A model that a rewrite puts another in the place of; it never changes the model itself."""

    model: keras.Model
