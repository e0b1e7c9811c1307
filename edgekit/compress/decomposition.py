"""Layers that compute several steps in one, as layers and operations of one step each.

Passes that look at what a graph computes see into them so. What a decomposed model computes is
what the model computed, and its weights are the same, reshaped; a factor may move into a kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from itertools import chain, count
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.base.extras import require
from edgekit.compress.kernels import Untreated
from edgekit.compress.rebuild import rebuild
from edgekit.models.calls import Call, call_graph, nested_model

if TYPE_CHECKING:
    import keras

_MASKED = "it is called with a mask, and the large negative numbers of masks have no int8 range"


class _Parts:
    """The layers that one layer becomes; the last one has its name, the others begin with it."""

    def __init__(self, layer: Any, taken: set[str]) -> None:
        self.keras = require("keras", purpose="to compress models")
        self.layer = layer
        self.made: list[tuple[Any, list[Any]]] = []
        self._taken = taken
        self._known: dict[str, Any] = {}
        self._call: Callable[..., Any] | None = None

    def add(self, kind: str, suffix: str, weights: list[Any], **config: Any) -> Any:
        """A new layer; it gets the weights when the model is built, Nones left out.

        Where the layer is called at several places, a part with the same arguments is shared.
        """
        key = repr((kind, suffix, sorted(config.items(), key=lambda item: item[0])))
        if key not in self._known:
            name, made = self._name(suffix), getattr(self.keras.layers, kind)
            self._known[key] = part = made(name=name, dtype=self.layer.dtype_policy, **config)
            part.trainable = self.layer.trainable
            self.made.append((part, [np.asarray(one) for one in weights if one is not None]))
        return self._known[key]

    def named(self, tensor: Any, suffix: str) -> Any:
        """The result of an operation, which gets a name."""
        tensor._keras_history.operation.name = self._name(suffix)
        return tensor

    def _name(self, suffix: str) -> str:
        first = f"{self.layer.name}{suffix}"
        free = (
            n for n in chain([first], (f"{first}_{i}" for i in count(2))) if n not in self._taken
        )
        name = next(free)
        self._taken.add(name)
        return name

    def channelwise(self, scale: Any, offset: Any, rank: int) -> Callable[[Any], Any]:
        """Multiplies each channel by one number, as a depthwise convolution of size 1.

        An int8 network has no step to round a channel's only weight to but the largest.
        """
        image = rank == 4
        weight = np.reshape(scale, (1,) * (2 if image else 1) + (-1, 1))
        depthwise = self.add(
            "DepthwiseConv2D" if image else "DepthwiseConv1D",
            "" if rank > 2 else "_scale",
            [weight, offset],
            kernel_size=1,
            use_bias=offset is not None,
        )
        if rank > 2:
            return lambda x: depthwise(x)
        channels = np.size(scale)
        into = self.add("Reshape", "_one", [], target_shape=(1, channels))
        back = self.add("Reshape", "", [], target_shape=(channels,))
        return lambda x: back(depthwise(into(x)))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._call is None:
            self._call = _RULES[type(self.layer).__name__][1](self)
        return self._call(*args, **kwargs)


def decompose(
    model: keras.Model, *, skip: Container[str] = (), norms: bool = False
) -> tuple[keras.Model, dict[str, str], list[Untreated]]:
    """Takes separable, attention, einsum, normalizing and time-distributed layers apart.

    Args:
        model: a functional or Sequential model; it is not changed.
        skip: labels (`outer/inner` within nested models) of layers that must stay.
        norms: take batch normalizations apart too, as they are at inference: those that no layer
            before them can take in.

    Returns:
        The model (the given one if nothing was taken apart), the label of the layer that each new
        layer came from, by the new label, and the layers that could not be taken apart.
    """
    graph = call_graph(model)
    taken = {call.layer.name for call in graph.calls}
    parts: dict[int, tuple[str, _Parts]] = {}
    untreated: list[Untreated] = []
    for calls in graph.calls_of().values():
        label, layer = calls[0].label, calls[0].layer
        kind = _kind(layer)
        if kind is None or label in skip or (kind == "BatchNormalization") != norms:
            continue
        reason = next((why for call in calls if (why := _reason(kind, call))), None)
        if reason:
            untreated.append(Untreated(label, kind, reason))
        else:
            parts[id(layer)] = (label, _Parts(layer, taken))
    if not parts:
        return model, {}, untreated
    taken -= {one.layer.name for _, one in parts.values()}

    def make(layer: Any) -> Any:
        if id(layer) in parts:
            return parts[id(layer)][1]
        return layer.__class__.from_config(layer.get_config())

    copy, pairs = rebuild(model, make)
    origins = {}
    for old, new in pairs:
        if not isinstance(new, _Parts):
            new.set_weights(old.get_weights())
            continue
        label = parts[id(old)][0]
        folder = label.removesuffix(old.name)
        for part, weights in new.made:
            part.set_weights(weights)
            origins[f"{folder}{part.name}"] = label
    return copy, origins, untreated


def may_be_taken_apart(model: keras.Model) -> set[str]:
    """The labels of the layers that `decompose` knows."""
    return {call.label for call in call_graph(model).calls if _kind(call.layer)}


def _kind(layer: Any) -> str | None:
    layers = require("keras", purpose="to compress models").layers
    return next((kind for kind in _RULES if type(layer) is getattr(layers, kind, None)), None)


def _reason(kind: str, call: Call) -> str | None:
    """Why a call cannot be taken apart, or None if it can."""
    given = call._arguments.kwargs
    masked = any(getattr(t, "_keras_mask", None) is not None for t in call._arguments.keras_tensors)
    if masked or any("mask" in name and given[name] not in (None, False) for name in given):
        return _MASKED
    check = _RULES[kind][0]
    return check(call.layer, call)


def _no_reason(layer: Any, call: Call) -> str | None:  # noqa: ARG001
    return None


def _separable(parts: _Parts) -> Callable[..., Any]:
    layer = parts.layer
    shared = {"padding": layer.padding, "data_format": layer.data_format}
    rank = layer.rank
    depthwise = parts.add(
        f"DepthwiseConv{rank}D",
        "_depthwise",
        [layer.depthwise_kernel],
        kernel_size=layer.kernel_size,
        strides=layer.strides,
        dilation_rate=layer.dilation_rate,
        depth_multiplier=layer.depth_multiplier,
        use_bias=False,
        **shared,
    )
    pointwise = parts.add(
        f"Conv{rank}D",
        "",
        [layer.pointwise_kernel, layer.bias],
        filters=layer.filters,
        kernel_size=1,
        use_bias=layer.use_bias,
        activation=layer.activation,
        **shared,
    )
    return lambda x, **_: pointwise(depthwise(x))


def _einsum_reason(layer: Any, call: Call) -> str | None:  # noqa: ARG001
    if _einsum_split(layer) is None:
        return f"its equation {layer.equation} is not that of a dense layer on the last axes"
    whole = layer.bias is None or layer.bias.ndim >= len(_einsum_split(layer)[1])  # type: ignore[index]
    return None if whole else "its bias is not one number for each output"


def _einsum_split(layer: Any) -> tuple[int, tuple[int, ...]] | None:
    """How many last axes of the input are multiplied away, and the sizes of those in their place.

    None for another kind of equation.
    """
    left, _, result = layer.equation.replace("...", "").partition("->")
    given, letters = left.split(",")
    summed = "".join(letter for letter in letters if letter not in result)
    new = "".join(letter for letter in letters if letter in result)
    kept = given.removesuffix(summed)
    fits = given.endswith(summed) and letters == summed + new and result == kept + new
    if not fits or set(new) & set(given) or not summed or not new:
        return None
    return len(summed), tuple(layer.kernel.shape[len(summed) :])


def _projection(parts: _Parts, layer: Any, suffix: str, factor: float = 1.0) -> Callable[..., Any]:
    """An `EinsumDense` as a `Dense` between changes of shape.

    A bias with numbers for each position too, as learnt positions are, is added as a constant, on
    the int8 grid that the converter puts it on.
    """
    summed, new = _einsum_split(layer) or (1, ())
    kernel = np.asarray(layer.kernel)
    size = int(np.prod(kernel.shape[:summed]))
    bias = None if layer.bias is None else np.asarray(layer.bias) * np.float32(factor)
    spread = bias is not None and bias.ndim > len(new)
    one = len(new) == 1 and not spread
    dense = parts.add(
        "Dense",
        suffix if one else f"{suffix}_dense",
        [kernel.reshape(size, -1) * np.float32(factor),
         None if bias is None or spread else bias.reshape(-1)],
        units=int(np.prod(new)),
        use_bias=bias is not None and not spread,
        activation=None if spread else layer.activation,
    )  # fmt: skip

    def call(x: Any, **_: Any) -> Any:
        kept = tuple(x.shape[1 : x.ndim - summed])
        if kept.count(None) > 1:
            kept = ()
        free = tuple(-1 if axis is None else axis for axis in kept)
        if summed > 1:
            x = parts.add("Reshape", f"{suffix}_flat", [], target_shape=(*free, size))(x)
        x = dense(x)
        if len(new) > 1:
            name = f"{suffix}_shape" if spread else suffix
            x = parts.add("Reshape", name, [], target_shape=(*free, *new))(x)
        if not spread:
            return x
        linear = layer.activation is parts.keras.activations.linear
        x = parts.named(
            parts.keras.ops.add(x, _on_grid(bias)), suffix if linear else f"{suffix}_bias"
        )
        if linear:
            return x
        return parts.add("Activation", suffix, [], activation=layer.activation)(x)

    return call


def _on_grid(value: Any) -> Any:
    """Numbers on the 256 steps between their extremes and zero, where the converter rounds them."""
    low, high = min(float(value.min()), 0.0), max(float(value.max()), 0.0)
    step = (high - low) / 255 or 1.0
    zero = round(-low / step)
    return ((np.clip(np.round(value / step) + zero, 0, 255) - zero) * step).astype(np.float32)


def _attention_reason(layer: Any, call: Call) -> str | None:
    if any(len(shape) != 3 for shape in call.shapes):
        return "its inputs have more axes than one of positions"
    if layer._sliding_window:
        return _MASKED
    if layer._use_gate:
        return "it is gated"
    if any(shape[1] is None for shape in call.shapes):
        return "the number of its positions is not fixed"
    return None


def _attention(parts: _Parts) -> Callable[..., Any]:
    layer, ops = parts.layer, parts.keras.ops
    query = _projection(parts, layer.query_dense, "_query", layer._inverse_sqrt_key_dim)
    key = _projection(parts, layer.key_dense, "_key")
    value = _projection(parts, layer.value_dense, "_value")
    output = _projection(parts, layer.output_dense, "")
    softmax = parts.add("Softmax", "_softmax", [])
    dropout = parts.add("Dropout", "_dropout", [], rate=layer.dropout) if layer.dropout else None

    def turned(x: Any, suffix: str, dims: tuple[int, int, int]) -> Any:
        return parts.add("Permute", f"{suffix}_heads", [], dims=dims)(x)

    def call(
        of: Any, over: Any, by: Any = None, return_attention_scores: bool = False, **kwargs: Any
    ) -> Any:
        of, over = kwargs.get("query", of), kwargs.get("value", over)
        by = kwargs.get("key", by)
        q = turned(query(of), "_query", (2, 1, 3))
        k = turned(key(over if by is None else by), "_key", (2, 3, 1))
        v = turned(value(over), "_value", (2, 1, 3))
        scores = softmax(parts.named(ops.matmul(q, k), "_scores"))
        used = dropout(scores, training=kwargs.get("training")) if dropout else scores
        result = parts.named(ops.matmul(used, v), "_mix")
        result = output(turned(result, "_mix", (2, 1, 3)))
        return (result, scores) if return_attention_scores else result

    return call


def _last_axis_reason(layer: Any, call: Call) -> str | None:
    rank = len(call.shapes[0])
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    if [axis % rank for axis in axes] != [rank - 1]:
        return "it does not normalize the last axis alone"
    if not 2 <= rank <= 4 or call.shapes[0][-1] is None:
        return f"its input has {rank} axes, of which the last must be known"
    return "it normalizes by each batch" if call.training else None


def _layer_norm_reason(layer: Any, call: Call) -> str | None:
    if layer.rms_scaling:
        return "it scales by the variance alone"
    return _last_axis_reason(layer, call)


def _layer_norm(parts: _Parts) -> Callable[..., Any]:
    layer, ops = parts.layer, parts.keras.ops

    def call(x: Any, **_: Any) -> Any:
        mean = parts.named(ops.mean(x, axis=-1, keepdims=True), "_mean")
        centred = parts.named(ops.subtract(x, mean), "_centred")
        squares = parts.named(ops.multiply(centred, centred), "_squares")
        variance = parts.named(ops.mean(squares, axis=-1, keepdims=True), "_variance")
        some = parts.named(ops.add(variance, layer.epsilon), "_epsilon")
        factor = parts.named(ops.rsqrt(some), "_rsqrt")
        normal = parts.named(ops.multiply(centred, factor), "_normal")
        gamma = np.ones(x.shape[-1], np.float32) if layer.gamma is None else layer.gamma
        return parts.channelwise(gamma, layer.beta, x.ndim)(normal)

    return call


def _batch_norm(parts: _Parts) -> Callable[..., Any]:
    layer = parts.layer
    gamma = np.asarray(layer.gamma) if layer.scale else 1.0
    beta = np.asarray(layer.beta) if layer.center else 0.0
    variance = np.asarray(layer.moving_variance, np.float64)
    scale = gamma / np.sqrt(variance + layer.epsilon)
    offset = beta - np.asarray(layer.moving_mean) * scale
    return lambda x, **_: parts.channelwise(scale, offset, x.ndim)(x)


def _time_reason(layer: Any, call: Call) -> str | None:
    layers = require("keras", purpose="to compress models").layers
    if type(layer.layer) is layers.Dense:
        return None
    if nested_model(layer.layer) is not None or isinstance(layer.layer, layers.RNN):
        return "what it repeats is no single layer"
    shape = call.shapes[0]
    return "the number of its steps is not fixed" if None in shape[1:] else None


def _time(parts: _Parts) -> Callable[..., Any]:
    ops, inner = parts.keras.ops, parts.layer.layer
    config = {k: v for k, v in inner.get_config().items() if k not in ("name", "dtype")}
    dense = type(inner) is parts.keras.layers.Dense
    each = parts.add(type(inner).__name__, "" if dense else "_each", inner.get_weights(), **config)

    def call(x: Any, training: Any = None, **_: Any) -> Any:  # noqa: ARG001
        if dense:
            return each(x)
        flat = each(parts.named(ops.reshape(x, (-1, *x.shape[2:])), "_steps"))
        return parts.named(ops.reshape(flat, (-1, x.shape[1], *flat.shape[1:])), "")

    return call


# By layer class: why a call cannot be taken apart, and what it becomes.
_Reason = Callable[[Any, Call], str | None]
_RULES: dict[str, tuple[_Reason, Callable[[_Parts], Callable[..., Any]]]] = {
    "SeparableConv1D": (_no_reason, _separable),
    "SeparableConv2D": (_no_reason, _separable),
    "EinsumDense": (_einsum_reason, lambda parts: _projection(parts, parts.layer, "")),
    "MultiHeadAttention": (_attention_reason, _attention),
    "LayerNormalization": (_layer_norm_reason, _layer_norm),
    "BatchNormalization": (_last_axis_reason, _batch_norm),
    "TimeDistributed": (_time_reason, _time),
}
