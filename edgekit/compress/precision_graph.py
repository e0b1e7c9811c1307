"""The parts of a model that have a precision each, and where values are rounded between them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from edgekit.base.extras import require
from edgekit.compress.folding import fold_batch_norm
from edgekit.compress.qat_graph import Settings, quantized_with_origins
from edgekit.models.calls import Call, call_graph
from edgekit.models.files import as_functional

if TYPE_CHECKING:
    import keras

Choice = Literal["int8", "int16x8", "fp32"]
CHOICES: tuple[Choice, ...] = get_args(Choice)  # from coarse to fine
Assignment = Mapping[str, Choice]

_OPERATION = "files do not name the operations that belong to no layer: it stays int8"
_RELUS = ("ReLU", "Activation", "Relu", "Relu6")
# Layers that leave nothing in a file.
_VANISH = (
    *("Dropout", "SpatialDropout", "GaussianNoise", "GaussianDropout", "AlphaDropout"),
    *("ActivityRegularization", "Identity", "Masking"),
)
# Layers that become one with a neighbour that changes shapes, as all on one spatial axis do.
_SHAPES = ("Flatten", "Reshape", "ExpandDims", "Squeeze", "RepeatVector")


@dataclass(frozen=True)
class Unit:
    """What has one precision: a layer with the ReLU that it takes in, at all places of its calls.

    Attributes:
        label: name of the layer; `outer/inner` for one within a nested model.
        kind: its class.
        matrices: weights in matrices, which files hold in 8 bits or in 32.
        vectors: weights in vectors, such as biases.
        results: values that it makes of one sample, at all places.
        fixed: why it must stay int8, or None.
        partly: its kernels and its result are rounded, and nothing between them.
    """

    label: str
    kind: str
    matrices: int
    vectors: int
    results: int
    fixed: str | None = None
    partly: bool = False


@dataclass(frozen=True)
class Range:
    """Where a value is rounded.

    Attributes:
        source: the value before.
        shared: ends of the range of all values with its scale.
        own: ends of its own range.
        joins: units that put the values of the scale together, which needs one scale in int8.
    """

    source: int
    shared: tuple[float, float]
    own: tuple[float, float]
    joins: frozenset[str] = frozenset()

    def limits(self, assignment: Assignment) -> tuple[float, float]:
        """Ends of the range that the value has if the units have these precisions."""
        joined = any(assignment.get(unit, "int8") == "int8" for unit in self.joins)
        return self.shared if joined else self.own


def coarser(one: Choice, other: Choice) -> Choice:
    """The precision that loses more."""
    return min(one, other, key=CHOICES.index)


def finer(one: Choice, other: Choice) -> Choice:
    """The precision that loses less."""
    return max(one, other, key=CHOICES.index)


class PrecisionGraph:
    """A copy of a model, normalization folded, with a range behind all that runtimes fuse.

    Args:
        model: a functional or Sequential model; it is not changed.

    Attributes:
        model: the copy. Its kernels are used as they are, whatever its ranges do.
        graph: its calls.
        units: what has a precision, in the order of their first calls.
        unit_of: the unit of each call by its number; calls that round or move values have none.
    """

    def __init__(self, model: keras.Model) -> None:
        from edgekit.models.fakequant import quantized_layers

        folded, _ = fold_batch_norm(as_functional(model))
        settings = Settings(weight_bits=8, ranges="moving", momentum=0.0)
        self.model, self._origins = quantized_with_origins(folded, settings, _recurrent(folded))
        for layer in quantized_layers(self.model):
            layer.baked = True
        self.graph = call_graph(self.model)
        self.producers = self.graph.producers()
        self.unit_of = self._units_of_calls()
        self.units = self._units()

    def made(self, assignment: Assignment) -> dict[int, Choice]:
        """The precision that each value is made in."""
        made: dict[int, Choice] = dict.fromkeys(self.graph.inputs, "fp32")
        for index, call in enumerate(self.graph.calls):
            unit = self.unit_of.get(index)
            choice = assignment.get(unit, "int8") if unit else made[call.inputs[0]]
            made |= dict.fromkeys(call.outputs, choice)
        return made

    def layers(self, assignment: Assignment) -> dict[str, Choice]:
        """The layers that are not int8, for a plan, with those that only move values.

        A layer that moves values takes the finest precision that is of use at its places.
        """
        found = {unit.label: assignment.get(unit.label, "int8") for unit in self.units}
        made, taken = self.made(assignment), self._taken(assignment)
        for index, call in enumerate(self.graph.calls):
            origin = self._origins.get(id(call.layer))
            if index in self.unit_of or origin is None or not is_layer(call.layer):
                continue
            if not self._vanishes(call):
                here = coarser(made[call.inputs[0]], taken.get(call.outputs[0], "int8"))
                found[origin.label] = finer(found.get(origin.label, "int8"), here)
        return {label: choice for label, choice in found.items() if choice != "int8"}

    def _vanishes(self, call: Call) -> bool:
        """Whether files hold no operator of a call that moves values."""
        if call.kind.rstrip("123D") in _VANISH:
            return True
        if call.kind not in _SHAPES:
            return False
        around = [self.producers.get(call.inputs[0]), *self.graph.consumers()[call.outputs[0]]]
        others = [type(one.layer).__name__ for one in around if one is not None]
        same = call.shapes[0] == call.output_shapes[0]
        return same or any(kind in _SHAPES or "1D" in kind for kind in others)

    def after(self, unit: str) -> set[int]:
        """The values that a unit has a part in."""
        reached: set[int] = set()
        for index, call in enumerate(self.graph.calls):
            if self.unit_of.get(index) == unit or not reached.isdisjoint(call.inputs):
                reached.update(call.outputs)
        return reached

    def ranges(self) -> dict[int, Range]:
        """The values that are rounded; to be asked when the model is calibrated."""
        from edgekit.models.fakequant import FakeQuant, range_of

        joins: dict[int, set[str]] = defaultdict(set)
        joined: dict[int, Any] = {}
        rounded = {c.inputs[0] for c in self.graph.calls if isinstance(c.layer, FakeQuant)}
        for index, call in enumerate(self.graph.calls):
            origin = self._origins.get(id(call.layer))
            if origin is None or origin.kind != "join":
                continue
            scales = [scale for value in call.inputs if (scale := self._scale(value)) is not None]
            for scale in scales:
                joins[id(scale)].add(self.unit_of[index])
            if scales and call.outputs[0] not in rounded:
                joined[call.outputs[0]] = scales[0]
        found = {}
        for value, scale in joined.items():
            ends = range_of(scale)
            found[value] = Range(value, ends, ends)
        for call in self.graph.calls:
            if isinstance(call.layer, FakeQuant):
                ends = range_of(call.layer)
                slot = next((one for one in call.constants if isinstance(one, int)), None)
                own = ends if slot is None else _ends(call.layer, slot)
                units = frozenset(joins[id(call.layer)])
                found[call.outputs[0]] = Range(call.inputs[0], ends, own, units)
        return found

    def _scale(self, value: int) -> Any:
        """The range that a value has, that came here by moves; None if it has none."""
        from edgekit.models.fakequant import FakeQuant

        numbers = {id(call): index for index, call in enumerate(self.graph.calls)}
        call = self.producers.get(value)
        while call is not None and not isinstance(call.layer, FakeQuant):
            if numbers[id(call)] in self.unit_of:
                return None
            call = self.producers.get(call.inputs[0])
        return None if call is None else call.layer

    def _taken(self, assignment: Assignment) -> dict[int, Choice]:
        """The finest precision that each value is taken in."""
        taken: dict[int, Choice] = dict.fromkeys(self.graph.outputs, "fp32")
        for index, call in reversed(list(enumerate(self.graph.calls))):
            unit = self.unit_of.get(index)
            choice: Choice = assignment.get(unit, "int8") if unit else "int8"
            if unit is None:
                for value in call.outputs:
                    choice = finer(choice, taken.get(value, "int8"))
            for value in call.inputs:
                taken[value] = finer(taken.get(value, "int8"), choice)
        return taken

    def _units_of_calls(self) -> dict[int, str]:
        units: dict[int, str] = {}
        makers: dict[int, str] = {}
        for index, call in enumerate(self.graph.calls):
            origin = self._origins.get(id(call.layer))
            if origin is None or origin.kind == "move":
                continue
            # A ReLU that follows a unit with no range between them is one that it takes in.
            into = makers.get(call.inputs[0]) if call.kind in _RELUS else None
            units[index] = into or origin.label
            makers |= dict.fromkeys(call.outputs, units[index])
        return units

    def _units(self) -> tuple[Unit, ...]:
        calls: dict[str, list[Call]] = defaultdict(list)
        for index, label in self.unit_of.items():
            calls[label].append(self.graph.calls[index])
        return tuple(self._unit(label, those) for label, those in calls.items())

    def _unit(self, label: str, calls: list[Call]) -> Unit:
        from edgekit.models.fakequant import quantized_class

        first = calls[0].layer
        named = is_layer(first)
        kind = type(first).__name__.removeprefix("Quantized") if named else type(first).__name__
        sizes = [tuple(weight.shape) for weight in first.weights] if named else []
        plain = self._origins[id(first)].kind != "other" or quantized_class(type(first))
        return Unit(
            label,
            kind,
            matrices=sum(int(np.prod(size)) for size in sizes if len(size) > 1),
            vectors=sum(int(np.prod(size)) for size in sizes if len(size) < 2),
            results=sum(_elements(shape) for call in calls for shape in call.output_shapes),
            fixed=None if named else _OPERATION,
            partly=not plain and any(len(size) > 1 for size in sizes),
        )


def _recurrent(model: keras.Model) -> frozenset[str]:
    """Labels of layers with ranges of their own within them, which have one precision here."""
    layers = require("keras", purpose="to simulate quantized models").layers
    kinds = (layers.RNN, layers.Bidirectional)
    return frozenset(c.label for c in call_graph(model).calls if isinstance(c.layer, kinds))


def is_layer(one: Any) -> bool:
    """Whether it is a layer, with a name in files, or one of Keras' operations."""
    return isinstance(one, require("keras", purpose="to simulate quantized models").Layer)


def _elements(shape: tuple[int | None, ...]) -> int:
    return int(np.prod([size or 1 for size in shape[1:]]))


def _ends(layer: Any, slot: int) -> tuple[float, float]:
    low, high = float(layer.low[slot]), float(layer.high[slot])
    return (low, high) if high > low else (low, low + 1.0)
