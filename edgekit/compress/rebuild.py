"""A copy of a model in which some layers are others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from edgekit.base.extras import require
from edgekit.models.calls import nested_model
from edgekit.models.files import as_functional

if TYPE_CHECKING:
    import keras


def rebuild(
    model: keras.Model,
    make: Callable[[Any], Any],
    calls: Mapping[int, Callable[..., Any]] | None = None,
) -> tuple[keras.Model, list[tuple[Any, Any]]]:
    """A copy of a functional model, nested models included, of layers that `make` makes.

    Args:
        model: a functional or Sequential model; nested Sequential models become functional.
        make: gives the layer that stands for a layer; called once for each, shared ones too.
        calls: for the `id` of a layer or an operation, what stands for its call: a function of the
            new layer and of the arguments of the call.

    Returns:
        The copy with new weights, and pairs of old and new layers (no nested models).
    """
    keras = require("keras", purpose="to compress models")
    cache: dict[int, Any] = {}
    pairs: list[tuple[Any, Any]] = []
    instead: dict[int, Callable[..., Any]] = {}

    def clone(layer: Any) -> Any:
        if id(layer) not in cache:
            inner = nested_model(layer)
            if inner is not None:
                cache[id(layer)] = copied(inner)
            elif not isinstance(layer, keras.Layer):
                cache[id(layer)] = new = layer.__class__.from_config(layer.get_config())
                note(layer, new)
            else:
                cache[id(layer)] = new = make(layer)
                pairs.append((layer, new))
                note(layer, new)
        return cache[id(layer)]

    def note(layer: Any, new: Any) -> None:
        if calls and id(layer) in calls:
            instead[id(new)] = calls[id(layer)]

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        function = instead.get(id(layer))
        return function(layer, *args, **kwargs) if function else layer(*args, **kwargs)

    def copied(one: Any) -> Any:
        return keras.models.clone_model(one, clone_function=clone, call_function=call)

    return copied(as_functional(model)), pairs
