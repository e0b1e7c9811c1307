"""A Keras model as a `Session`, so that it is compared as any other file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.base.errors import DataError, ToolError
from edgekit.base.extras import require
from edgekit.models.files import as_functional, load_model
from edgekit.runtimes.session import Arrays, Session, match_names
from edgekit.schema.artifact import TensorInfo
from edgekit.training.evaluate import compiled

if TYPE_CHECKING:
    import keras


class KerasSession(Session):
    """Runs a Keras model on TensorFlow.

    Args:
        model: a model, or the path of a .keras or .h5 file.
    """

    runtime = "keras"

    def __init__(self, model: keras.Model | Path) -> None:
        loaded = load_model(model) if isinstance(model, Path) else as_functional(model)
        self.model = loaded
        self.version = str(require("keras", purpose="to run Keras models").__version__)
        self.inputs = tuple(_info(tensor.name, tensor) for tensor in loaded.inputs)
        self.outputs = tuple(
            _info(name, tensor)
            for name, tensor in zip(loaded.output_names, loaded.outputs, strict=True)
        )
        self._run = compiled(loaded)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Runs one batch."""
        names = tuple(info.name for info in self.inputs)
        arrays = match_names(names, inputs)
        for info in self.inputs:
            _check(arrays[info.name], info)
        tf = require("tensorflow", purpose="to run Keras models")
        try:
            outputs = self._run(*arrays.values())
        except tf.errors.OpError as error:
            raise ToolError(f"Keras failed: {error.message}", where=self.model.name) from None
        return {
            info.name: np.asarray(output)
            for info, output in zip(self.outputs, outputs, strict=True)
        }


def _info(name: str, tensor: keras.KerasTensor) -> TensorInfo:
    return TensorInfo(name=name, shape=tuple(tensor.shape), dtype=str(tensor.dtype))


def _check(array: NDArray[Any], info: TensorInfo) -> None:
    fits = array.ndim == len(info.shape) and all(
        want in (None, have) for want, have in zip(info.shape, array.shape, strict=True)
    )
    if not fits or array.dtype != np.dtype(info.dtype):
        raise DataError(
            f"input '{info.name}' is {array.dtype} {array.shape}, "
            f"the model takes {info.dtype} {info.shape}"
        )
