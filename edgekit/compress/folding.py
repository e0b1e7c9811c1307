"""Batch normalization folded into the layer before it, as at inference (Jacob et al. 2018, 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.base.extras import require
from edgekit.compress.rebuild import rebuild
from edgekit.models.calls import Call, CallGraph, call_graph

if TYPE_CHECKING:
    import keras

Values = NDArray[Any]

# The weight whose output channels the normalization scales, and the axis of these channels;
# None: the last two axes together, as of depthwise kernels.
_FOLDED: dict[str, tuple[str, int | None]] = {
    "Conv1D": ("kernel", -1),
    "Conv2D": ("kernel", -1),
    "Conv3D": ("kernel", -1),
    "Conv1DTranspose": ("kernel", -2),
    "Conv2DTranspose": ("kernel", -2),
    "Conv3DTranspose": ("kernel", -2),
    "DepthwiseConv1D": ("kernel", None),
    "DepthwiseConv2D": ("kernel", None),
    "SeparableConv1D": ("pointwise_kernel", -1),
    "SeparableConv2D": ("pointwise_kernel", -1),
    "Dense": ("kernel", -1),
}
BY_BATCH = "it is called with training=True and normalizes by each batch"


@dataclass(frozen=True)
class _Fold:
    layer: Any
    norm: Any
    label: str
    norm_label: str
    is_output: bool  # of the whole model, where Keras names outputs by their layers


def fold_batch_norm(
    model: keras.Model, *, skip: Container[str] = ()
) -> tuple[keras.Model, dict[str, Any]]:
    """Folds each BatchNormalization into the convolution or dense layer before it.

    The layer's kernel is scaled per output channel, and it gets a bias; zeros stay zeros. All
    other layers keep their names, classes and weights, nested models their places. A normalization
    whose result is an output of a model becomes an `Identity` of the same name, so that outputs
    keep theirs.

    Args:
        model: a functional or Sequential model; it is not changed.
        skip: labels (`outer/inner` within nested models) of layers whose kernels must stay.

    Returns:
        A model that computes the same in inference (the given one if there is nothing to fold),
        and a report: `layers` folded (`layer`, `kind`, `into`) and `untreated` (`layer`, `kind`,
        `reason`), JSON-able.
    """
    folds, untreated = _plan(call_graph(model), skip)
    report = {
        "layers": [
            {"layer": fold.norm_label, "kind": type(fold.norm).__name__, "into": fold.label}
            for fold in folds
        ],
        "untreated": untreated,
    }
    return (_folded(model, folds) if folds else model), report


def _plan(graph: CallGraph, skip: Container[str]) -> tuple[list[_Fold], list[dict[str, str]]]:
    producers, consumers, calls_of = graph.producers(), graph.consumers(), graph.calls_of()
    folds: list[_Fold] = []
    untreated: list[dict[str, str]] = []
    for calls in calls_of.values():
        call = calls[0]
        if not is_exactly(call.layer, "BatchNormalization"):
            continue
        before = [producers.get(one.inputs[0]) for one in calls]
        first = before[0]
        trained = any(one.training for one in calls)
        reason = BY_BATCH if trained else _reason(call, first)
        if reason is None and first is not None:
            same = all(one is not None and one.layer is first.layer for one in before)
            if not same or len(calls_of[id(first.layer)]) != len(calls):
                reason = f"it, or '{first.label}' before it, is shared with other places"
            elif any(len(consumers[one.inputs[0]]) > 1 for one in calls):
                reason = f"the output of '{first.label}' before it is used elsewhere too"
            elif call.label in skip:
                reason = "skipped as asked"
            elif first.label in skip:
                reason = f"'{first.label}' before it is to keep its weights"
            else:
                last = None in consumers[call.outputs[0]] and "/" not in call.label
                folds.append(_Fold(first.layer, call.layer, first.label, call.label, last))
        if reason is not None:
            untreated.append({"layer": call.label, "kind": call.kind, "reason": reason})
    return folds, untreated


def _reason(call: Call, before: Call | None) -> str | None:
    """Why a normalization cannot be folded into what comes before it, or None if it can."""
    if before is None:
        return "it follows an input of the model"
    kind = next((kind for kind in _FOLDED if is_exactly(before.layer, kind)), None)
    if kind is None:
        return f"it follows '{before.label}' ({before.kind}), which has no kernel to scale"
    keras = require("keras", purpose="to compress models")
    activation = keras.activations.serialize(before.layer.activation)
    if activation != "linear":
        return f"'{before.label}' before it ends in the activation {activation}"
    kernel = getattr(before.layer, _FOLDED[kind][0])
    if not isinstance(kernel, keras.Variable) or not str(kernel.dtype).startswith("float"):
        return f"the kernel of '{before.label}' before it is quantized, or computed, not stored"
    rank = call.layer.input_spec.ndim
    channels = 1 if getattr(before.layer, "data_format", None) == "channels_first" else rank - 1
    if call.layer.axis % rank != channels:
        return f"it normalizes axis {call.layer.axis}, not the channels of '{before.label}'"
    return None


def _folded(model: keras.Model, folds: list[_Fold]) -> keras.Model:
    by_layer = {id(fold.layer): fold for fold in folds}

    def fill(old: Any, new: Any) -> None:
        for name, values in folded_weights(old, by_layer[id(old)].norm).items():
            getattr(new, name).assign(values)

    calls = {id(fold.norm): _named if fold.is_output else dropped for fold in folds}
    return rebuild_folded(model, calls, by_layer, fill)


def rebuild_folded(
    model: keras.Model,
    norms: Mapping[int, Callable[..., Any]],
    takers: Collection[int],
    fill: Callable[[Any, Any], None],
) -> keras.Model:
    """A copy without some normalizations, which other layers take into their weights.

    Args:
        model: the model.
        norms: what stands in for the calls of each normalization, by its id.
        takers: ids of the layers that take them; they get a bias.
        fill: writes the weights of a taker's copy, given both.
    """
    keras = require("keras", purpose="to compress models")

    def make(layer: Any) -> Any:
        if id(layer) in norms:
            return keras.layers.Identity(name=layer.name, dtype=layer.dtype_policy)
        config = layer.get_config()
        if id(layer) in takers:
            config["use_bias"] = True
        return layer.__class__.from_config(config)

    copy, pairs = rebuild(model, make, norms)
    for old, new in pairs:
        if id(old) in takers:
            fill(old, new)
        elif id(old) not in norms:
            new.set_weights(old.get_weights())
    return copy


def dropped(layer: Any, x: Any, **kwargs: Any) -> Any:  # noqa: ARG001
    """Stands for the call of a layer that is no more."""
    return x


def _named(identity: Any, x: Any, **kwargs: Any) -> Any:  # noqa: ARG001
    return identity(x)


def folded_weights(layer: Any, norm: Any) -> dict[str, Values]:
    """Kernels and bias, by name, of a layer with a normalization after it folded in; float32."""
    kind = next(kind for kind in _FOLDED if is_exactly(layer, kind))
    name, axis = _FOLDED[kind]
    kernel = getattr(layer, name).numpy().astype(np.float64)
    factor, offset = factor_and_offset(norm)
    bias = layer.bias.numpy() if layer.bias is not None else 0.0
    if axis is None:
        shape = kernel.shape[-2:]
    else:
        shape = tuple(-1 if a == axis % kernel.ndim else 1 for a in range(kernel.ndim))
    first = (
        {"depthwise_kernel": layer.depthwise_kernel.numpy()} if kind.startswith("Separable") else {}
    )
    return {
        **first,
        name: (kernel * np.reshape(factor, shape)).astype(np.float32),
        "bias": (offset + bias * factor).astype(np.float32),
    }


def factor_and_offset(norm: Any) -> tuple[Values, Values]:
    """The a and b of y = a x + b, as a normalization computes it in inference; float64."""
    mean = norm.moving_mean.numpy().astype(np.float64)
    variance = norm.moving_variance.numpy().astype(np.float64)
    scale = norm.gamma.numpy() if norm.scale else 1.0
    factor = scale / np.sqrt(variance + norm.epsilon)
    return factor, (norm.beta.numpy() if norm.center else 0.0) - mean * factor


def is_exactly(layer: Any, kind: str) -> bool:
    """Whether a layer is of a class of `keras.layers`, and of no subclass."""
    # A subclass may compute something else.
    return type(layer) is getattr(require("keras", purpose="to compress models").layers, kind)
