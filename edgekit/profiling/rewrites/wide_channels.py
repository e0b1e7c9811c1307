"""What becomes wider where a convolution of a .tflite file is given more channels.

New channels go from the layers that make them through operators that treat each channel alone, to
layers that read them with weights of zero. What else reads them is given the old ones, by a cut.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edgekit.graph.tflite_edit import TFLiteEditor
from edgekit.profiling.rewrites.means import mean_axes

Places = tuple[int, ...]
"""For each channel of a wider tensor the one that it was, or `NEW`."""
NEW = -1

_ALONE = frozenset(
    {"ABS", "AVERAGE_POOL_2D", "CAST", "CEIL", "DEQUANTIZE", "ELU", "EXP", "FLOOR", "GELU",
     "HARD_SWISH", "LEAKY_RELU", "LOGISTIC", "MAX_POOL_2D", "NEG", "PRELU", "QUANTIZE", "RELU",
     "RELU6", "RELU_N1_TO_1", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "ROUND", "SQUARE",
     "TANH"}
)  # fmt: skip
"""Operators on each channel alone, finite for finite values."""
_PAIRS = frozenset({"ADD", "MAXIMUM", "MINIMUM", "MUL", "SQUARED_DIFFERENCE", "SUB"})
_PADS = frozenset({"MIRROR_PAD", "PAD", "PADV2"})
_BLOCKS = frozenset({"BATCH_TO_SPACE_ND", "SPACE_TO_BATCH_ND"})
_MAKERS = frozenset({"CONV_2D", "FULLY_CONNECTED"})
_READERS = {"CONV_2D": (0, 3), "FULLY_CONNECTED": (0, 1), "TRANSPOSE_CONV": (2, 3)}
"""Which input has the channels, and the axis of the weights that reads them."""


@dataclass(frozen=True)
class Widening:
    """Tensors that become wider together.

    Attributes:
        places: of their channels, by tensor.
        layers: how many make new channels.
        cuts: by tensor whose old channels are needed too, the operators that need them.
    """

    places: Mapping[int, Places]
    layers: int
    cuts: Mapping[int, list[Any]]


def widening(edit: TFLiteEditor, start: int, extra: int) -> Widening:
    """What becomes wider with the output of a convolution, by `extra` channels at its end.

    Where two tensors are added and the like, the other may become wider too: it does where that
    needs fewer cuts for each layer that makes channels.
    """
    alone, joint = (_Search(edit, start, extra, joint=joint).result() for joint in (False, True))
    fewer = len(joint.cuts) * alone.layers <= len(alone.cuts) * joint.layers
    return joint if fewer else alone


def makes_channels(edit: TFLiteEditor, op: Any) -> bool:
    """Whether an operator makes each channel by a filter of its own, of all that it reads."""
    if edit.name(op) not in _MAKERS or not _whole(edit, op):
        return False
    weights = edit.shape(op.inputs[1])
    if weights[0] != edit.shape(op.outputs[0])[-1]:
        return False
    return edit.name(op) != "CONV_2D" or weights[3] == edit.shape(op.inputs[0])[-1]


def read_places(
    edit: TFLiteEditor, op: Any, tensor: int, places: Places
) -> tuple[int, Places] | None:
    """The axis of the weights that reads a tensor's channels, and places on it; None: none does."""
    place, axis = _READERS.get(edit.name(op), (0, 0))
    if not axis or op.inputs[place] != tensor or list(op.inputs).count(tensor) > 1:
        return None
    shape = edit.shape(tensor)
    width = edit.shape(op.inputs[1])[axis] if _whole(edit, op) else None
    if width == shape[-1]:
        return axis, places
    if edit.name(op) == "FULLY_CONNECTED" and width == math.prod(shape[1:]):
        return axis, _repeated(places, math.prod(shape[1:-1]), shape[-1])
    return None  # grouped


def channel_constants(edit: TFLiteEditor, op: Any) -> list[tuple[int, int]]:
    """The constant inputs with a part for each channel of the output: place, and axis."""
    name = edit.name(op)
    maker = makes_channels(edit, op)
    if maker or name == "DEPTHWISE_CONV_2D":
        biased = len(op.inputs) > 2 and op.inputs[2] >= 0
        return [(1, 0 if maker else 3), *([(2, 0)] if biased else [])]
    if name not in (*_PAIRS, "PRELU"):
        return []
    width = edit.shape(op.outputs[0])[-1]
    return [
        (place, len(edit.shape(index)) - 1)
        for place, index in enumerate(op.inputs)
        if edit.shape(index)[-1:] == (width,) and edit.values(index) is not None
    ]


def sources(edit: TFLiteEditor, op: Any) -> list[int]:
    """The computed tensors whose channels an operator hands on as they are; none if it does not."""
    name, first = edit.name(op), int(op.inputs[0]) if op.inputs else -1
    if len(op.outputs) != 1 or first < 0 or not edit.shape(first) or not edit.shape(op.outputs[0]):
        return []
    rank = len(edit.shape(first))
    if name in _PAIRS:
        return _paired(edit, op)
    if name == "CONCATENATION":
        last = op.builtinOptions.axis in (-1, rank - 1)
        return [int(index) for index in op.inputs] if last else []
    if name in _PADS:
        sides = edit.values(op.inputs[1])
        fits = sides is not None and not sides.reshape(-1, 2)[-1].any()
    elif name in _BLOCKS:
        blocks = edit.values(op.inputs[1])
        fits = blocks is not None and blocks.size < rank - 1
    elif name == "MEAN":
        axes = mean_axes(edit, op)
        fits = axes is not None and rank - 1 not in axes
    elif name == "RESHAPE":
        fits = len(op.inputs) > 1 and edit.values(op.inputs[1]) is not None
        fits = fits and _kept_or_merged(edit.shape(first), edit.shape(op.outputs[0]))
    elif name == "PRELU":
        fits = edit.values(op.inputs[1]) is not None
    elif name == "DEPTHWISE_CONV_2D":
        fits = _whole(edit, op)
    else:
        fits = name in _ALONE
    return [first] if fits else []


class _Search:
    """Finds what can become wider, by leaving out of all that is tied what cannot."""

    def __init__(self, edit: TFLiteEditor, start: int, extra: int, *, joint: bool) -> None:
        self._edit, self._start, self._extra = edit, start, extra
        self._makers = {index: op for op in edit.ops for index in op.outputs}
        self._readers: dict[int, list[Any]] = defaultdict(list)
        self._sources: dict[int, list[int]] = {}
        for op in edit.ops:
            for index in {*op.inputs} - {-1}:
                self._readers[index].append(op)
            handed = sources(edit, op)
            together = len(set(handed)) > 1 and edit.name(op) != "CONCATENATION"
            self._sources[id(op)] = [] if together and not joint else handed
        self._out: set[int] = set()

    def result(self) -> Widening:
        """The largest set of tensors that agree."""
        while True:
            places, odd = self._placed(self._tied())
            cuts = {index: blind for index in places if (blind := self._blind(index, places))}
            cuts |= {index: cuts.get(index, []) for index in self._edit.outputs if index in places}
            odd |= {index for index in cuts if not _at_the_end(places[index])}
            if not odd:
                layers = sum(makes_channels(self._edit, self._makers[index]) for index in places)
                return Widening(places, layers, cuts)
            self._out |= odd

    def _tied(self) -> set[int]:
        """All tensors that have their channels from or for the first one."""
        found, left = {self._start}, [self._start]
        while left:
            for index in self._neighbours(left.pop()):
                if index not in found:
                    found.add(index)
                    left.append(index)
        return found

    def _neighbours(self, index: int) -> Iterator[int]:
        for op in self._readers[index]:
            if self._hands_on(op, index):
                yield int(op.outputs[0])
                yield from self._needed(op)
        maker = self._makers.get(index)
        if maker is not None and index != self._start:
            yield from self._needed(maker)

    def _hands_on(self, op: Any, index: int) -> bool:
        """Whether an operator can hand a tensor's new channels on."""
        handed = self._sources[id(op)]
        whole = handed.count(index) == list(op.inputs).count(index)
        return whole and not self._out.intersection((*op.outputs, *self._needed(op)))

    def _needed(self, op: Any) -> list[int]:
        """What must be wider where an operator's output is."""
        return [] if self._edit.name(op) == "CONCATENATION" else self._sources[id(op)]

    def _placed(self, tied: set[int]) -> tuple[dict[int, Places], set[int]]:
        """Places of channels, and the tensors that cannot have more."""
        places: dict[int, Places] = {}
        for op in self._edit.ops:
            for index in tied.intersection(op.outputs):
                if makes_channels(self._edit, op):
                    old = self._edit.shape(index)[-1]
                    places[index] = (*range(old), *(NEW,) * self._extra)
                elif self._sources[id(op)]:
                    made = _made(self._edit, op, self._sources[id(op)], places)
                    if made is not None:
                        places[index] = made
        return places, tied - set(places)

    def _blind(self, index: int, places: Mapping[int, Places]) -> list[Any]:
        """The readers of a tensor that need its old channels."""
        return [
            op
            for op in self._readers[index]
            if read_places(self._edit, op, index, places[index]) is None
            and not (self._hands_on(op, index) and op.outputs[0] in places)
        ]


def _made(
    edit: TFLiteEditor, op: Any, handed: list[int], places: Mapping[int, Places]
) -> Places | None:
    """Places of the output's channels; None: what is read does not agree."""
    if edit.name(op) == "CONCATENATION":
        joined: list[int] = []
        before = 0
        for index in handed:
            width = edit.shape(index)[-1]
            own = places.get(index, tuple(range(width)))
            joined += [NEW if place == NEW else before + place for place in own]
            before += width
        return tuple(joined) if len(joined) > before else None
    known = {places.get(index) for index in handed}
    given = known.pop()
    if known or given is None:
        return None
    width, wanted = edit.shape(handed[0])[-1], edit.shape(op.outputs[0])[-1]
    times = wanted // max(1, width)
    if times == 1:
        return given
    if edit.name(op) == "RESHAPE":
        return _repeated(given, times, width)
    return tuple(  # a depthwise convolution with a multiplier
        NEW if place == NEW else place * times + copy for place in given for copy in range(times)
    )


def _repeated(places: Places, times: int, width: int) -> Places:
    """Places of channels that stand behind each other once for each pixel."""
    return tuple(
        NEW if place == NEW else pixel * width + place for pixel in range(times) for place in places
    )


def _at_the_end(places: Places) -> bool:
    old = sum(place != NEW for place in places)
    return places[:old] == tuple(range(old))


def _whole(edit: TFLiteEditor, op: Any) -> bool:
    """Whether weights and biases are constants of whole bytes in their usual order."""
    bias = op.inputs[2] if len(op.inputs) > 2 and edit.name(op) != "TRANSPOSE_CONV" else -1
    usual = not getattr(op.builtinOptions, "weightsFormat", 0)
    constant = edit.values(op.inputs[1]) is not None
    return usual and constant and (bias < 0 or edit.values(bias) is not None)


def _paired(edit: TFLiteEditor, op: Any) -> list[int]:
    """Computed inputs with the channels of the output; none if one has channels of its own."""
    width = edit.shape(op.outputs[0])[-1]
    found = []
    for index in map(int, op.inputs):
        own = edit.shape(index)[-1:]
        if own == (width,) and edit.values(index) is None:
            found.append(index)
        elif own not in ((), (1,), (width,)):
            return []
    return found


def _kept_or_merged(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Whether channels stay the last axis, or are merged with the axes before them."""
    if before[-1] == after[-1]:
        return True
    kept = len(after) - 1
    return 0 < kept < len(before) and before[:kept] == after[:kept]
