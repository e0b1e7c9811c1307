"""Cells of recurrent layers that compute in float what unrolled int8 ones compute.

All steps share the kernels and one range at each place: an int8 network puts the steps' results
together, which takes one scale.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import keras
from keras import ops

from edgekit.models.fakequant import (
    FIXED_RANGES,
    PACKAGE,
    FakeQuant,
    Quantized,
    Ranges,
)


class _Cell(Quantized):
    """What all quantized cells do.

    `places` are the results that have ranges. `same` are those that have the range of another: the
    first step has no state, so that its sum is the other summand, and XNNPACK brings that to
    another scale only to a 256th. `taken_in` is the sum that a ReLU after it becomes a part of.
    `result` is the place of what the cell gives.

    Args:
        slot: of the range of the results, which `QuantizedBidirectional` gives to both directions;
            None: it is the cell's own.
    """

    rules: ClassVar[dict[str, tuple[int, ...]]] = {"kernel": (-1,), "recurrent_kernel": (-1,)}
    places: ClassVar[tuple[str, ...]]
    same: ClassVar[dict[str, str]] = {}
    taken_in: ClassVar[str | None] = None
    result: ClassVar[str] = "state"

    def __init__(
        self,
        *args: Any,
        ranges: Ranges = "moving",
        momentum: float = 0.99,
        slot: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.ranges, self.momentum = ranges, momentum
        known = self._functions().get(self.result) in FIXED_RANGES  # the same in both directions
        self.slot = None if known else slot
        for place in self._own():
            fixed = FIXED_RANGES.get(self._functions().get(place, ""))
            layer = FakeQuant(
                slots=len(self._slots(place)),
                ranges="fixed" if fixed else ranges,
                momentum=momentum,
                name=f"{self.name}_{place}_range",  # type: ignore[attr-defined]
            )
            setattr(self, f"{place}_range", layer)

    def _own(self) -> list[str]:
        """The places that have a range of their own."""
        given = {*self.same, *((self.result,) if self.slot is not None else ())}
        every = (*self.places, *self._functions())
        return [place for place in every if place not in given and not self._in_relu(place)]

    def _slots(self, owner: str) -> list[str]:
        """The places that have this one's range."""
        return [owner, *(place for place, other in self.same.items() if other == owner)]

    def _in_relu(self, place: str) -> bool:
        return place == self.taken_in and self._functions()["activation"] in ("relu", "relu6")

    def _functions(self) -> dict[str, str]:
        """The functions that the cell applies, by the attributes that hold them."""
        names = ("activation", "recurrent_activation")
        found = {name: getattr(self, name) for name in names if hasattr(self, name)}
        return {name: getattr(one, "__name__", "custom") for name, one in found.items()}

    def build(self, input_shape: Any) -> None:
        """See Keras."""
        super().build(input_shape)
        for place in self._own():
            layer = getattr(self, f"{place}_range")
            if not layer.built:
                layer.build(None)
                fixed = FIXED_RANGES.get(self._functions().get(place, ""))
                if fixed:
                    layer.low.assign([fixed[0]])
                    layer.high.assign([fixed[1]])

    def at(self, place: str, x: Any, *, training: bool) -> Any:
        """The result of a place, rounded to its range."""
        if self._in_relu(place):
            return x
        owner = self.same.get(place, place)
        slot = self._slots(owner).index(place)
        if place == self.result and self.slot is not None:
            slot = self.slot
        return getattr(self, f"{owner}_range")(x, slot=slot, training=training)

    def apply(self, function: str, x: Any, *, training: bool) -> Any:
        """The rounded result of one of the cell's functions."""
        return self.at(function, getattr(self, function)(x), training=training)

    def product(
        self, name: str, x: Any, bias: Any, *, training: bool, columns: slice = slice(None)
    ) -> Any:
        """The rounded result of some columns of a kernel, with its bias."""
        result = ops.matmul(x, self.rounded(name, training=training)[:, columns])
        place = "input" if name == "kernel" else "recurrent"
        return self.at(place, result if bias is None else result + bias, training=training)

    def dropped(self, x: Any, state: Any, *, training: bool) -> tuple[Any, Any]:
        """Input and state after their dropout."""
        if training and self.dropout:  # type: ignore[attr-defined]
            x = x * self.get_dropout_mask(x)  # type: ignore[attr-defined]
        if training and self.recurrent_dropout:  # type: ignore[attr-defined]
            state = state * self.get_recurrent_dropout_mask(state)  # type: ignore[attr-defined]
        return x, state

    def get_config(self) -> dict[str, Any]:
        """See Keras."""
        own = {name: getattr(self, name) for name in ("ranges", "momentum", "slot")}
        return {**super().get_config(), **own}


def _parts(x: Any, count: int) -> list[Any]:
    """Equal parts of the last axis.

    Slices, because the first step needs only some of them, having no state yet, and TensorFlow's
    converter leaves a split in float of which a part is not used.
    """
    size = x.shape[-1] // count
    return [x[:, size * part : size * (part + 1)] for part in range(count)]


class QuantizedLSTMCell(_Cell, keras.layers.LSTMCell):  # type: ignore[misc]
    """The quantized form of `keras.layers.LSTMCell`."""

    places = ("input", "recurrent", "sum", "kept", "new", "carry", "state")
    same: ClassVar = {"sum": "input", "new": "carry"}

    def call(self, inputs: Any, states: Any, training: bool = False) -> Any:  # type: ignore[override]
        """See Keras."""
        state, carry = states
        x, h = self.dropped(inputs, state, training=training)
        z = self.product("kernel", x, self.bias, training=training)
        z = z + self.product("recurrent_kernel", h, None, training=training)
        i, f, c, o = _parts(self.at("sum", z, training=training), 4)
        i, f, o = (self.apply("recurrent_activation", one, training=training) for one in (i, f, o))
        c = self.apply("activation", c, training=training)
        kept = self.at("kept", f * carry, training=training)
        carry = self.at("carry", kept + self.at("new", i * c, training=training), training=training)
        state = o * self.apply("activation", carry, training=training)
        state = self.at("state", state, training=training)
        return state, [state, carry]


class QuantizedGRUCell(_Cell, keras.layers.GRUCell):  # type: ignore[misc]
    """The quantized form of `keras.layers.GRUCell`.

    The last step, z h + (1 - z) c, is computed as c + z (h - c), which is one operation less.
    """

    places = ("input", "recurrent", "gates", "reset", "sum", "apart", "part", "state")
    same: ClassVar = {"gates": "input", "sum": "input"}
    taken_in = "sum"

    def runs(self, name: str) -> tuple[int, ...]:
        """See `Quantized.runs`; a file has what is multiplied apart as two kernels."""
        runs = super().runs(name)
        if len(runs) == 1 and name == "recurrent_kernel" and not self.reset_after:
            return (2 * self.units, self.units)
        return runs

    def call(self, inputs: Any, states: Any, training: bool = False) -> Any:  # type: ignore[override]
        """See Keras."""
        state = states[0] if isinstance(states, (list, tuple)) else states
        x, h = self.dropped(inputs, state, training=training)
        bias = [None, None]
        if self.use_bias:
            bias = list(ops.unstack(self.bias)) if self.reset_after else [self.bias, None]
        z = self.product("kernel", x, bias[0], training=training)
        two = 2 * self.units
        if self.reset_after:
            inner = self.product("recurrent_kernel", h, bias[1], training=training)
            gates = self._gates(z, inner[:, :two], training=training)
            new = self.at("reset", gates[1] * inner[:, two:], training=training)
        else:
            product = partial(self.product, "recurrent_kernel", bias=None, training=training)
            inner = product(h, columns=slice(two))
            gates = self._gates(z, inner, training=training)
            reset = self.at("reset", gates[1] * h, training=training)
            new = product(reset, columns=slice(two, None))
        new = self.at("sum", z[:, two:] + new, training=training)
        new = self.apply("activation", new, training=training)
        apart = self.at("apart", state - new, training=training)
        state = new + self.at("part", gates[0] * apart, training=training)
        state = self.at("state", state, training=training)
        return state, [state] if isinstance(states, (list, tuple)) else state

    def _gates(self, z: Any, inner: Any, *, training: bool) -> Any:
        gates = self.at("gates", z[:, : 2 * self.units] + inner, training=training)
        return _parts(self.apply("recurrent_activation", gates, training=training), 2)


class QuantizedSimpleRNNCell(_Cell, keras.layers.SimpleRNNCell):  # type: ignore[misc]
    """The quantized form of `keras.layers.SimpleRNNCell`."""

    places = ("input", "recurrent", "sum")
    same: ClassVar = {"sum": "input"}
    taken_in = "sum"
    result = "activation"

    def call(self, sequence: Any, states: Any, training: bool = False) -> Any:  # type: ignore[override]
        """See Keras."""
        state = states[0] if isinstance(states, (list, tuple)) else states
        x, h = self.dropped(sequence, state, training=training)
        z = self.product("kernel", x, self.bias, training=training)
        z = z + self.product("recurrent_kernel", h, None, training=training)
        state = self.apply("activation", self.at("sum", z, training=training), training=training)
        return state, [state] if isinstance(states, (list, tuple)) else state


QUANTIZED_CELLS: dict[type, type] = {
    plain: keras.saving.register_keras_serializable(PACKAGE)(made)
    for plain, made in (
        (keras.layers.LSTMCell, QuantizedLSTMCell),
        (keras.layers.GRUCell, QuantizedGRUCell),
        (keras.layers.SimpleRNNCell, QuantizedSimpleRNNCell),
    )
}


@keras.saving.register_keras_serializable(PACKAGE)
class QuantizedBidirectional(keras.layers.Bidirectional):  # type: ignore[misc]
    """Two directions whose results have one range, so that they are put together as they are."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.results_range = None
        cells = [last_cell(one) for one in (self.forward_layer, self.backward_layer)]
        if cells[0].slot is not None:
            self.results_range = FakeQuant(
                slots=len(cells),
                ranges=cells[0].ranges,
                momentum=cells[0].momentum,
                name=f"{self.name}_results_range",
            )
            for cell in cells:  # it is a weight of this layer only; theirs may be built already
                object.__setattr__(cell, f"{cell.result}_range", self.results_range)

    def build(self, sequences_shape: Any, initial_state_shape: Any = None) -> None:
        """See Keras."""
        if self.results_range is not None and not self.results_range.built:
            self.results_range.build(None)
        super().build(sequences_shape, initial_state_shape)

    def call(
        self, sequences: Any, initial_state: Any = None, mask: Any = None, training: Any = None
    ) -> Any:
        """See Keras; the reversed results are rounded again, as converters need it."""
        if mask is not None:
            raise ValueError("quantized directions take no mask")
        half = len(initial_state or ()) // 2
        given = (initial_state[:half], initial_state[half:]) if half else (None, None)
        ways = (self.forward_layer, self.backward_layer)
        results, states = [], []
        for way, state in zip(ways, given, strict=True):
            result = way(sequences, initial_state=state, training=training)
            if self.return_state:
                result, *kept = result
                states += kept
            results.append(result)
        if self.return_sequences:
            cell = last_cell(self.backward_layer)
            again = getattr(cell, f"{cell.result}_range")
            results[1] = again(ops.flip(results[1], axis=1), slot=None, training=training)
        if self.merge_mode is None:
            return (*results, *states)
        one, other = results
        if self.merge_mode == "concat":
            merged = ops.concatenate(results, axis=-1)
        elif self.merge_mode == "mul":
            merged = one * other
        else:
            merged = (one + other) / (2 if self.merge_mode == "ave" else 1)
        return (merged, *states) if states else merged


def cells_within(layer: Any) -> list[Any]:
    """The cells of a recurrent layer of one direction, one on the other."""
    return list(getattr(layer.cell, "cells", [layer.cell]))


def last_cell(layer: Any) -> Any:
    """The cell whose results a recurrent layer gives."""
    return cells_within(layer)[-1]
