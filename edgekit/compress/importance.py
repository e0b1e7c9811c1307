"""How much each channel matters.

Every criterion gives one score for each set of channels that go together; it is comparable within
a layer, and between layers because each layer's scores have a mean of one (but Taylor's, which are
changes of the loss already).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgekit.base.extras import require
from edgekit.compress.coupling import Channels, Weight
from edgekit.compress.network import Network
from edgekit.data.dataset import Split
from edgekit.runtimes.session import match_names

if TYPE_CHECKING:
    import keras

Criterion = Literal["l1", "l2", "batchnorm", "taylor", "activation"]
Scores = NDArray[np.float64]
NEED_DATA: tuple[Criterion, ...] = ("taylor", "activation")
_BATCH = 32
_SAMPLES = 256


def importance(
    criterion: Criterion,
    model: keras.Model,
    network: Network,
    samples: Split | None = None,
    loss: str | None = None,
) -> Scores:
    """One score for each id that stands for channels (`Group.roots`); others have NaN.

    Args:
        criterion: `l1`, `l2`: norms of the filters (Li et al. 2017). `batchnorm`: the scales of
            batch normalization (Liu et al. 2017); filters without one by `l2`. `taylor`: the
            squared first-order change of the loss (Molchanov et al. 2019). `activation`: the root
            mean square of a channel times the norm of the weights that take it, which is what
            its removal changes in the next layer; channels within a layer by `l2`.
        model: the model.
        network: its channels.
        samples: for `taylor` and `activation`; at most 256 are used.
        loss: of training, for `taylor`; by default found from the model and the labels.
    """
    if criterion == "taylor" and samples is not None:
        return _taylor(model, network, samples.take(_SAMPLES), loss)
    if criterion == "activation" and samples is not None:
        taken = _activation(model, network, samples.take(_SAMPLES))
        return np.where(np.isnan(taken), _norms(network, 2), taken)
    filters = _norms(network, 1 if criterion == "l1" else 2)
    if criterion == "batchnorm":
        scales = _mean(
            network,
            [(w, 0, np.abs(w.variable.numpy())) for w in _weights(network) if w.scale],
        )
        return np.where(np.isnan(scales), filters, scales)
    return filters


def _weights(network: Network) -> list[Weight]:
    return [weight for wired in network.layers for weight in wired.wiring.weights]


def _made(weight: Weight) -> list[int]:
    return [axis for axis in (weight.made, weight.also) if axis is not None]


def _along(values: NDArray[Any], axis: int, reduce: Callable[..., Any]) -> NDArray[Any]:
    rows: NDArray[Any] = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
    reduced: NDArray[Any] = reduce(rows, axis=1)
    return reduced


def _norms(network: Network, order: int) -> Scores:
    def norm(rows: NDArray[Any], axis: int) -> NDArray[Any]:
        norms: NDArray[Any] = np.linalg.norm(rows.astype(np.float64), order, axis=axis)
        return norms

    return _mean(
        network,
        [
            (weight, axis, _along(weight.variable.numpy(), axis, norm))
            for weight in _weights(network)
            for axis in _made(weight)
        ],
    )


def _mean(network: Network, scored: list[tuple[Weight, int, NDArray[Any]]]) -> Scores:
    """The mean over all that is tied, of scores with a mean of one in each weight."""
    sums, counts = np.zeros(len(network.coupling)), np.zeros(len(network.coupling))
    for weight, axis, scores in scored:
        ids = weight.axes[axis]
        if ids is None:
            continue
        roots = network.coupling.roots(ids)
        np.add.at(sums, roots, scores / (scores.mean() or 1.0))
        np.add.at(counts, roots, 1)
    with np.errstate(invalid="ignore"):
        return sums / counts


def _taylor(model: keras.Model, network: Network, samples: Split, loss: str | None) -> Scores:
    from edgekit.training.fit import pack
    from edgekit.training.task import find_task

    tf = require("tensorflow", purpose="to compress models")
    task = find_task(model, samples.y, loss=loss, metrics=())
    keras = require("keras", purpose="to compress models")
    function = keras.losses.get(task.loss)
    weights = [weight for weight in _weights(network) if _made(weight)]
    variables = [weight.variable.value for weight in weights]

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def gradients(x: Any, y: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            value = tf.reduce_mean(function(y, model(x, training=False)))
        return tape.gradient(value, variables, unconnected_gradients="zero")

    total, batches = np.zeros(len(network.coupling)), 0
    for start in range(0, len(samples), _BATCH):
        part = slice(start, start + _BATCH)
        x = pack({name: values[part] for name, values in samples.x.items()})
        change = np.zeros(len(network.coupling))
        for weight, slope in zip(weights, gradients(x, samples.y[part]), strict=True):
            products = weight.variable.numpy() * tf.convert_to_tensor(slope).numpy()
            for axis in _made(weight):
                ids = weight.axes[axis]
                if ids is not None:
                    sums = _along(products, axis, np.sum)
                    np.add.at(change, network.coupling.roots(ids), sums)
        total += change**2
        batches += 1
    return total / batches


def _activation(model: keras.Model, network: Network, samples: Split) -> Scores:
    squares = _mean_squares(model, network, samples)
    inputs_of = {id(call.layer): call.inputs for call in network.graph.calls}
    scored = []
    for wired in network.layers:
        for weight in wired.wiring.weights:
            if weight.taken is None or weight.axes[weight.taken] is None:
                continue
            norms = _along(weight.variable.numpy(), weight.taken, np.linalg.norm)
            if weight.source is not None:
                given = squares[inputs_of[id(wired.layer)][weight.source]]
                # The groups of a convolution share what goes.
                norms = norms * np.sqrt(given.reshape(-1, len(norms)).mean(0))
            scored.append((weight, weight.taken, norms))
    return _mean(network, scored)


def _mean_squares(model: keras.Model, network: Network, samples: Split) -> dict[int, NDArray[Any]]:
    """Of each value with channels: the mean square of each channel."""
    keras = require("keras", purpose="to compress models")
    sums: dict[int, NDArray[Any]] = {}
    graph = network.graph
    arrays = match_names(tuple(tensor.name for tensor in model.inputs), samples.x).values()
    for start in range(0, len(samples), _BATCH):
        batch = [keras.ops.convert_to_tensor(array[start : start + _BATCH]) for array in arrays]
        values = dict(zip(graph.inputs, batch, strict=True))
        for call in graph.calls:
            values |= call.run(values)
            for value in call.outputs:
                channels = network.channels[value]
                if channels is not None:
                    total = _square_sums(values[value], channels)
                    sums[value] = sums.get(value, 0.0) + total
    return {value: total / len(samples) for value, total in sums.items()}


def _square_sums(tensor: Any, channels: Channels) -> NDArray[Any]:
    """Mean over places, sum over samples."""
    values = np.moveaxis(np.asarray(tensor, np.float64), channels.axis, -1)
    places = values.reshape(len(values), -1, values.shape[-1])
    result: NDArray[Any] = np.square(places).mean(1).sum(0)
    return result
