"""Layers that compute in float what an int8 network computes (Jacob et al. 2018, section 3).

A model with these layers is an ordinary Keras model: it trains, saves and loads. TensorFlow's
converter takes the ranges from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Literal

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from edgekit.models.fake_rounding import fake_quant, learnt_fake_quant

PACKAGE = "edgekit"
Ranges = Literal["moving", "learnt", "fixed"]

# The weights of a layer class that multiply activations, each with the axes of its output
# channels, which have a scale each.
KERNELS: dict[str, dict[str, tuple[int, ...]]] = {
    "Conv1D": {"kernel": (-1,)},
    "Conv2D": {"kernel": (-1,)},
    "Conv1DTranspose": {"kernel": (-2,)},
    "Conv2DTranspose": {"kernel": (-2,)},
    "DepthwiseConv1D": {"kernel": (-2, -1)},
    "DepthwiseConv2D": {"kernel": (-2, -1)},
    "Dense": {"kernel": (-1,)},
}
# Ranges that int8 networks give to functions with bounded results.
FIXED_RANGES = {
    "softmax": (0.0, 255 / 256),
    "sigmoid": (0.0, 255 / 256),
    "tanh": (-1.0, 127 / 128),
}
_DEAD = 1e-6
_SMALLEST = 1e-8
_VANISHED = 1e-12
_MOST_SHRUNK = 0.05


@keras.saving.register_keras_serializable(PACKAGE)
class FakeQuant(keras.layers.Layer):  # type: ignore[misc]
    """Rounds activations to the steps of one affine range that contains zero.

    It may be called at several places that share a scale, such as the inputs of a concatenation;
    the range covers what is seen at all of them.

    Args:
        bits: of the integers.
        slots: the places that the range is observed at.
        ranges: "moving": averages of each training batch's minimum and maximum; "learnt": by
            gradient (Esser et al. 2020); "fixed": they stay, and training is not quantized here.
        momentum: of the moving averages.
        reciprocal: the range is widened until its step is one over an odd number, for values that
            come from the steps of `FIXED_RANGES`. XNNPACK multiplies them by the ratio of the
            steps in 1/256, which is exact then; odd, because halves round differently elsewhere.
    """

    def __init__(
        self,
        bits: int = 8,
        slots: int = 1,
        ranges: Ranges = "moving",
        momentum: float = 0.99,
        reciprocal: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bits, self.slots, self.ranges, self.momentum = bits, slots, ranges, momentum
        self.reciprocal = reciprocal
        self.observing = False
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:  # noqa: ARG002
        """Makes the ranges: a low and a high end for each slot."""
        many = (self.slots,)
        self.low = self.add_weight(name="low", shape=many, initializer="zeros", trainable=False)
        self.high = self.add_weight(name="high", shape=many, initializer="zeros", trainable=False)
        self.stretch = None
        if self.ranges == "learnt":
            self.stretch = self.add_weight(name="stretch", shape=(2,), initializer="ones")

    def limits(self) -> tuple[Any, Any]:
        """The ends of the range."""
        low, high = ops.min(self.low.value), ops.max(self.high.value)
        if self.stretch is not None:
            stretch = ops.maximum(self.stretch.value, _MOST_SHRUNK)
            low, high = low * stretch[0], high * stretch[1]
        # What is always zero has no range; a tiny one would overflow the biases after it.
        high = ops.where(high - low < _DEAD, low + 1.0, high)
        if self.reciprocal:
            wanted = (2**self.bits - 1) / ops.stop_gradient(high - low)
            odd = 2 * ops.floor((wanted - 1) / 2) + 1
            wider = ops.where(odd >= 1, wanted / ops.maximum(odd, 1), 1.0)
            low, high = low * wider, high * wider
        return low, high

    def call(self, x: Any, slot: int | None = 0, training: bool = False) -> Any:
        """Rounds `x`; `slot` is None where the range is used and not observed."""
        if self.observing:
            if slot is not None and self.ranges != "fixed":
                self._follow(x, slot, None)
            return x
        if training and self.ranges == "fixed":
            return x
        if training and self.ranges == "moving" and slot is not None:
            self._follow(x, slot, self.momentum)
        quantize = learnt_fake_quant if training and self.ranges == "learnt" else fake_quant
        return quantize(x, *self.limits(), self.bits)

    def _follow(self, x: Any, slot: int, momentum: float | None) -> None:
        """Moves the range towards that of `x`, or makes it contain `x` (momentum None)."""
        here = np.arange(self.slots) == slot
        for ends, end in ((self.low, ops.minimum(ops.min(x), 0.0)), (self.high, ops.max(x))):
            seen = ops.maximum(end, 0.0) if ends is self.high else end
            if momentum is not None:
                new = momentum * ends.value + (1 - momentum) * seen
            elif ends is self.low:
                new = ops.minimum(ends.value, seen)
            else:
                new = ops.maximum(ends.value, seen)
            ends.assign(ops.where(here, new, ends.value))

    def get_config(self) -> dict[str, Any]:
        """See Keras."""
        names = ("bits", "slots", "ranges", "momentum", "reciprocal")
        own = {name: getattr(self, name) for name in names}
        return {**super().get_config(), **own}

    def compute_output_shape(self, shape: Any, **_: Any) -> Any:
        """The shape of its input."""
        return shape


class Quantized:
    """What the quantized form of a layer class adds to it: kernels rounded at each call.

    With `norm`, the configuration of a batch normalization, it computes what that makes of its
    result. The kernel is rounded with the normalization folded in by its moving statistics; in
    training the result is normalized by the batch's (Krishnamoorthi 2018, section 3.2.2).

    With `dense_one_scale`, kernels of two axes have one scale for all weights, not one a channel:
    int8 files multiply them in dense layers, for which some targets take no more.
    """

    rules: ClassVar[dict[str, tuple[int, ...]]]

    def __init__(
        self,
        *args: Any,
        weight_bits: int = 8,
        learnt: bool = False,
        norm: dict[str, Any] | None = None,
        shared: Iterable[str] = (),
        dense_one_scale: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.shared, self.dense_one_scale = tuple(shared), dense_one_scale
        self.ratios = keras.layers.Layer(name="ratios")
        self.weight_bits, self.learnt = weight_bits, learnt
        self.norm: Any = None
        if norm is not None:
            self.norm = keras.layers.BatchNormalization.from_config(norm)
        self.baked = False
        # A layer of their own, because a layer class reads and writes exactly its own weights.
        self.clips = keras.layers.Layer(name="clips") if learnt else None

    def build(self, input_shape: Any) -> None:
        """See Keras."""
        super().build(input_shape)  # type: ignore[misc]
        if self.clips is not None and not self.clips.built:
            for name in self.rules:
                self.clips.add_weight(name=name, shape=self._channels(name), initializer="ones")
            self.clips.built = True
        self._build_ratios()
        if self.norm is not None and not self.norm.built:
            self.norm.build(self.compute_output_shape(input_shape))  # type: ignore[attr-defined]

    def _channels(self, name: str) -> tuple[int]:
        shape = getattr(self, name).shape
        return (int(np.prod([shape[axis] for axis in self.rules[name]])),)

    def runs(self, name: str) -> tuple[int, ...]:
        """How many output channels of a kernel, one run behind the other, have one scale."""
        (channels,) = self._channels(name)
        alike = self.dense_one_scale and len(getattr(self, name).shape) == 2
        return (channels,) if alike else (1,) * channels

    def _by_run(self, name: str, values: Any, combine: Callable[..., Any]) -> Any:
        """A number for each output channel, made one for each run of them."""
        runs = self.runs(name)
        if max(runs) == 1:
            return values
        parts = zip(np.cumsum(runs), runs, strict=True)
        return ops.concatenate(
            [ops.repeat(combine(values[end - size : end]), size) for end, size in parts]
        )

    def _build_ratios(self) -> None:
        if self.shared and not self.ratios.built:
            for name in self.shared:
                self.ratios.add_weight(
                    name=name, shape=self._channels(name), initializer="ones", trainable=False
                )
            self.ratios.built = True

    def share(self, names: Iterable[str]) -> None:
        """Gives kernels of a built layer one grid each; once."""
        self.shared = tuple(names)
        self._build_ratios()

    def ratio(self, name: str) -> Any:
        """What the channels of a kernel in `shared` are scaled with, a signed number each."""
        if self.norm is not None:
            return ops.reshape(self._factor(), (-1,))
        return self.ratios.weights[self.shared.index(name)].value

    def folded(self, factor: Any = None) -> dict[str, Any]:
        """The one kernel, by its name, and the bias with the normalization folded in.

        Args:
            factor: what the normalization multiplies each channel with; by default what it does.
        """
        (name, axes), *_ = self.rules.items()
        kernel = ops.convert_to_tensor(getattr(self, name))
        factor = self._factor() if factor is None else factor
        shape = tuple(kernel.shape[-2:]) if axes == (-2, -1) else (-1, *(1,) * (-1 - axes[0]))
        bias = (self.bias - self.norm.moving_mean) * factor  # type: ignore[attr-defined]
        beta = self.norm.beta if self.norm.center else 0.0
        return {name: kernel * ops.reshape(factor, shape), "bias": bias + beta}

    def _factor(self) -> Any:
        scale = ops.rsqrt(self.norm.moving_variance + self.norm.epsilon)
        return scale * self.norm.gamma if self.norm.scale else scale

    def _flat(self, name: str) -> tuple[Any, Any]:
        """The kernel with the normalization folded in; and with all its channels last."""
        kernel, axes = ops.convert_to_tensor(getattr(self, name)), self.rules[name]
        if self.norm is not None:
            kernel = self.folded()[name]
        flat = ops.reshape(kernel, (-1, kernel.shape[-1]))
        if axes == (-2, -1):
            flat = ops.reshape(kernel, (-1, kernel.shape[-2] * kernel.shape[-1]))
        elif axes == (-2,):
            flat = ops.reshape(ops.swapaxes(kernel, -1, -2), (-1, kernel.shape[-2]))
        return kernel, flat

    def largest(self, name: str) -> Any:
        """The magnitude that is 127 steps, for each output channel."""
        high = self._by_run(name, ops.max(ops.abs(self._flat(name)[1]), axis=0), ops.max)
        clip = None
        if self.clips is not None:
            # At most the largest weight, so that one weight has the last step: converters find
            # the scale by it.
            clip = ops.clip(self.clips.weights[list(self.rules).index(name)], _MOST_SHRUNK, 1.0)
            clip = self._by_run(name, clip, ops.mean)
        if name in self.shared:
            ratio = ops.abs(self.ratio(name))
            used = ratio > _VANISHED
            high = ops.max(ops.where(used, high / ops.where(used, ratio, 1.0), 0.0)) * ratio
            clip = None if clip is None else ops.mean(clip)
        high = ops.maximum(high, _SMALLEST)
        return high if clip is None else ops.stop_gradient(high) * clip

    def quantized_kernel(self, name: str, *, training: bool = False) -> Any:
        """The kernel rounded to the integers of its bits, times their scales."""
        axes = self.rules[name]
        kernel, flat = self._flat(name)
        high = self.largest(name)
        quantize = learnt_fake_quant if training and self.clips is not None else fake_quant
        flat = quantize(flat, -high, high, self.weight_bits, 1)
        if self.weight_bits < 8:  # the int8 file holds the nearest of its finer steps
            flat = fake_quant(flat, ops.stop_gradient(-high), ops.stop_gradient(high), 8, 1)
        if axes == (-2,):
            turned = (*kernel.shape[:-2], kernel.shape[-1], kernel.shape[-2])
            return ops.swapaxes(ops.reshape(flat, turned), -1, -2)
        return ops.reshape(flat, kernel.shape)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """What the layer class computes, with rounded kernels."""
        if self.baked:
            return super().call(inputs)  # type: ignore[misc]
        rounded = [
            (getattr(self, name), self.quantized_kernel(name, training=training))
            for name in self.rules
        ]
        if self.norm is not None:
            folded = ops.zeros_like(self.bias) if training else self.folded()["bias"]  # type: ignore[attr-defined]
            rounded.append((self.bias, folded))  # type: ignore[attr-defined]
        with keras.StatelessScope(state_mapping=rounded):
            result = super().call(inputs)  # type: ignore[misc]
        if self.norm is None or not training:
            return result
        shape = [-1 if axis == self.norm.axis % result.ndim else 1 for axis in range(result.ndim)]
        factor = self._factor()
        factor = ops.where(ops.abs(factor) < _DEAD, _DEAD, factor)
        result = result / ops.reshape(factor, shape) + ops.reshape(self.bias, shape)  # type: ignore[attr-defined]
        return self.norm(result, training=True)

    def rounded(self, name: str, *, training: bool) -> Any:
        """The kernel to compute with."""
        return getattr(self, name) if self.baked else self.quantized_kernel(name, training=training)

    def bake(self) -> None:
        """Writes the rounded kernels over the kernels, for converters."""
        for name in self.rules:
            getattr(self, name).assign(self.quantized_kernel(name))
        self.baked = True

    def get_config(self) -> dict[str, Any]:
        """See Keras."""
        names = ("weight_bits", "learnt", "shared", "dense_one_scale")
        own = {name: getattr(self, name) for name in names}
        norm = {} if self.norm is None else {"norm": self.norm.get_config()}
        return {**super().get_config(), **own, **norm}  # type: ignore[misc]


_QUANTIZED: dict[type, type] = {}


def quantize_kernels(kind: type, rules: dict[str, tuple[int, ...]], package: str) -> type:
    """Makes the quantized form of a layer class, for quantization-aware training.

    Args:
        kind: a layer class whose `call` takes one tensor.
        rules: attributes that hold kernels, and the axes of their output channels: (-1,), (-2,)
            or (-2, -1).
        package: of the name that .keras files know the class by.

    Returns:
        A subclass with the arguments `weight_bits` and `learnt`.
    """
    members = {"rules": rules, "__module__": __name__, "__doc__": kind.__doc__}
    made = type(f"Quantized{kind.__name__}", (Quantized, kind), members)
    _QUANTIZED[kind] = keras.saving.register_keras_serializable(package)(made)
    return _QUANTIZED[kind]


for _name, _rules in KERNELS.items():
    quantize_kernels(getattr(keras.layers, _name), _rules, PACKAGE)


def quantized_class(kind: type) -> type | None:
    """The quantized form of exactly this layer class, or None if there is none."""
    return _QUANTIZED.get(kind)


def fake_quant_layers(model: keras.Model) -> list[FakeQuant]:
    """The activation ranges of a model, nested models included."""
    return [layer for layer in model._flatten_layers() if isinstance(layer, FakeQuant)]


def quantized_layers(model: keras.Model) -> list[Any]:
    """The layers with rounded kernels, nested models included."""
    return [layer for layer in model._flatten_layers() if isinstance(layer, Quantized)]


def range_of(layer: FakeQuant) -> tuple[float, float]:
    """Ends of a range, before it is nudged so that zero is a step."""
    low, high = layer.limits()
    return float(low), float(high)


def kernel_steps(layer: Any, name: str = "kernel") -> NDArray[np.float64]:
    """The steps of a quantized layer's kernel, one an output channel, to be broadcast to it.

    They are those of the int8 file. The step is 0 for a channel of zeros without a shared grid,
    which converters give a tiny one.
    """
    axes = layer.rules[name]
    values = np.abs(np.asarray(layer.quantized_kernel(name), np.float64))
    rest = tuple(axis for axis in range(values.ndim) if axis - values.ndim not in axes)
    largest = values.max(axis=rest, keepdims=True)
    runs = layer.runs(name)
    by_run = np.maximum.reduceat(largest.reshape(-1), np.cumsum((0, *runs[:-1])))
    largest = np.repeat(by_run, runs).reshape(largest.shape)
    if name in layer.shared:
        alike = np.asarray(layer.largest(name), np.float64).reshape(largest.shape)
        largest = np.where(alike > _SMALLEST, alike, 0)
    return np.asarray(largest / 127)


def integers(layer: Any, name: str = "kernel") -> NDArray[np.int8]:
    """The kernel of a quantized layer as the int8 file stores it."""
    values = np.asarray(layer.quantized_kernel(name), np.float64)
    steps = kernel_steps(layer, name)
    rounded: NDArray[np.int8] = np.round(values / np.where(steps > 0, steps, 1)).astype(np.int8)
    return rounded
