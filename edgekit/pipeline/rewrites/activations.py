"""Activations of Keras layers, in layers whose operators a target has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from edgekit.base.extras import require
from edgekit.models.calls import call_graph
from edgekit.pipeline.rewrites.base import Draft
from edgekit.profiling.rewrites import Change, RefusedError, Site
from edgekit.profiling.rewrites.base import rewrite

_RULES = ("operator", "activations", "float_only", "optimized_operator", "gelu_type")
_OPERATIONS = {"gelu": "Gelu", "hard_silu": "HardSilu", "silu": "Silu"}
"""Classes of the operations that `keras.ops` makes of activations."""
_SIGMOID = 1.702  # Hendrycks and Gimpel, 2016: GELU(x) is near x * sigmoid(1.702 x)


@rewrite(*_RULES, ops="GELU ERF FlexErf FlexErfc POW")
def gelu(site: Site[Draft]) -> Change:
    """Puts x * sigmoid(1.702 x) in the place of GELU, off by at most 0.021."""

    def form(x: Any, name: str) -> Any:
        layers = require("keras", purpose="to rewrite models").layers
        line = layers.Rescaling(_SIGMOID, name=f"{name}_line")(x)
        gate = layers.Activation("sigmoid", name=f"{name}_gate")(line)
        return layers.Multiply(name=f"{name}_gated")([x, gate])

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


@rewrite(*_RULES, "leaky_ratio", ops="LEAKY_RELU")
def leaky_relu(site: Site[Draft]) -> Change:
    """Puts PReLU with one slope for all channels in the place of a leaky ReLU: the same."""
    keras = require("keras", purpose="to rewrite models")

    def sloped(layer: Any) -> Any:
        slope = keras.initializers.Constant(float(layer.negative_slope))
        return keras.layers.PReLU(
            alpha_initializer=slope, shared_axes=axes[id(layer)], name=layer.name
        )

    axes = {
        id(call.layer): list(range(1, len(call.shapes[0]) - 1)) or None
        for call in call_graph(site.model.model).calls
        if call.kind == "LeakyReLU"
    }
    if not axes:
        raise RefusedError("no LeakyReLU layer has it")
    site.model.replace(dict.fromkeys(axes, lambda layer, x: layer(x)), sloped)
    return Change("PReLU of one slope for LeakyReLU", "bits")


def _hard_swish(x: Any, name: str) -> Any:
    """Hard-swish, x * relu6(x + 3) / 6, in a form that the converter leaves as it is."""
    layers = require("keras", purpose="to rewrite models").layers
    above, below = (
        layers.ReLU(name=f"{name}_{part}")(
            layers.Rescaling(1 / 6, offset=offset, name=f"{name}_{part}_line")(x)
        )
        for part, offset in (("above", 0.5), ("below", -0.5))
    )
    gate = layers.Subtract(name=f"{name}_gate")([above, below])
    return layers.Multiply(name=f"{name}_gated")([x, gate])


def _replace(draft: Draft, name: str, form: Callable[[Any, str], Any]) -> None:
    """Puts layers in the place of an activation, wherever a layer or an operation has it.

    Args:
        draft: the model.
        name: of the activation in `keras.activations`.
        form: makes the layers, of a tensor and a prefix for their names.

    Raises:
        RefusedError: no layer has it.
    """
    keras = require("keras", purpose="to rewrite models")
    wanted = keras.activations.get(name)
    calls: Counter[int] = Counter()

    def instead(layer: Any, *args: Any, **kwargs: Any) -> Any:
        x = layer(*args, **kwargs) if isinstance(layer, keras.Layer) else args[0]
        calls[id(layer)] += 1
        again = f"_{calls[id(layer)]}" if calls[id(layer)] > 1 else ""
        return form(x, f"{layer.name}_{name}{again}")

    def linear(layer: Any) -> Any:
        return type(layer).from_config(layer.get_config() | {"activation": "linear"})

    having = {
        id(call.layer): instead
        for call in call_graph(draft.model).calls
        if call.kind == _OPERATIONS.get(name)
        or (getattr(call.layer, "activation", None) is wanted and not hasattr(call.layer, "cell"))
    }
    if not having:
        raise RefusedError(f"no layer has the activation {name}")
    draft.replace(having, linear, keep=True)
