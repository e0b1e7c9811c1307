"""The kernels of a model: the weights that multiply activations, and that pruning may remove."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.base.extras import require

if TYPE_CHECKING:
    import keras

# Public layer classes and the attributes that hold their kernels.
_KERNELS: dict[str, tuple[str, ...]] = {
    "Conv1D": ("kernel",),
    "Conv2D": ("kernel",),
    "Conv3D": ("kernel",),
    "Conv1DTranspose": ("kernel",),
    "Conv2DTranspose": ("kernel",),
    "Conv3DTranspose": ("kernel",),
    "DepthwiseConv1D": ("kernel",),
    "DepthwiseConv2D": ("kernel",),
    "SeparableConv1D": ("depthwise_kernel", "pointwise_kernel"),
    "SeparableConv2D": ("depthwise_kernel", "pointwise_kernel"),
    "Dense": ("kernel",),
    "EinsumDense": ("kernel",),
    "SimpleRNNCell": ("kernel", "recurrent_kernel"),
    "GRUCell": ("kernel", "recurrent_kernel"),
    "LSTMCell": ("kernel", "recurrent_kernel"),
}
_WHY_NOT = {
    "Embedding": "its rows are looked up, not multiplied",
    "BatchNormalization": "its weights scale channels",
}


@dataclass(frozen=True)
class Axes:
    """What the axes of a kernel are.

    Attributes:
        channels: its output channels.
        inputs: the inputs that are multiplied with it and summed up, the last axis if there are
            several; None where each channel has one input only.
    """

    channels: tuple[int, ...] = (-1,)
    inputs: int | None = -2


_CUSTOM: dict[type, dict[str, Axes]] = {}


def register_kernels(layer: type, kernels: Mapping[str, Axes]) -> None:
    """Lets layers of a custom class take part in pruning, clustering and training as quantized.

    Args:
        layer: the class, whose `call` takes one tensor; its subclasses need a rule of their own.
        kernels: the attributes that hold its kernels, and their axes.

    Example:
        >>> register_kernels(GatedDense, {"kernel": Axes(), "gate": Axes()})
    """
    from edgekit.models.fakequant import quantize_kernels

    channels = {name: axes.channels for name, axes in kernels.items()}
    for kind in (layer, quantize_kernels(layer, channels, layer.__module__)):
        _CUSTOM[kind] = dict(kernels)


@dataclass(frozen=True)
class Kernel:
    """One kernel.

    Attributes:
        layer: name of its layer; `outer/inner` for a layer within another one.
        name: of the attribute, `kernel` for most layers.
        kind: class of the layer.
        variable: the Keras variable.
        channels: as in `Axes`.
        inputs: as in `Axes`.
    """

    layer: str
    name: str
    kind: str
    variable: Any
    channels: tuple[int, ...] = (-1,)
    inputs: int | None = -2

    @property
    def values(self) -> NDArray[Any]:
        """A copy of the weights."""
        values: NDArray[Any] = self.variable.numpy().copy()
        return values

    @property
    def size(self) -> int:
        """How many weights."""
        return int(np.prod(self.variable.shape))


@dataclass(frozen=True)
class Untreated:
    """A layer whose weights cannot be pruned, and why."""

    layer: str
    kind: str
    reason: str


def find_kernels(model: keras.Model) -> tuple[list[Kernel], list[Untreated]]:
    """All kernels of a functional, Sequential or nested model, each shared layer once.

    Layers without weights, and those with vectors only (normalization, biases), are left out.

    Returns:
        The kernels, and the other layers that have matrices of weights, with the reason.
    """
    kernels: list[Kernel] = []
    untreated: list[Untreated] = []
    for label, layer in _layers(model, "", set()):
        own = _own_weights(layer)
        if not any(len(weight.shape) >= 2 for weight in own):
            continue
        kind = type(layer).__name__
        reason = _reason(layer)
        if reason is None:
            for name in _names(layer):
                axes = _CUSTOM.get(type(layer), {}).get(name) or Axes(*_axes(layer, name))
                variable = getattr(layer, name)
                kernels.append(Kernel(label, name, kind, variable, axes.channels, axes.inputs))
        else:
            untreated.append(Untreated(label, kind, reason))
    return kernels, untreated


def _layers(parent: Any, prefix: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    # Keras has no public way to the layers within attention, recurrent and wrapping layers.
    for layer in parent._flatten_layers(include_self=False, recursive=False):
        if id(layer) not in seen:
            seen.add(id(layer))
            yield f"{prefix}{layer.name}", layer
            yield from _layers(layer, f"{prefix}{layer.name}/", seen)


def _own_weights(layer: Any) -> list[Any]:
    within = {
        id(weight)
        for inner in layer._flatten_layers(include_self=False)
        for weight in inner.weights
    }
    return [weight for weight in layer.weights if id(weight) not in within]


def _reason(layer: Any) -> str | None:
    """Why the layer cannot be pruned, or None if it can."""
    keras = require("keras", purpose="to compress models")
    names = _names(layer)
    if not names:
        known = next((why for kind, why in _WHY_NOT.items() if _is_a(layer, kind)), None)
        return known or "it is not known which of its weights are kernels"
    if not layer.trainable:
        return "it is frozen (trainable is false)"
    for name in names:
        variable = getattr(layer, name, None)
        if not isinstance(variable, keras.Variable):
            return f"its {name} is computed, not stored"
        if not str(variable.dtype).startswith(("float", "bfloat")):
            return f"its {name} is {variable.dtype}"
    return None


def _names(layer: Any) -> tuple[str, ...]:
    """The attributes that hold kernels; empty where that is not known."""
    if type(layer) in _CUSTOM:
        return tuple(_CUSTOM[type(layer)])
    return next((names for kind, names in _KERNELS.items() if _is_a(layer, kind)), ())


def _axes(layer: Any, name: str) -> tuple[tuple[int, ...], int | None]:
    """The axes of output channels, and of inputs, of one kernel."""
    if _is_a(layer, "EinsumDense"):
        left, _, result = layer.equation.replace("...", "").partition("->")
        letters = left.split(",")[1]
        channels = tuple(axis for axis, letter in enumerate(letters) if letter in result)
        summed = [axis for axis in range(len(letters)) if axis not in channels]
        return channels, summed[-1] if summed else None
    depthwise = _is_a(layer, "DepthwiseConv1D") or _is_a(layer, "DepthwiseConv2D")
    if depthwise or name == "depthwise_kernel":
        return (-2, -1), None
    if any(_is_a(layer, f"Conv{rank}DTranspose") for rank in (1, 2, 3)):
        return (-2,), -1
    return (-1,), -2


def _is_a(layer: Any, kind: str) -> bool:
    layers = require("keras", purpose="to compress models").layers
    return isinstance(layer, getattr(layers, kind))
