"""Activations of Keras layers, in layers whose operators a target has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgekit.base.extras import require
from edgekit.compress.rebuild import rebuild
from edgekit.models.calls import call_graph
from edgekit.pipeline.rewrites.base import Draft
from edgekit.profiling.rewrites import Change, RefusedError, Site
from edgekit.profiling.rewrites.base import rewrite

_RULES = ("operator", "activations", "float_only", "optimized_operator", "gelu_type")
_SIGMOID = 1.702  # Hendrycks and Gimpel, 2016: GELU(x) is near x * sigmoid(1.702 x)


@rewrite(*_RULES, ops="GELU ERF FlexErf FlexErfc POW")
def gelu(site: Site[Draft]) -> Change:
    """Puts x * sigmoid(1.702 x) in the place of GELU, off by at most 0.021."""

    def form(x: Any) -> Any:
        layers = require("keras", purpose="to rewrite models").layers
        return layers.Multiply()([x, layers.Activation("sigmoid")(layers.Rescaling(_SIGMOID)(x))])

    _replace(site.model, "gelu", form)
    return Change("x * sigmoid(1.702 x) for GELU", "approximate")


@rewrite(*_RULES, ops="HARD_SWISH")
def hard_swish(site: Site[Draft]) -> Change:
    """Puts x * (relu(x / 6 + 1/2) - relu(x / 6 - 1/2)) in the place of hard-swish: the same."""
    _replace(site.model, "hard_silu", _hard_swish)
    return Change("x * (relu(x / 6 + 1/2) - relu(x / 6 - 1/2)) for HARD_SWISH", "rounding")


@rewrite(*_RULES, ops="LOGISTIC")
def swish(site: Site[Draft]) -> Change:
    """Puts hard-swish in the place of swish (Howard et al., 2019)."""
    _replace(site.model, "silu", _hard_swish)
    return Change("hard-swish for swish", "approximate")


def _hard_swish(x: Any) -> Any:
    """Hard-swish, x * relu6(x + 3) / 6, in a form that the converter leaves as it is."""
    layers = require("keras", purpose="to rewrite models").layers
    above, below = (
        layers.ReLU()(layers.Rescaling(1 / 6, offset=offset)(x)) for offset in (0.5, -0.5)
    )
    return layers.Multiply()([x, layers.Subtract()([above, below])])


def _replace(draft: Draft, name: str, form: Callable[[Any], Any]) -> None:
    """Puts layers in the place of an activation, wherever a layer has it.

    Raises:
        RefusedError: no layer has it.
    """
    keras = require("keras", purpose="to rewrite models")
    wanted = keras.activations.get(name)
    having = {
        id(call.layer)
        for call in call_graph(draft.model).calls
        if getattr(call.layer, "activation", None) is wanted
        and not hasattr(call.layer, "cell")
        and isinstance(call.layer, keras.Layer)
    }
    if not having:
        raise RefusedError(f"no layer has the activation {name}")

    def make(layer: Any) -> Any:
        config = layer.get_config()
        if id(layer) in having:
            config["activation"] = "linear"
        return type(layer).from_config(config)

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        return form(layer(*args, **kwargs))

    copy, pairs = rebuild(draft.model, make, dict.fromkeys(having, call))
    for old, new in pairs:
        new.set_weights(old.get_weights())
    draft.model = copy
