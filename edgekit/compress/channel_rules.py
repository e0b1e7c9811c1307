"""What Keras' layers with weights do with channels, and the rules of custom layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from edgekit.base.extras import require
from edgekit.compress import channel_ops
from edgekit.compress.coupling import Channels, Ids, Rule, Site, Size, Weight, Wiring

_CUSTOM: dict[type, Rule] = {}


def register_rule(layer: type, rule: Rule) -> None:
    """Lets layers of a custom class take part in channel pruning.

    Args:
        layer: the class; its subclasses need rules of their own.
        rule: gives the wiring of a layer at a call; all weights of the layer must be in it.

    Example:
        >>> def rule(site):  # a layer with one learnt factor a channel
        ...     ids = site.taken()
        ...     return Wiring(site.inputs, (Weight(site.layer.factor, (ids,), scale=True),))
        >>> register_rule(Scale, rule)
    """
    _CUSTOM[layer] = rule


def find_rule(layer: Any) -> Rule | None:
    """The rule of a layer or operation, or None where none is known."""
    kind = type(layer)
    if kind in _CUSTOM:
        return _CUSTOM[kind]
    # Subclasses may compute anything in `call`.
    if not kind.__module__.startswith("keras."):
        return None
    is_layer = isinstance(layer, require("keras", purpose="to compress models").Layer)
    return (_LAYERS if is_layer else channel_ops.OPERATIONS).get(kind.__name__)


def _made(site: Site, count: int, activation: Any) -> Ids:
    ids = site.new(count)
    if not channel_ops.is_elementwise(activation):
        site.freeze(ids, channel_ops.MIXES)
    return ids


def _bias(layer: Any, ids: Ids | None) -> tuple[Weight, ...]:
    return () if layer.bias is None else (Weight(layer.bias, (ids,)),)


def _filtered(site: Site, made: Ids, kernel: Weight) -> Wiring:
    """Of a layer that makes as many channels as it has filters."""
    return Wiring(
        (Channels(site.axis, made),),
        (kernel, *_bias(site.layer, made)),
        {"filters": made},
        {"filters": made},
    )


def _convolution(site: Site) -> Wiring:
    layer = site.layer
    if layer.groups != 1:
        return _grouped(site)
    taken, made = site.taken(), _made(site, layer.filters, layer.activation)
    places = (None,) * layer.rank
    kernel = Weight(layer.kernel, (*places, taken, made), layer.rank + 1, layer.rank)
    return _filtered(site, made, kernel)


def _grouped(site: Site) -> Wiring:
    """A convolution in groups: whole groups of one channel go, of larger ones the same channels."""
    layer, taken = site.layer, site.taken()
    groups, per_group = layer.groups, int(layer.kernel.shape[-2])
    places = (None,) * layer.rank
    if per_group == 1 and taken is not None:
        made = np.repeat(taken, layer.filters // groups)
        if not channel_ops.is_elementwise(layer.activation):
            site.freeze(made, channel_ops.MIXES)
        kernel = Weight(layer.kernel, (*places, None, made))
        config: dict[str, Size] = {"filters": made, "groups": taken}
        return Wiring((Channels(site.axis, made),), (kernel, *_bias(layer, made)), config)
    made = _made(site, layer.filters, layer.activation)
    _tie(site, made, groups)
    if taken is not None:
        _tie(site, taken, groups)
        taken = taken[:per_group]
    kernel = Weight(layer.kernel, (*places, taken, made), layer.rank + 1, layer.rank)
    return _filtered(site, made, kernel)


def _tie(site: Site, ids: Ids, groups: int) -> None:
    """Channels of equal position in their groups go together."""
    rows = ids.reshape(groups, -1)
    for row in rows[1:]:
        site.coupling.unite(row, rows[0])


def _transposed(site: Site) -> Wiring:
    layer = site.layer
    taken, made = site.taken(), _made(site, layer.filters, layer.activation)
    places = (None,) * layer.rank
    kernel = Weight(layer.kernel, (*places, made, taken), layer.rank, layer.rank + 1)
    return _filtered(site, made, kernel)


def _depthwise(site: Site) -> Wiring:
    layer, taken = site.layer, site.taken()
    made = None if taken is None else np.repeat(taken, layer.depth_multiplier)
    if made is not None and not channel_ops.is_elementwise(layer.activation):
        site.freeze(made, channel_ops.MIXES)
    kernel = Weight(layer.kernel, (*(None,) * layer.rank, taken, None))
    output = None if made is None else Channels(site.axis, made)
    return Wiring((output,), (kernel, *_bias(layer, made)))


def _separable(site: Site) -> Wiring:
    layer, taken = site.layer, site.taken()
    between = None if taken is None else np.repeat(taken, layer.depth_multiplier)
    made = _made(site, layer.filters, layer.activation)
    places = (None,) * layer.rank
    weights = (
        Weight(layer.depthwise_kernel, (*places, taken, None)),
        Weight(layer.pointwise_kernel, (*places, between, made), layer.rank + 1, layer.rank, None),
        *_bias(layer, made),
    )
    return Wiring((Channels(site.axis, made),), weights, {"filters": made}, {"filters": made})


def _dense(site: Site) -> Wiring:
    layer, taken = site.layer, site.taken(-1)
    made = _made(site, layer.units, layer.activation)
    weights = (Weight(layer.kernel, (taken, made), 1, 0), *_bias(layer, made))
    output = Channels(len(site.shapes[0]) - 1, made)
    return Wiring((output,), weights, {"units": made}, {"units": made})


def _einsum(site: Site) -> Wiring:
    """A product along letters: one that is summed takes channels, the last new one makes them."""
    layer = site.layer
    left, _, result = layer.equation.partition("->")
    given, kernel = left.split(",")
    elided = len(site.shapes[0]) - len(given.replace("...", "")) if "..." in given else 0
    rank = len(result.replace("...", "")) + elided
    axes: dict[str, Ids] = {}
    channels = site.inputs[0]
    if channels is not None:
        letter = _letters(given, len(site.shapes[0])).get(channels.axis)
        if letter is None or letter not in kernel or letter in result:
            site.freeze(channels.ids, "it works along another axis than that of the channels")
        else:
            axes[letter] = channels.ids
    taken = next((kernel.index(letter) for letter in axes), None)
    new = {
        axis: letter
        for axis, letter in _letters(result, rank).items()
        if letter in kernel and letter not in given
    }
    if not new:
        return Wiring((None,), (Weight(layer.kernel, tuple(map(axes.get, kernel)), None, taken),))
    axis = max(new)
    made = _made(site, int(layer.kernel.shape[kernel.index(new[axis])]), layer.activation)
    axes[new[axis]] = made
    index = kernel.index(new[axis])
    weights = [Weight(layer.kernel, tuple(map(axes.get, kernel)), index, taken)]
    if layer.bias is not None:
        sizes = tuple(layer.bias.shape)
        place = axis - (rank - len(sizes))
        if sum(size > 1 for size in sizes) > 1:
            # keras.ops.add takes such a bias for one of another axis once a size becomes 1.
            site.freeze(made, "its bias has several axes")
        follows = [i == place and size == len(made) for i, size in enumerate(sizes)]
        weights.append(Weight(layer.bias, tuple(made if one else None for one in follows)))
    shape: list[Any] = list(layer.partial_output_shape)
    shape[axis - rank] = made
    return Wiring(
        (Channels(axis, made),), tuple(weights), {"output_shape": tuple(shape)}, {"channels": made}
    )


def _letters(spec: str, rank: int) -> dict[int, str]:
    """The letter of each axis of a tensor; `...` stands for any number of axes."""
    head, _, tail = spec.partition("...")
    letters = dict(enumerate(head))
    return letters | {rank - len(tail) + index: letter for index, letter in enumerate(tail)}


def _embedding(site: Site) -> Wiring:
    layer = site.layer
    made = site.new(layer.output_dim)
    weights = (Weight(layer.embeddings, (None, made), 1),)
    output = Channels(len(site.shapes[0]), made)
    return Wiring((output,), weights, {"output_dim": made}, {"channels": made})


def _batch_norm(site: Site) -> Wiring:
    layer = site.layer
    ids = site.taken(layer.axis)
    scales = [(layer.gamma, True), (layer.beta, False)]
    weights = [(layer.moving_mean, False), (layer.moving_variance, False)]
    weights = [(variable, scale) for variable, scale in scales if variable is not None] + weights
    return Wiring(
        (None if ids is None else site.inputs[0],),
        tuple(Weight(variable, (ids,), scale=scale) for variable, scale in weights),
    )


def _prelu(site: Site) -> Wiring:
    channels, sizes = site.inputs[0], tuple(site.layer.alpha.shape)
    axes: list[Ids | None] = [None] * len(sizes)
    if channels is not None and sizes[channels.axis - 1] == len(channels.ids):
        axes[channels.axis - 1] = channels.ids
    return Wiring((channels,), (Weight(site.layer.alpha, tuple(axes)),))


# How many blocks of units the kernels of each recurrent cell hold, side by side.
_GATES = {"GRU": 3, "LSTM": 4, "SimpleRNN": 1}


def _recurrent(site: Site) -> Wiring:
    layer = site.layer
    gates = _GATES[type(layer).__name__]
    cell, taken, units = layer.cell, site.taken(-1), site.new(layer.units)
    activations = (cell.activation, getattr(cell, "recurrent_activation", None))
    if not all(channel_ops.is_elementwise(one) for one in activations):
        site.freeze(units, channel_ops.MIXES)
    for state in range(1, len(site.inputs)):
        known = site.taken(-1, state)
        if known is None:
            site.freeze(units, "its initial state can lose no channels")
        else:
            site.coupling.unite(units, known)
    wide = np.tile(units, gates)
    weights = [
        Weight(cell.kernel, (taken, wide), 1, 0),
        Weight(cell.recurrent_kernel, (units, wide), 1),
    ]
    if cell.bias is not None:
        weights.append(Weight(cell.bias, (*(None,) * (len(cell.bias.shape) - 1), wide)))
    sequence = Channels(2 if layer.return_sequences else 1, units)
    states = 2 if type(layer).__name__ == "LSTM" else 1
    outputs = (sequence, *(Channels(1, units),) * (states if layer.return_state else 0))
    return Wiring(outputs, tuple(weights), {"units": units}, {"units": units})


def _bidirectional(site: Site) -> Wiring:
    wrapper = site.layer
    directions = (wrapper.forward_layer, wrapper.backward_layer)
    plain = all(find_rule(one) is _recurrent and not one.return_state for one in directions)
    if not plain or len(site.inputs) > 1 or wrapper.merge_mode is None:
        return site.keep_all("its directions do more than read the sequence")
    forward, backward = (_recurrent(replace(site, layer=one)) for one in directions)
    there, back = forward.makes["units"], backward.makes["units"]
    # Keras takes both directions for equally wide.
    site.coupling.unite(there, back)
    ids = np.concatenate([there, back]) if wrapper.merge_mode == "concat" else there
    axis = 2 if wrapper.forward_layer.return_sequences else 1
    return Wiring(
        (Channels(axis, ids),),
        (*forward.weights, *backward.weights),
        {"layer.config.units": there, "backward_layer.config.units": back},
        {"units": there},
    )


def _time_distributed(site: Site) -> Wiring:
    inner = site.layer.layer
    rule = find_rule(inner)
    channels = site.inputs[0]
    if rule is None or (channels is not None and channels.axis < 2):
        return site.keep_all("what it does at each step is not known to leave channels alone")
    shapes = ((site.shapes[0][0], *site.shapes[0][2:]),)
    before = None if channels is None else Channels(channels.axis - 1, channels.ids)
    wiring = rule(replace(site, layer=inner, inputs=(before,), shapes=shapes))
    outputs = tuple(one and Channels(one.axis + 1, one.ids) for one in wiring.outputs)
    config = {f"layer.config.{key}": size for key, size in wiring.config.items()}
    return replace(wiring, outputs=outputs, config=config)


def _attention(site: Site) -> Wiring:
    layer = site.layer
    plain = all(len(shape) == 3 for shape in site.shapes) and not hasattr(layer, "gate_dense")
    # A third input is a key, or a mask.
    if not plain or len(site.shapes) > 3 or site.shapes[-1] != site.shapes[1]:
        return site.keep_all("only attention over one axis, without masks and gates, is known")
    query, value = site.taken(-1, 0), site.taken(-1, 1)
    key_source = len(site.shapes) - 1
    key = site.taken(-1, key_source)
    heads = site.new(layer.num_heads)
    keys, values = site.new(layer.key_dim), site.new(layer.value_dim or layer.key_dim)
    made = site.new(int(layer.output_dense.kernel.shape[-1]))
    weights: list[Weight] = []
    for dense, ids, each, source in (
        (layer.query_dense, query, keys, 0),
        (layer.key_dense, key, keys, key_source),
        (layer.value_dense, value, values, 1),
    ):
        averaged = keys if source == 0 else None
        axes = (ids, heads, each)
        weights.append(Weight(dense.kernel, axes, 1, 0, source, also=2, averaged=averaged))
        if dense.bias is not None:
            weights.append(Weight(dense.bias, axes[1:], averaged=averaged))
    weights.append(Weight(layer.output_dense.kernel, (heads, values, made), 2, 0, None))
    weights += _bias(layer.output_dense, made)
    sizes = {"num_heads": heads, "key_dim": keys, "value_dim": values}
    return Wiring(
        (Channels(2, made),),
        tuple(weights),
        {**sizes, "output_shape": (made,)},
        {"heads": heads, "key_dim": keys, "value_dim": values, "channels": made},
        _attention_macs(site, (query, key, value), heads, keys, values, made),
    )


def _attention_macs(
    site: Site, taken: tuple[Ids | None, ...], heads: Ids, keys: Ids, values: Ids, made: Ids
) -> tuple[tuple[int | Ids, ...], ...]:
    """Projections, then scores and the weighted sum, as `edgekit.models.inspect` counts them."""
    queried, known = (int(site.shapes[source][1] or 1) for source in (0, -1))
    query, key, value = (
        int(site.shapes[source][-1]) if ids is None else ids  # type: ignore[arg-type]
        for ids, source in zip(taken, (0, -1, 1), strict=True)
    )
    return (
        (queried, query, heads, keys),
        (known, key, heads, keys),
        (known, value, heads, values),
        (queried, heads, values, made),
        (queried, known, heads, keys),
        (queried, known, heads, values),
    )


_LAYERS: dict[str, Rule] = {
    **channel_ops.LAYERS,
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D"), _convolution),
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), _transposed),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), _depthwise),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), _separable),
    **dict.fromkeys(_GATES, _recurrent),
    "BatchNormalization": _batch_norm,
    "Bidirectional": _bidirectional,
    "Dense": _dense,
    "EinsumDense": _einsum,
    "Embedding": _embedding,
    "MultiHeadAttention": _attention,
    "PReLU": _prelu,
    "TimeDistributed": _time_distributed,
}
