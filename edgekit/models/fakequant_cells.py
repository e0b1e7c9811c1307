"""Cells of recurrent layers that compute in float what unrolled int8 ones compute.

All steps share the kernels and one range at each place: an int8 network puts the steps' results
together, which takes one scale.
"""

from __future__ import annotations

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
    """What all quantized cells do; `places` are the results that have ranges of their own."""

    rules: ClassVar[dict[str, tuple[int, ...]]] = {"kernel": (-1,), "recurrent_kernel": (-1,)}
    places: ClassVar[tuple[str, ...]]

    def __init__(
        self, *args: Any, ranges: Ranges = "moving", momentum: float = 0.99, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.ranges, self.momentum = ranges, momentum
        for place in (*self.places, *self._functions()):
            fixed = FIXED_RANGES.get(self._functions().get(place, ""))
            layer = FakeQuant(
                ranges="fixed" if fixed else ranges,
                momentum=momentum,
                name=f"{self.name}_{place}_range",  # type: ignore[attr-defined]
            )
            setattr(self, f"{place}_range", layer)

    def _functions(self) -> dict[str, str]:
        """The functions that the cell applies, by the attributes that hold them."""
        names = ("activation", "recurrent_activation")
        found = {name: getattr(self, name) for name in names if hasattr(self, name)}
        return {name: getattr(one, "__name__", "custom") for name, one in found.items()}

    def build(self, input_shape: Any) -> None:
        """See Keras."""
        super().build(input_shape)
        for place in (*self.places, *self._functions()):
            layer = getattr(self, f"{place}_range")
            if not layer.built:
                layer.build(None)
                fixed = FIXED_RANGES.get(self._functions().get(place, ""))
                if fixed:
                    layer.low.assign([fixed[0]])
                    layer.high.assign([fixed[1]])

    def at(self, place: str, x: Any, *, training: bool) -> Any:
        """The result of a place, rounded to its range."""
        return getattr(self, f"{place}_range")(x, training=training)

    def apply(self, function: str, x: Any, *, training: bool) -> Any:
        """The rounded result of one of the cell's functions."""
        return self.at(function, getattr(self, function)(x), training=training)

    def product(self, name: str, x: Any, bias: Any, *, training: bool) -> Any:
        """The rounded result of a kernel, with its bias."""
        result = ops.matmul(x, self.rounded(name, training=training))
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
        return {**super().get_config(), "ranges": self.ranges, "momentum": self.momentum}


class QuantizedLSTMCell(_Cell, keras.layers.LSTMCell):  # type: ignore[misc]
    """The quantized form of `keras.layers.LSTMCell`."""

    places = ("input", "recurrent", "sum", "kept", "new", "carry", "state")

    def call(self, inputs: Any, states: Any, training: bool = False) -> Any:  # type: ignore[override]
        """See Keras."""
        state, carry = states
        x, h = self.dropped(inputs, state, training=training)
        z = self.product("kernel", x, self.bias, training=training)
        z = z + self.product("recurrent_kernel", h, None, training=training)
        i, f, c, o = ops.split(self.at("sum", z, training=training), 4, axis=-1)
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
            kernel = self.rounded("recurrent_kernel", training=training)
            inner = self.at("recurrent", ops.matmul(h, kernel[:, :two]), training=training)
            gates = self._gates(z, inner, training=training)
            reset = self.at("reset", gates[1] * h, training=training)
            new = self.at("recurrent", ops.matmul(reset, kernel[:, two:]), training=training)
        new = self.at("sum", z[:, two:] + new, training=training)
        new = self.apply("activation", new, training=training)
        apart = self.at("apart", state - new, training=training)
        state = new + self.at("part", gates[0] * apart, training=training)
        state = self.at("state", state, training=training)
        return state, [state] if isinstance(states, (list, tuple)) else state

    def _gates(self, z: Any, inner: Any, *, training: bool) -> Any:
        gates = self.at("gates", z[:, : 2 * self.units] + inner, training=training)
        return ops.split(self.apply("recurrent_activation", gates, training=training), 2, axis=-1)


class QuantizedSimpleRNNCell(_Cell, keras.layers.SimpleRNNCell):  # type: ignore[misc]
    """The quantized form of `keras.layers.SimpleRNNCell`."""

    places = ("input", "recurrent", "sum")

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
