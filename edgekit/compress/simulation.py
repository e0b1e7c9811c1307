"""What a model computes with each layer in a precision of its own, simulated in Keras.

Weights lie on the int8 grid of each channel; activations on the affine int8 grid that min-max
calibration gives them (Jacob et al. 2018), or on the symmetric one of int16x8. Between two layers
a value has the coarser precision of both: a layer in higher precision reads what an int8 layer
wrote, and the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.base.extras import require
from edgekit.compress.activations import input_batches
from edgekit.compress.kernels import find_kernels
from edgekit.compress.precision_graph import Assignment, Choice, PrecisionGraph, Unit, coarser
from edgekit.compress.quantization_aware import calibrate
from edgekit.data.dataset import Arrays, Split
from edgekit.models.calls import CallGraph

if TYPE_CHECKING:
    import keras

    from edgekit.compress.precision_graph import Range

_BITS = {"int8": 8, "int16x8": 16}


class Simulation:
    """A model whose layers can be given precisions.

    Args:
        model: a functional or Sequential model; it is not changed.
        calibration: its samples set the ranges of activations.
    """

    def __init__(self, model: keras.Model, calibration: Split) -> None:
        self.precisions = PrecisionGraph(model)
        self._model = self.precisions.model
        self._graph: CallGraph = self.precisions.graph
        self._weights = _rounded_weights(self._model, self._graph)
        calibrate(self._model, calibration)
        self._ranges = self.precisions.ranges()

    @property
    def units(self) -> tuple[Unit, ...]:
        """What has a precision of its own, in the order in which it runs."""
        return self.precisions.units

    def uniform(self, choice: Choice) -> dict[str, Choice]:
        """All units in one precision; those that must stay int8 are float in fp32 only."""
        return {u.label: choice for u in self.units if not u.fixed or choice == "fp32"}

    def batches(self, split: Split, samples: int | None = None) -> list[list[Any]]:
        """The first samples of a split, a list of input tensors a batch."""
        return input_batches(self._model, split, samples)

    def outputs(self, split: Split, assignment: Assignment, samples: int | None = None) -> Arrays:
        """The outputs on the first samples of a split, float32, by name.

        Args:
            split: samples.
            assignment: precisions by unit; int8 for those that it leaves out.
            samples: how many; None: all.
        """
        parts = [
            self.results(self.run(batch, assignment), assignment)
            for batch in self.batches(split, samples)
        ]
        joined = [np.concatenate(column) for column in zip(*parts, strict=True)]
        return dict(zip(self._model.output_names, joined, strict=True))

    def run(
        self, batch: Sequence[Any], assignment: Assignment, known: Mapping[int, Any] | None = None
    ) -> dict[int, Any]:
        """What the units make of a batch, before it is rounded, by the values of the graph.

        Args:
            batch: tensors of the inputs.
            assignment: precisions by unit; int8 for those that it leaves out.
            known: values of an earlier run that are the same in this one.
        """
        values = {**(known or {}), **dict(zip(self._graph.inputs, batch, strict=True))}
        reader = self._reader(values, assignment)
        for index, call in enumerate(self._graph.calls):
            unit = self.precisions.unit_of.get(index)
            if unit is None or all(value in values for value in call.outputs):
                continue
            choice = assignment.get(unit, "int8")
            given = {value: reader.read(value, choice) for value in call.inputs}
            values |= reader.call(index, given, rounded=choice != "fp32")
        return values

    def results(self, values: dict[int, Any], assignment: Assignment) -> list[NDArray[Any]]:
        """The outputs of the model in a `run`."""
        reader = self._reader(values, assignment)
        return [np.asarray(reader.read(value, "fp32")) for value in self._graph.outputs]

    def _reader(self, values: dict[int, Any], assignment: Assignment) -> _Reader:
        return _Reader(self.precisions, self._ranges, self._weights, values, assignment)


class _Reader:
    """Values as the units of one assignment take them."""

    def __init__(
        self,
        graph: PrecisionGraph,
        ranges: Mapping[int, Range],
        weights: Mapping[int, list[tuple[Any, Any]]],
        values: dict[int, Any],
        assignment: Assignment,
    ) -> None:
        self._graph, self._ranges, self._weights = graph, ranges, weights
        self._values, self._assignment = values, assignment
        self._made = graph.made(assignment)
        self._numbers = {v: i for i, c in enumerate(graph.graph.calls) for v in c.outputs}
        self._read: dict[tuple[int, Choice], Any] = {}

    def read(self, value: int, choice: Choice) -> Any:
        """A value in a precision, or in that in which it was made if that is coarser."""
        if (value, choice) not in self._read:
            place = self._ranges.get(value)
            if place is not None:
                both = coarser(self._made[place.source], choice)
                plain = place.source in self._values
                before = self._values[place.source] if plain else self.read(place.source, both)
                self._read[value, choice] = rounded(before, place.limits(self._assignment), both)
            elif value in self._values:
                self._read[value, choice] = self._values[value]
            else:
                index = self._numbers[value]
                given = {v: self.read(v, choice) for v in self._graph.graph.calls[index].inputs}
                for made, tensor in self.call(index, given, rounded=False).items():
                    self._read[made, choice] = tensor
        return self._read[value, choice]

    def call(self, index: int, given: Mapping[int, Any], *, rounded: bool) -> dict[int, Any]:
        """Runs a call, with its kernels rounded or not."""
        keras = require("keras", purpose="to simulate quantized models")
        call = self._graph.graph.calls[index]
        kernels = self._weights.get(id(call.layer), []) if rounded else []
        with keras.StatelessScope(state_mapping=kernels):
            return call.run(given)


def rounded(tensor: Any, limits: tuple[float, float], choice: Choice) -> Any:
    """A tensor on the grid of a precision.

    Args:
        tensor: float values of any shape.
        limits: ends of their range, which contains zero.
        choice: int8: 256 affine steps; int16x8: symmetric steps of 16 bits; fp32: as it is.
    """
    if choice == "fp32":
        return tensor
    low, high = limits
    if choice == "int16x8":
        high = max(-low, high)
        low = -high
    quantize = require("keras", purpose="to simulate quantized models").quantizers
    made = quantize.fake_quant_with_min_max_vars(
        tensor, low, high, num_bits=_BITS[choice], narrow_range=choice == "int16x8"
    )
    with suppress(AttributeError):  # Keras carries masks on tensors
        made._keras_mask = tensor._keras_mask
    return made


def _rounded_weights(model: keras.Model, graph: CallGraph) -> dict[int, list[tuple[Any, Any]]]:
    """The kernels of each called layer, by its `id`, with their values on the int8 grid."""
    from edgekit.models.fakequant import quantized_layers

    found = {
        id(layer): [(getattr(layer, name), layer.quantized_kernel(name)) for name in layer.rules]
        for layer in quantized_layers(model)
    }
    kernels = {id(kernel.variable): kernel for kernel in find_kernels(model)[0]}
    for call in graph.calls:
        if id(call.layer) not in found:
            those = [kernels[id(w)] for w in getattr(call.layer, "weights", ()) if id(w) in kernels]
            found[id(call.layer)] = [(k.variable, _nearest(k.values, k.channels)) for k in those]
    return found


def _nearest(kernel: NDArray[Any], channels: Sequence[int]) -> NDArray[np.float32]:
    """A kernel with a step for each output channel, the largest weight at 127."""
    axes = {axis % kernel.ndim for axis in channels}
    rest = tuple(axis for axis in range(kernel.ndim) if axis not in axes)
    largest = np.abs(kernel).max(axis=rest, keepdims=True)
    steps = np.where(largest > 0, largest, 127) / 127
    return (np.round(kernel / steps) * steps).astype(np.float32)
