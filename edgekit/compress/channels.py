"""Input and output channels of the kernels of convolutions and dense layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.base.extras import require

Values = NDArray[Any]

_CONVOLUTIONS = ("Conv1D", "Conv2D", "Conv3D")
_TRANSPOSED = ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
_DEPTHWISE = ("DepthwiseConv1D", "DepthwiseConv2D")
KINDS = (*_CONVOLUTIONS, *_TRANSPOSED, *_DEPTHWISE, "Dense")


def kind_of(layer: Any) -> str | None:
    """Which of `KINDS` a layer is exactly, or None: a subclass may compute something else."""
    layers = require("keras", purpose="to compress models").layers
    return next((kind for kind in KINDS if type(layer) is getattr(layers, kind)), None)


def why_not(layer: Any) -> str | None:
    """Why the channels of a layer's kernel cannot be told, or None if they can."""
    keras = require("keras", purpose="to compress models")
    if kind_of(layer) is None:
        return "it is no convolution or dense layer"
    if not isinstance(layer.kernel, keras.Variable) or str(layer.kernel.dtype) != "float32":
        return "its kernel is quantized, or computed, not stored"
    if getattr(layer, "data_format", None) == "channels_first":
        return "its channels come first"
    return None


def by_output(kind: str, kernel: Values) -> Values:
    """A view of a kernel as (weights, output channels)."""
    if kind in _TRANSPOSED:
        kernel = np.swapaxes(kernel, -1, -2)
    if kind in _DEPTHWISE:
        return kernel.reshape(-1, kernel.shape[-2] * kernel.shape[-1])
    return kernel.reshape(-1, kernel.shape[-1])


def output_factors(kind: str, kernel: Values, factors: Values) -> Values:
    """Factors of output channels in a shape that multiplies the kernel."""
    if kind in _TRANSPOSED:
        return factors[:, None]
    return factors.reshape(kernel.shape[-2:]) if kind in _DEPTHWISE else factors


def input_factors(kind: str, kernel: Values, factors: Values) -> Values:
    """Factors of input channels in a shape that multiplies the kernel.

    A dense layer that takes flattened images has several rows a channel; a grouped convolution
    has several channels a row.
    """
    if kind in _TRANSPOSED:
        return factors
    if kind in _DEPTHWISE:
        return factors[:, None]
    rows, columns = kernel.shape[-2:]
    if len(factors) <= rows:
        return np.tile(factors, rows // len(factors))[:, None]
    groups = len(factors) // rows
    return np.repeat(factors.reshape(groups, rows).T, columns // groups, axis=1)


def input_ranges(kind: str, kernel: Values, channels: int) -> Values:
    """The largest magnitude of the weights on each input channel."""
    each = np.arange(channels)
    index = np.broadcast_to(input_factors(kind, kernel, each), kernel.shape)
    ranges = np.zeros(channels, kernel.dtype)
    np.maximum.at(ranges, index.ravel(), np.abs(kernel).ravel())
    return ranges


def is_clustered(kernel: Values) -> bool:
    """Whether the weights share few values, as after clustering; zeros do not count."""
    weights = kernel[kernel != 0]
    values = len(np.unique(weights))
    return 0 < 4 * values <= weights.size and values <= 256
