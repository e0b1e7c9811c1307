"""Layer by layer: the tensors inside a model file held against the layers that it came from.

A tensor is matched with a layer by the layers that its name tells, by its shape, and among several
by its values; where a converter has left no names, by shape and values alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.schema.debugging import LayerDifference
from edgekit.verify.parity import snr_db
from edgekit.verify.recording import FileTensor, Recording, Values, representable, rounded

_ALIKE_DB = 10.0  # what a tensor without a telling name must reach to be taken for a layer's
_TIE_DB = 1.0
_PERFECT_DB = 1000.0
_DOUBTFUL_DB = 20.0
_HIDDEN_DB = 6.0  # more than this of a tensor's noise does not vanish in the layer behind it
_TRACES = ("", "_1", "_2", "_3")
_NORM = "BatchNormalization"
_ACTIVATIONS = ("ReLU", "Activation", "LeakyReLU", "PReLU")
_INSERTED = re.compile(r"__\d+(:\d+)?$")  # by tf2onnx, named after the operator that follows


@dataclass(frozen=True)
class Layer:
    """One call of a layer of the reference model.

    Attributes:
        name: of the layer; `outer/inner` within a nested model.
        kind: class of the layer.
        values: its output, of shape (n, ...).
        inputs: positions of the layers that it takes from; the model's inputs are left out.
        widths: for a concatenation along the last axis the channels of each input.
        output: the name of the model's output that it makes, or None.
        unfoldable: for a normalization why it cannot be folded into the layers beside it; None if
            it can.
    """

    name: str
    kind: str
    values: Values
    inputs: tuple[int, ...] = ()
    widths: tuple[int, ...] = ()
    output: str | None = None
    unfoldable: str | None = None


@dataclass(frozen=True)
class Match:
    """A layer and the tensor that stands for it in a file.

    Attributes:
        values: the tensor's, in the order of the layer's axes.
        snr: of the tensor against the layer's values, in dB; None if they are identical.
        input_snr: the lowest of the layers that it takes from, as far as they are matched.
        norm: the normalization that the tensor holds the result of, with at most an activation
            after it; None if there is none.
        own_snr: what the rounding of this one tensor costs, in dB: the layer's values rounded to
            its integers; None for a float tensor or no loss.
    """

    layer: Layer
    tensor: FileTensor
    values: Values
    snr: float | None
    input_snr: float | None = None
    own_snr: float | None = None
    norm: Layer | None = None

    def document(self) -> LayerDifference:
        """The match as a result."""
        limits = representable(self.tensor)
        return LayerDifference(
            layer=self.layer.name,
            kind=self.layer.kind,
            op=self.tensor.op.index,
            operator=self.tensor.op.name,
            tensor=self.tensor.tensor.name,
            dtype=self.tensor.tensor.dtype,
            snr_db=self.snr,
            input_snr_db=self.input_snr,
            own_snr_db=self.own_snr,
            low=float(self.layer.values.min()),
            high=float(self.layer.values.max()),
            representable=limits,
        )


def match_layers(layers: Sequence[Layer], recording: Recording) -> list[Match]:
    """The tensors of a file that stand for layers, in the order of the layers.

    Of the layers that an operator joins, the tensor is the last one's. Where several tensors tell
    one layer, they are its steps, and the one most like it is taken.
    """
    graph = recording.graph
    made = [graph.tensors[index] for op in graph.ops for index in op.outputs]
    names = [tensor.name for tensor in (*made, *(one.tensor for one in recording.tensors))]
    places = _told(layers, names)
    last = {place: t.index for t, told in zip(made, places, strict=False) for place in told}
    outputs = {layer.output: place for place, layer in enumerate(layers) if layer.output}
    best: dict[int, Match] = {}
    guessed: set[int] = set()
    for tensor, mentioned in zip(recording.tensors, places[len(made) :], strict=True):
        named = bool(mentioned)
        output = recording.outputs.get(tensor.tensor.index)
        if output is not None and len(outputs) == 1:
            mentioned = list(outputs.values())
        elif output in outputs:
            mentioned = [outputs[output]]
        found = _most_like(layers, tensor, mentioned or range(len(layers)), sure=False)
        index = tensor.tensor.index
        if found is None and mentioned and last.get(mentioned[-1], index) == index:
            found = _most_like(layers, tensor, mentioned[-1:], sure=True)
        if found is None:
            continue
        place, match = found
        if place not in best or _decibels(match.snr) > _decibels(best[place].snr):
            best[place] = match
            guessed.discard(place)
            if not named and output is None:
                guessed.add(place)
    for place in _steps(layers, best, guessed):
        del best[place]
    return [_complete(layers, place, best) for place in sorted(best)]


def _complete(layers: Sequence[Layer], place: int, best: Mapping[int, Match]) -> Match:
    match = best[place]
    before = [best[one].snr for one in _matched_inputs(layers, place, best)]
    known = [value for value in before if value is not None]
    own = rounded(match.layer.values, match.tensor)
    return Match(
        layer=match.layer,
        tensor=match.tensor,
        values=match.values,
        snr=match.snr,
        input_snr=min(known, default=None),
        own_snr=None if own is None else snr_db(match.layer.values, own),
        norm=_norm(layers, place, best),
    )


def _norm(layers: Sequence[Layer], place: int, best: Mapping[int, Match]) -> Layer | None:
    """The normalization itself, or the one that an activation is joined with."""
    layer = layers[place]
    if layer.kind not in _ACTIVATIONS or len(layer.inputs) != 1:
        return layer if layer.kind == _NORM else None
    before = layer.inputs[0]
    return layers[before] if layers[before].kind == _NORM and before not in best else None


def _steps(layers: Sequence[Layer], best: Mapping[int, Match], guessed: set[int]) -> list[int]:
    """Layers whose tensors, taken for them by their values only, are another's step.

    A convolution without the bias that a normalization gave it is somewhat like its layer; but
    were the noise real, the layer behind would have it too.
    """
    behind = {one: place for place, layer in enumerate(layers) for one in layer.inputs}
    return [
        place
        for place in guessed
        if (snr := _decibels(best[place].snr)) < _DOUBTFUL_DB
        and behind.get(place) in best
        and _decibels(best[behind[place]].snr) > snr + _HIDDEN_DB
    ]


def _matched_inputs(layers: Sequence[Layer], place: int, best: Mapping[int, Match]) -> list[int]:
    """The nearest layers before it that are matched."""
    found: list[int] = []
    waiting, seen = list(layers[place].inputs), set[int]()
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        if one in best:
            found.append(one)
        else:
            waiting += layers[one].inputs
    return found


def _most_like(
    layers: Sequence[Layer], tensor: FileTensor, places: Sequence[int], *, sure: bool
) -> tuple[int, Match] | None:
    """The layer among `places` that the tensor is most like; of equals the last.

    Where it is not sure that the tensor is one of them, it must be alike.
    """
    best: tuple[int, Match] | None = None
    for place in places:
        layer = layers[place]
        for values in _layouts(tensor.values, layer.values.shape):
            snr = snr_db(layer.values, values)
            if not sure and _decibels(snr) < _ALIKE_DB:
                continue
            tie = _TIE_DB if best is not None and place > best[0] else 0.0
            if best is None or _decibels(snr) >= _decibels(best[1].snr) - tie:
                best = place, Match(layer, tensor, values, snr)
    return best


def _layouts(values: Values, shape: tuple[int, ...]) -> list[Values]:
    """The values in a layer's shape, channels first or last; nothing where they do not fit."""
    if values.size != int(np.prod(shape)) or len(values) != shape[0]:
        return []
    if values.ndim < 3 or values.ndim != len(shape):
        return [values.reshape(shape)]
    last = (0, *range(2, values.ndim), 1)
    orders = [tuple(range(values.ndim)), last]
    fitting = [order for order in orders if tuple(values.shape[i] for i in order) == shape]
    return [values.transpose(order).reshape(shape) for order in fitting]


def _told(layers: Sequence[Layer], names: Sequence[str]) -> list[list[int]]:
    """For each tensor name the positions of the layers that it tells.

    Tracing a model once more appends one number to all of its scopes; the number that makes most
    names tell a layer is taken for it.
    """
    paths = [tuple(layer.name.split("/")) for layer in layers]
    parts = [
        [tuple(one.split("/")) for one in re.split(r"[;:]", name)]
        if not _INSERTED.search(name)
        else []
        for name in names
    ]
    readings = []
    for trace in _TRACES:
        places: dict[tuple[str, ...], list[int]] = {}
        for place, path in enumerate(paths):
            places.setdefault(tuple(f"{part}{trace}" for part in path), []).append(place)
        readings.append([_tells(one, places) for one in parts])
    hits = [sum(map(bool, reading)) for reading in readings]
    return readings[int(np.argmax(hits))]


def _tells(
    parts: Sequence[tuple[str, ...]], places: Mapping[tuple[str, ...], list[int]]
) -> list[int]:
    """The positions of the layers whose paths stand in some of the parts, the longest of each."""
    found: set[int] = set()
    for path in parts:
        ends = [(start, end) for start in range(len(path)) for end in range(len(path), start, -1)]
        known = (path[start:end] for start, end in ends if path[start:end] in places)
        found.update(places.get(next(known, ()), ()))
    return sorted(found)


def _decibels(snr: float | None) -> float:
    return _PERFECT_DB if snr is None else snr
