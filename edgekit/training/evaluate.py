"""Outputs and metrics of Keras models: the reference of every parity check."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.base.extras import require
from edgekit.data.dataset import Arrays, Split
from edgekit.runtimes.session import match_names
from edgekit.verify.metrics import classification_metrics

if TYPE_CHECKING:
    import keras

_BATCH = 256


def record_outputs(model: keras.Model, x: Mapping[str, NDArray[Any]]) -> Arrays:
    """Runs any number of samples through a model.

    Args:
        model: a functional model.
        x: arrays of shape (n, ...) by input name; one array fits one input of any name.

    Returns:
        float32 arrays of shape (n, ...) by output name.

    Raises:
        DataError: the names do not fit the inputs.
    """
    run = compiled(model)
    names = tuple(tensor.name for tensor in model.inputs)
    ordered = list(match_names(names, x).values())
    count = len(ordered[0])
    parts = [
        [
            np.asarray(output, np.float32)
            for output in run(*(a[start : start + _BATCH] for a in ordered))
        ]
        for start in range(0, count, _BATCH)
    ]
    joined = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return dict(zip(model.output_names, joined, strict=True))


def compiled(model: keras.Model) -> Any:
    """The model as one TensorFlow function of its inputs in order, with any batch size.

    One with fake quantization is computed on the integers that it simulates.
    """
    tf = require("tensorflow", purpose="to run Keras models")
    from edgekit.models.fakequant import fake_quant_layers
    from edgekit.models.integers import on_integers

    signature = [
        tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype, name=f"input{index}")
        for index, tensor in enumerate(model.inputs)
    ]
    call = on_integers(model) if fake_quant_layers(model) else partial(_outputs, model)
    run = tf.function(call, input_signature=signature, autograph=False)
    return run.get_concrete_function()


def _outputs(model: keras.Model, *inputs: Any) -> list[Any]:
    """The outputs in their order, of tensors of the inputs in theirs."""
    tree = require("keras", purpose="to run Keras models").tree
    packed = tree.pack_sequence_as(model.input, list(inputs))
    return list(tree.flatten(model(packed, training=False)))


def evaluate(model: keras.Model, split: Split) -> dict[str, float]:
    """Metrics of a model on one split, computed as for every file on its device.

    Returns:
        "accuracy" (0 to 1) for classes, "mse" for values.
    """
    output = next(iter(record_outputs(model, split.x).values()))
    return classification_metrics(output, split.y)
