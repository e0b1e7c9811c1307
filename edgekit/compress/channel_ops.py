"""What layers and operations without weights do with channels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgekit.compress.coupling import Channels, Ids, Rule, Site, Wiring

MIXES = "it mixes channels"
_ELEMENTWISE = (
    "celu elu exponential gelu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu "
    "linear log_sigmoid mish relu relu6 selu sigmoid silu soft_shrink softplus softsign "
    "sparse_plus sparse_sigmoid squareplus swish tanh tanh_shrink threshold"
)


def is_elementwise(activation: Any) -> bool:
    """Whether an activation treats each value alone, as far as is known."""
    name = getattr(activation, "__name__", None)
    module = str(getattr(activation, "__module__", ""))
    return activation is None or (name in _ELEMENTWISE.split() and module.startswith("keras."))


def same(site: Site) -> Wiring:
    """Each value alone, in its place."""
    return Wiring((site.inputs[0],))


def spatial(site: Site) -> Wiring:
    """Places change, channels do not: pooling, padding, cropping, resizing."""
    return Wiring((site.inputs[0] if site.taken() is not None else None,))


def activation(site: Site) -> Wiring:
    """An activation layer."""
    return same(site) if is_elementwise(site.layer.activation) else mixes(site)


def softmax(site: Site) -> Wiring:
    """Softmax along one or more axes."""
    return mixes(site) if _is_along(site, site.layer.axis) else same(site)


def reduction(site: Site) -> Wiring:
    """A mean or another reduction over axes that do not hold channels."""
    axis, channels = site.layer.axis, site.inputs[0]
    if channels is None or axis is None:
        return site.keep_all(MIXES)
    rank = len(site.shapes[0])
    axes = {one % rank for one in (axis if isinstance(axis, (list, tuple)) else (axis,))}
    fewer = 0 if site.layer.keepdims else sum(one < channels.axis for one in axes)
    if _is_along(site, axis):
        return site.keep_all(MIXES)
    return Wiring((Channels(channels.axis - fewer, channels.ids),))


def _is_along(site: Site, axis: Any) -> bool:
    """Whether an axis, or one of several, holds the channels."""
    channels, rank = site.inputs[0], len(site.shapes[0])
    axes = axis if isinstance(axis, (list, tuple)) else (axis,)
    return channels is not None and channels.axis in {one % rank for one in axes}


def global_pooling(site: Site) -> Wiring:
    """All places become one."""
    ids = site.taken()
    if ids is None:
        return Wiring((None,))
    return Wiring((Channels(site.axis if site.layer.keepdims else 1, ids),))


def scaled(site: Site) -> Wiring:
    """Rescaling by one number, or by one for each channel."""
    if np.ndim(site.layer.scale) or np.ndim(site.layer.offset):
        return site.keep_all("it has a constant for each channel")
    return same(site)


def merge(site: Site) -> Wiring:
    """Elementwise of several tensors: their channels are the same, or broadcast."""
    rank = max(len(shape) for shape in site.shapes)
    shifts = [rank - len(shape) for shape in site.shapes]
    shifted = zip(site.inputs, shifts, strict=True)
    axes = {channels.axis + shift for channels, shift in shifted if channels is not None}
    if len(axes) != 1:
        return site.keep_all("its inputs have their channels on different axes")
    axis = axes.pop()
    widths = [
        shape[axis - s] if axis > s else 1 for shape, s in zip(site.shapes, shifts, strict=True)
    ]
    width = max(size or 0 for size in widths)
    if any(_width(constant, rank - axis) != 1 for constant in site.constants):
        return site.keep_all("it has a constant for each channel")
    first: Ids | None = None
    for channels, size in zip(site.inputs, widths, strict=True):
        if channels is None and size != 1:
            return site.keep_all("another of its inputs can lose no channels")
        if channels is None:
            continue
        if size != width:
            site.freeze(channels.ids, "it broadcasts its one channel")
        elif first is None:
            first = channels.ids
        else:
            site.coupling.unite(channels.ids, first)
    return Wiring((None if first is None else Channels(axis, first),))


def _width(constant: Any, from_end: int) -> int:
    shape = getattr(constant, "shape", None)
    if shape is None:
        shape = np.shape(constant) if isinstance(constant, (list, tuple)) else ()
    return int(shape[-from_end]) if len(shape) >= from_end else 1


def concatenate(site: Site) -> Wiring:
    """Concatenation: of channels, or of places with the same channels."""
    rank = len(site.shapes[0])
    axis = site.layer.axis % rank
    known = [one for one in site.inputs if one is not None]
    if not known:
        return Wiring((None,))
    if any(one.axis != known[0].axis for one in known):
        return site.keep_all("its inputs have their channels on different axes")
    if axis != known[0].axis:
        if len(known) < len(site.inputs):
            return site.keep_all("another of its inputs can lose no channels")
        for other in known[1:]:
            site.coupling.unite(other.ids, known[0].ids)
        return Wiring((known[0],))
    parts = []
    for channels, shape in zip(site.inputs, site.shapes, strict=True):
        size = shape[axis]
        if channels is None and size is None:
            return site.keep_all("another of its inputs has a free number of channels")
        parts.append(channels.ids if channels is not None else _kept(site, int(size or 0)))
    return Wiring((Channels(axis, np.concatenate(parts)),))


def _kept(site: Site, count: int) -> Ids:
    ids = site.new(count)
    site.freeze(ids, "one of its inputs can lose no channels")
    return ids


def permute(site: Site) -> Wiring:
    """Axes in another order."""
    channels = site.inputs[0]
    if channels is None:
        return Wiring((None,))
    return Wiring((Channels(tuple(site.layer.dims).index(channels.axis) + 1, channels.ids),))


def transpose(site: Site) -> Wiring:
    """Axes in another order, the batch among them."""
    channels = site.inputs[0]
    axes = site.layer.axes or tuple(reversed(range(len(site.shapes[0]))))
    if channels is None or axes[0] != 0:
        return site.keep_all("it moves the batch")
    return Wiring((Channels(tuple(axes).index(channels.axis), channels.ids),))


def repeat_vector(site: Site) -> Wiring:
    """The same vector many times."""
    ids = site.taken(1)
    return Wiring((None if ids is None else Channels(2, ids),))


def flatten(site: Site) -> Wiring:
    """All values in one row."""
    if getattr(site.layer, "data_format", None) == "channels_first" and len(site.shapes[0]) > 2:
        return site.keep_all("it moves the channels")
    wiring = _reshaped(site, (-1,))
    return Wiring(wiring.outputs)


def reshape(site: Site) -> Wiring:
    """The same values in another shape; sizes in the target that hold channels shrink."""
    wiring = _reshaped(site, site.layer.target_shape)
    return Wiring(wiring.outputs, config={"target_shape": wiring.config.get("shape", ())})


def reshape_operation(site: Site) -> Wiring:
    """As `reshape`, with the batch in the target."""
    batch, *target = site.layer.newshape
    if batch not in (-1, None) or None in target:
        return site.keep_all("it moves the batch")
    wiring = _reshaped(site, tuple(target))
    shape = wiring.config.get("shape", ())
    return Wiring(wiring.outputs, config={"newshape": (-1, *shape)} if shape else {})


def _reshaped(site: Site, target: tuple[int, ...]) -> Wiring:
    """The output of a reshape, and the target with ids where the channels are, as `shape`."""
    channels, (_, *given) = site.inputs[0], site.shapes[0]
    if channels is None:
        return Wiring((None,))
    sizes = [size for size in given if size is not None]
    if len(sizes) < len(given):
        return site.keep_all("it reshapes a free number of places")
    known = math.prod(size for size in target if size != -1)
    shape = [math.prod(sizes) // known if size == -1 else int(size) for size in target]
    along = [1] * len(sizes)
    along[channels.axis - 1] = -1
    ids = np.broadcast_to(channels.ids.reshape(along), sizes).reshape(shape)
    axis = _axis_of(ids)
    rows = np.moveaxis(ids, axis, -1).reshape(-1, ids.shape[axis])
    for row in rows[1:]:
        if not np.array_equal(row, rows[0]):
            site.coupling.unite(row, rows[0])
    result = tuple(
        rows[0] if index == axis and size != -1 else int(size) for index, size in enumerate(target)
    )
    return Wiring((Channels(axis + 1, rows[0]),), config={"shape": result})


def _axis_of(ids: Ids) -> int:
    """The axis along which ids change, the last one if there are several."""
    for axis in reversed(range(ids.ndim)):
        lines = np.moveaxis(ids, axis, -1).reshape(-1, ids.shape[axis])
        if bool((lines == lines[0]).all()):
            return axis
    return ids.ndim - 1


def mixes(site: Site) -> Wiring:
    """Every output depends on every channel; the channels stay where they are."""
    site.keep_all(MIXES)
    return same(site)


def _all(names: str, rule: Rule) -> dict[str, Rule]:
    """The same rule for many classes; `#` in a name stands for 1, 2 and 3."""
    words = {name.replace("#", str(rank)) for name in names.split() for rank in (1, 2, 3)}
    return dict.fromkeys(sorted(words), rule)


LAYERS: dict[str, Rule] = {
    **_all("MaxPooling#D AveragePooling#D ZeroPadding#D Cropping#D UpSampling#D", spatial),
    **_all("SpatialDropout#D Resizing", spatial),
    **_all("GlobalAveragePooling#D GlobalMaxPooling#D", global_pooling),
    **_all("ActivityRegularization AlphaDropout Dropout GaussianDropout GaussianNoise", same),
    **_all("ELU Identity LeakyReLU ReLU", same),
    **_all("GroupNormalization LayerNormalization RMSNormalization UnitNormalization", mixes),
    **_all("Masking", mixes),
    **_all("Add Average Maximum Minimum Multiply Subtract", merge),
    "Activation": activation,
    "Concatenate": concatenate,
    "Flatten": flatten,
    "Permute": permute,
    "RepeatVector": repeat_vector,
    "Rescaling": scaled,
    "Reshape": reshape,
    "Softmax": softmax,
}
OPERATIONS: dict[str, Rule] = {
    **_all("Absolute Arctan Ceil Celu Cos Elu Erf Exp Expm1 Floor Gelu HardShrink", same),
    **_all("HardSigmoid HardSilu HardTanh LeakyRelu Log Log1p LogSigmoid Negative", same),
    **_all("Reciprocal Relu Relu6 Round Rsqrt Selu Sigmoid Sign Silu Sin SoftShrink", same),
    **_all("Softplus Softsign SparsePlus SparseSigmoid Sqrt Square Squareplus", same),
    **_all("StopGradient Tanh TanhShrink Threshold", same),
    **_all("Add Clip Divide Maximum Minimum Multiply Power Subtract TrueDivide", merge),
    **_all("Max Mean Min Sum", reduction),
    **_all("LogSoftmax Softmax", softmax),
    "Concatenate": concatenate,
    "Reshape": reshape_operation,
    "Transpose": transpose,
}
