"""One int8 grid for each kernel that has one codebook, so that the int8 file keeps the codebook.

With a step of its own in each channel, one value becomes as many integers as there are channels,
and a file of them does not compress (Han et al. 2016 compress codes of one codebook).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.compress.constraints import Constraints, by_channel, has_one_codebook
from edgekit.compress.kernels import find_kernels
from edgekit.compress.qat_graph import original_key

if TYPE_CHECKING:
    import keras

_BITS = 4  # of the ratio between a channel's scale and the kernel's


def share_grids(model: keras.Model, before: Constraints) -> None:
    """Gives one grid to each kernel of a quantized model that was clustered as a whole.

    Those of recurrent cells keep a grid for each channel; those with one scale have one grid as
    they are.

    Args:
        model: just made, with kernels as they were or with normalizations folded in.
        before: what the kernels keep, with their values before anything was folded.
    """
    from edgekit.models.fakequant import quantized_layers

    clustered = {
        original_key(one.kernel): one.kernel.values
        for one in before.kept
        if one.groups is not None and has_one_codebook(one.kernel.values)
    }
    found = {id(kernel.variable): original_key(kernel) for kernel in find_kernels(model)[0]}
    for layer in quantized_layers(model):
        (name, axes), *others = layer.rules.items()
        old = clustered.get(found.get(id(getattr(layer, name)), ("", "")))
        if old is None or others:  # cells of recurrent layers come in parts in the file
            continue
        if len(layer.runs(name)) == 1:
            continue
        layer.share([name])
        new = np.asarray(getattr(layer, name))
        layer.ratios.weights[0].assign(_ratios(by_channel(old, axes), by_channel(new, axes)))


def _ratios(old: NDArray[Any], new: NDArray[Any]) -> NDArray[np.float32]:
    """By what channels, one a row, were multiplied; 1 where there are only zeros."""
    place = np.abs(old).argmax(axis=1)[:, None]
    before, after = (np.take_along_axis(one, place, axis=1)[:, 0] for one in (old, new))
    ratio = after / np.where(before == 0, 1, before)
    return np.where(before == 0, 1, ratio).astype(np.float32)


def few_bits(ratios: NDArray[Any]) -> NDArray[np.float32]:
    """Each ratio at the nearest number of `_BITS` significant bits, at most 6.3% away.

    A scale a channel has no more to tell then than its exponent and these bits: where kernels are
    small and compressed, scales of full precision are a fifth of the file.
    """
    mantissa, exponent = np.frexp(ratios.astype(np.float64))
    steps = 2.0**_BITS
    return np.ldexp(np.round(mantissa * steps) / steps, exponent).astype(np.float32)


def shared_factors(model: keras.Model) -> dict[int, NDArray[np.float32]]:
    """What folding has multiplied kernels of one grid with, broadcastable, by `id` of variable."""
    from edgekit.models.fakequant import quantized_layers

    return {
        id(getattr(layer, name)): _broadcast(layer, name, np.asarray(ratio, np.float32))
        for layer in quantized_layers(model)
        if layer.norm is None
        for name, ratio in zip(layer.shared, layer.ratios.weights, strict=True)
    }


def snap_shared(model: keras.Model, kept: Constraints) -> None:
    """Puts the shared values of kernels of one grid on it, so that each is one integer exactly."""
    from edgekit.models.fakequant import integers, quantized_layers

    groups = {id(one.kernel.variable): one for one in kept.kept if one.groups is not None}
    for layer in quantized_layers(model):
        for name in layer.shared:
            variable = getattr(layer, name)
            one = groups[id(variable)]
            assert one.groups is not None
            sign = 1.0 if one.factors is None else np.where(one.factors < 0, -1.0, 1.0)
            steps = _broadcast(layer, name, np.asarray(layer.largest(name), np.float64) / 127)
            number = one.groups.reshape(-1)
            alive = np.asarray(variable).reshape(-1) != 0
            codes = (integers(layer, name) * sign).reshape(-1)
            # Within float32's precision of a half, weights of one value may have gone both ways.
            sums = np.bincount(number[alive], codes[alive], int(number.max()) + 1)
            counts = np.bincount(number[alive], minlength=len(sums))
            shared = np.round(sums / np.maximum(counts, 1))
            values = (shared[number] * alive).reshape(variable.shape) * sign * steps
            variable.assign(values.astype(np.float32))
            if layer.clips is not None:  # the values are clipped now
                clip = layer.clips.weights[list(layer.rules).index(name)]
                clip.assign(np.ones(clip.shape, np.float32))


def _broadcast(layer: Any, name: str, channels: NDArray[Any]) -> NDArray[Any]:
    """A number for each output channel, in a shape that goes with the kernel."""
    shape, axes = getattr(layer, name).shape, layer.rules[name]
    sizes = [size if i - len(shape) in axes else 1 for i, size in enumerate(shape)]
    return channels.reshape(sizes)
