"""What a model is trained for: the loss and the metrics that fit its outputs and the labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from edgekit.base.errors import RecipeError, did_you_mean
from edgekit.base.extras import require

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Task:
    """How a model learns.

    Attributes:
        loss: a Keras loss.
        metrics: names of Keras metrics.
        reconstructs: whether the model learns its own input (an autoencoder), not the labels.
    """

    loss: Any
    metrics: tuple[str, ...]


def find_task(
    model: keras.Model, y: NDArray[Any], *, loss: str | None, metrics: Sequence[str]
) -> Task:
    """The task of a model with one output.

    Integer labels with several outputs: cross-entropy, of probabilities if the last activation is
    a softmax, else of logits. Integer labels with one output: binary cross-entropy, likewise.
    Floats, among them the input of an autoencoder: the mean squared error.

    Args:
        model: a functional model.
        y: labels as in `Split.y`.
        loss: name of a Keras loss, to take instead of the one found.
        metrics: names of Keras metrics; accuracy is left out where there are no classes.

    Raises:
        RecipeError: more than one output and no loss, an output that does not fit the labels, or
            an unknown loss or metric.
    """
    if len(model.outputs) != 1 and loss is None:
        raise RecipeError(
            f"no loss can be found for a model with {len(model.outputs)} outputs",
            where="train.loss",
        )
    classes = y.dtype.kind in "iu"
    _check_shapes(tuple(model.outputs[0].shape[1:]), y, classes=classes)
    chosen: Any = _known_loss(loss) if loss else _find_loss(model, classes=classes)
    for metric in metrics:
        _known_metric(metric)
    kept = tuple(name for name in metrics if classes or "acc" not in name)
    return Task(chosen, kept)


def _check_shapes(output: tuple[int | None, ...], y: NDArray[Any], *, classes: bool) -> None:
    wanted = "(classes,)" if classes else str(y.shape[1:] or (1,))
    if classes:
        fits = (len(output) == 1 and output[0] in (1, None)) or (output[0] or 0) > int(y.max())
    else:
        fits = math.prod(size or 1 for size in output) == math.prod(y.shape[1:])
    if not fits:
        raise RecipeError(
            f"the model's output of shape {output} does not fit labels of shape {wanted}",
            where="model",
            hint="an autoencoder needs its input as the target: data.options.target: input",
        )


def _find_loss(model: keras.Model, *, classes: bool) -> Any:
    losses = require("keras", purpose="to train models").losses
    if not classes:
        return losses.MeanSquaredError()
    activation = last_activation(model)
    if model.outputs[0].shape[-1] == 1:
        return losses.BinaryCrossentropy(from_logits=activation != "sigmoid")
    return losses.SparseCategoricalCrossentropy(from_logits=activation != "softmax")


def last_activation(model: keras.Model) -> str:
    """Name of the activation of the model's first output: "softmax", "sigmoid", "linear", ..."""
    layers = require("keras", purpose="to train models").layers
    from edgekit.models.fakequant import FakeQuant

    tensor = model.outputs[0]
    layer = tensor._keras_history.operation
    while isinstance(layer, (layers.Reshape, layers.Flatten, layers.Identity, FakeQuant)):
        tensor = layer._inbound_nodes[tensor._keras_history.node_index].input_tensors[0]
        layer = tensor._keras_history.operation
    if isinstance(layer, layers.Softmax):
        return "softmax"
    return str(getattr(getattr(layer, "activation", None), "__name__", "linear"))


def _known_loss(name: str) -> Any:
    losses = require("keras", purpose="to train models").losses
    try:
        return losses.get(name)
    except ValueError:
        raise _unknown("loss", name, losses) from None


def _known_metric(name: str) -> None:
    metrics = require("keras", purpose="to train models").metrics
    if name in ("accuracy", "acc", "crossentropy", "ce"):
        return
    try:
        metrics.get(name)
    except ValueError:
        raise _unknown("metric", name, metrics) from None


def _unknown(kind: str, name: str, module: Any) -> RecipeError:
    known = [word for word in dir(module) if word.islower() and word not in ("get", "serialize")]
    return RecipeError(
        f"unknown {kind} '{name}'", where=f"train.{kind}", hint=did_you_mean(name, known)
    )
