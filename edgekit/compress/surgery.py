"""A model with fewer channels, or with more: the same layers in other sizes, with their weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgekit.base.extras import require
from edgekit.compress.coupling import Coupling, Ids, Size, Weight, Wiring
from edgekit.compress.network import Network
from edgekit.models.calls import nested_model
from edgekit.models.files import as_functional

if TYPE_CHECKING:
    import keras


class Resized(Protocol):
    """What becomes of weights and sizes that follow channels."""

    def sliced(self, weight: Weight) -> NDArray[Any]:
        """The values of a weight in the new model."""

    def size(self, size: Size | int) -> Any:
        """An argument of a layer in the new model: ids become a number."""


class Cut:
    """Channels that go.

    Args:
        coupling: of the network.
        gone: one id of each set of channels that goes, as in `Group.roots`.
    """

    def __init__(self, coupling: Coupling, gone: Ids) -> None:
        self._coupling = coupling
        self._gone = gone

    def stays(self, ids: Ids) -> NDArray[np.bool_]:
        """Which of the ids stay."""
        stays: NDArray[np.bool_] = ~np.isin(self._coupling.roots(ids), self._gone)
        return stays

    def sliced(self, weight: Weight) -> NDArray[Any]:
        """The values that stay of a weight."""
        values: NDArray[Any] = weight.variable.numpy()
        for axis, ids in enumerate(weight.axes):
            if ids is not None:
                values = np.compress(self.stays(ids), values, axis)
        if weight.averaged is not None:
            values = values * float(np.sqrt(self.stays(weight.averaged).mean()))
        return values

    def size(self, size: Size | int) -> Any:
        """An argument of a layer: ids become how many of them stay."""
        if isinstance(size, tuple):
            return tuple(self.size(one) for one in size)
        return int(self.stays(size).sum()) if isinstance(size, np.ndarray) else size


class Padding:
    """Channels of zeros that come in behind others.

    Args:
        coupling: of the network.
        extra: how many come in behind each channel that is tied to an id.
    """

    def __init__(self, coupling: Coupling, extra: Mapping[int, int]) -> None:
        self._coupling, self._extra = coupling, extra

    def sliced(self, weight: Weight) -> NDArray[Any]:
        """The values of a weight, with zeros for the new channels."""
        values: NDArray[Any] = weight.variable.numpy()
        for axis, ids in enumerate(weight.axes):
            if ids is not None:
                places = np.repeat(np.arange(len(ids)) + 1, self._new(ids))
                values = np.insert(values, places, 0, axis)
        return values

    def size(self, size: Size | int) -> Any:
        """An argument of a layer: ids become how many there are with the new ones."""
        if isinstance(size, tuple):
            return tuple(self.size(one) for one in size)
        return len(size) + sum(self._new(size)) if isinstance(size, np.ndarray) else size

    def _new(self, ids: Ids) -> list[int]:
        return [self._extra.get(int(root), 0) for root in self._coupling.roots(ids)]


def remove_channels(model: keras.Model, network: Network, gone: Ids) -> keras.Model:
    """A copy of a model without some channels.

    It computes what the model would compute if no layer listened to these channels.

    Args:
        model: a functional or Sequential model; nested Sequential models become functional.
        network: its channels.
        gone: one id of each set of channels to remove.
    """
    return with_channels(model, network, Cut(network.coupling, gone))


def with_channels(model: keras.Model, network: Network, cut: Resized) -> keras.Model:
    """A copy of a model whose layers have other numbers of channels.

    Args:
        model: a functional or Sequential model; nested Sequential models become functional.
        network: its channels.
        cut: what becomes of weights and sizes.
    """
    keras = require("keras", purpose="to compress models")
    wirings = {id(wired.layer): wired.wiring for wired in network.layers}
    made: dict[int, Any] = {}

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if id(layer) not in made:
            inner = nested_model(layer)
            if inner is None:
                made[id(layer)] = _resized(layer, wirings[id(layer)], cut)
            else:
                made[id(layer)] = copied(inner, keras.tree.flatten((args, kwargs)))
        return made[id(layer)](*args, **kwargs)

    def copied(one: Any, given: list[Any]) -> Any:
        tensors = [value for value in given if isinstance(value, keras.KerasTensor)]
        inputs = [
            keras.Input(batch_shape=_shape(old, new), dtype=old.dtype, name=old.name)
            for old, new in zip(one.inputs, tensors, strict=True)
        ]
        return keras.models.clone_model(
            one,
            input_tensors=keras.tree.pack_sequence_as(one.input, inputs),
            clone_function=lambda layer: layer,
            call_function=call,
        )

    model = as_functional(model)
    small = copied(model, list(model.inputs))
    for wired in network.layers:
        new = made[id(wired.layer)]
        by_variable = {id(weight.variable): weight for weight in wired.wiring.weights}
        if getattr(wired.layer, "weights", None):
            new.set_weights(
                [
                    cut.sliced(by_variable[id(v)]) if id(v) in by_variable else v.numpy()
                    for v in wired.layer.weights
                ]
            )
    return small


def _shape(old: Any, new: Any) -> tuple[int | None, ...]:
    """Free sizes of a nested model stay free; the others follow what it is called on."""
    sizes = zip(old.shape, new.shape, strict=True)
    return tuple(None if size is None else given for size, given in sizes)


def _resized(layer: Any, wiring: Wiring, cut: Resized) -> Any:
    config = _without_shapes(layer.get_config())
    for path, size in wiring.config.items():
        *outer, name = path.split(".")
        place = config
        for key in outer:
            place = place[key]
        if _holds_ids(size):
            place[name] = cut.size(size)
    return type(layer).from_config(config)


def _holds_ids(size: Size | int) -> bool:
    sizes = size if isinstance(size, tuple) else (size,)
    return any(isinstance(one, np.ndarray) for one in sizes)


def _without_shapes(config: Any) -> Any:
    """A copy of a configuration that wrapped layers are not built from at their old size."""
    if isinstance(config, dict):
        return {k: _without_shapes(v) for k, v in config.items() if k != "build_config"}
    if isinstance(config, (list, tuple)):
        return type(config)(_without_shapes(one) for one in config)
    return config
