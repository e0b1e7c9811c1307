"""Layer normalization in layers and operations that accelerators take.

Means over the channels are 1x1 convolutions with equal weights, which also int8 has exactly; gain
and offset are a depthwise convolution, which quantizes channel by channel. What is left is
1 / sqrt(variance), which has no form in convolutions, sums and products.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgekit.base.extras import require
from edgekit.pipeline.rewrites.base import Draft, called, renamed
from edgekit.profiling.rewrites import Change, RefusedError, Site
from edgekit.profiling.rewrites.base import rewrite
from edgekit.profiling.rewrites.normalization import NO_ROOT

_RULES = (
    "operator", "optimized_operator", "float_only", "log_type", "mean_over_depth", "mean_channels",
    "reductions", "element_wise", "no_broadcast",
)  # fmt: skip
_OPS = "ADD DIV MEAN MUL NEG POW RSQRT SQRT SQUARE SQUARED_DIFFERENCE SUB"
_TINY = 1e-12  # below every square that counts; TensorFlow's l2_normalize has it too


@rewrite(*_RULES, ops=_OPS)
def layer_norm(site: Site[Draft]) -> Change:
    """Makes layer normalization an L2 normalization of what is left of the mean.

    (x - m) / sqrt(var + eps) is sqrt(channels) times the L2 norm of x - m, but for eps.
    """
    _put(site, _l2)
    return Change("an L2 normalization of what is left of the mean", "approximate")


@rewrite(*_RULES, ops=_OPS)
def layer_norm_apart(site: Site[Draft]) -> Change:
    """Takes layer normalization apart: 1x1 convolutions for its means, products and one root."""
    _put(site, _root)
    return Change("1x1 convolutions, products and one RSQRT for layer normalization", "rounding")


def _put(site: Site[Draft], divided: Any) -> None:
    keras = require("keras", purpose="to rewrite models")
    calls = called(site.model, site.finding.layer, "LayerNormalization")
    if not calls:
        if site.finding.op in ("DIV", "RSQRT", "SQRT"):
            raise RefusedError(NO_ROOT)
        raise RefusedError("it is not part of a layer normalization")
    for one in calls:
        rank = len(one.shapes[0])
        if [axis % rank for axis in _axes(one.layer)] != [rank - 1] or not 2 <= rank <= 4:
            raise RefusedError(f"{one.label} does not normalize the channels of one map")
        if getattr(one.layer, "rms_scaling", False):
            raise RefusedError(f"{one.label} scales by the root mean square, without a mean")
    layers = {id(one.layer): one.layer for one in calls}
    forms = {key: _Norm(layer, divided) for key, layer in layers.items()}
    site.model.replace(forms, lambda layer: keras.layers.Identity(name=layer.name))


def _axes(layer: Any) -> list[int]:
    return list(layer.axis) if isinstance(layer.axis, (list, tuple)) else [layer.axis]


class _Norm:
    """What stands for one layer; its parts are made once, for a layer may be shared."""

    def __init__(self, layer: Any, divided: Any) -> None:
        layers = require("keras", purpose="to rewrite models").layers
        self._layer, self._divided = layer, divided
        self._less, self._mean = _averaging(layer, "mean", -1.0), _averaging(layer, "variance", 1.0)
        self._scaled = layers.DepthwiseConv2D(
            1, use_bias=layer.beta is not None, name=f"{layer.name}_scaled"
        )
        self._calls = 0

    def __call__(self, _: Any, x: Any, **__: Any) -> Any:
        keras = require("keras", purpose="to rewrite models")
        self._calls += 1
        name = self._layer.name + (f"_{self._calls}" if self._calls > 1 else "")
        shape = tuple(x.shape)
        if len(shape) == 4:
            flat = x
        else:
            places = (1, *shape[1:]) if len(shape) == 3 else (1, 1, shape[1])
            free = tuple(-1 if size is None else size for size in places)
            flat = keras.layers.Reshape(free, name=f"{name}_places")(x)
        centred = keras.layers.Add(name=f"{name}_centred")([flat, self._less(flat)])
        channels = int(shape[-1])
        unit, factor = self._divided(self, name, centred, channels)
        made = self._scaled(unit)
        self._set_weights(channels, factor)
        if flat is x:
            return made
        back = tuple(-1 if size is None else size for size in shape[1:])
        return keras.layers.Reshape(back, name=f"{name}_back")(made)

    def _set_weights(self, channels: int, factor: float) -> None:
        layer = self._layer
        for part, sign in ((self._less, -1), (self._mean, 1)):
            if part.built:
                kernel = np.full((1, 1, channels, 1), sign / channels, np.float32)
                epsilon = [np.array([layer.epsilon], np.float32)] if part.use_bias else []
                part.set_weights([kernel, *epsilon])
        gain = np.ones(channels) if layer.gamma is None else np.asarray(layer.gamma)
        offset = [] if layer.beta is None else [np.asarray(layer.beta)]
        self._scaled.set_weights([(gain * factor).reshape(1, 1, channels, 1), *offset])

    def variance(self, centred: Any, name: str) -> Any:
        """The mean of squares, and eps."""
        layers = require("keras", purpose="to rewrite models").layers
        return self._mean(layers.Multiply(name=f"{name}_square")([centred, centred]))


def _averaging(layer: Any, part: str, sign: float) -> Any:
    """A 1x1 convolution that adds up channels; weights are set where it is built."""
    layers = require("keras", purpose="to rewrite models").layers
    with_epsilon = sign > 0
    return layers.Conv2D(1, 1, use_bias=with_epsilon, trainable=False, name=f"{layer.name}_{part}")


def _root(norm: _Norm, name: str, centred: Any, _: int) -> tuple[Any, float]:
    keras = require("keras", purpose="to rewrite models")
    root = renamed(keras.ops.rsqrt(norm.variance(centred, name)), f"{name}_root")
    return keras.layers.Multiply(name=f"{name}_unit")([centred, root]), 1.0


def _l2(_: _Norm, name: str, centred: Any, channels: int) -> tuple[Any, float]:
    """In the words in which TensorFlow's converter knows L2_NORMALIZATION."""
    keras = require("keras", purpose="to rewrite models")
    ops = keras.ops
    square = renamed(ops.square(centred), f"{name}_square")
    total = renamed(ops.sum(square, axis=-1, keepdims=True), f"{name}_sum")
    root = renamed(ops.rsqrt(renamed(ops.maximum(total, _TINY), f"{name}_some")), f"{name}_root")
    unit = keras.layers.Multiply(name=f"{name}_unit")([centred, root])
    return unit, math.sqrt(channels)
