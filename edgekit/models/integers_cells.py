"""Cells of quantized recurrent layers on integers: their own code, with the kernels' rounding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType, MethodType
from typing import Any

import numpy as np
from keras import layers, ops

from edgekit.models import requantize
from edgekit.models.fakequant_cells import QUANTIZED_CELLS, QuantizedBidirectional, cells_within
from edgekit.models.requantize import Codes, codes_of

_LIMITS = ("relu", "relu6", "linear")


@dataclass(frozen=True)
class _Number:
    """A tensor within a cell.

    Attributes:
        value: the tensor.
        codes: of its values, if it is rounded.
        to: its integers on other codes, as its kernel rounds it; None where fake quantization does.
    """

    value: Any
    codes: Codes | None = None
    to: Callable[[Codes], Any] | None = None

    @property
    def shape(self) -> Any:
        """Of the tensor."""
        return self.value.shape

    def __getitem__(self, place: Any) -> _Number:
        """A part of rounded values."""
        return _Number(self.value[place], self.codes)

    def __add__(self, other: _Number) -> _Number:
        """The sum, not rounded."""
        return _Number(self.value + other.value, to=self._with(other, 1))

    def __sub__(self, other: _Number) -> _Number:
        """The difference, not rounded."""
        return _Number(self.value - other.value, to=self._with(other, -1))

    def __mul__(self, other: _Number) -> _Number:
        """The product, not rounded."""
        assert self.codes is not None
        assert other.codes is not None
        value, steps = self.value * other.value, np.asarray(self.codes.step * other.codes.step)
        return _Number(value, to=lambda codes: requantize.summed(value, steps, codes))

    def _with(self, other: _Number, sign: int) -> Callable[[Codes], Any]:
        assert self.codes is not None
        assert other.codes is not None
        terms = [(self.value, self.codes, 1), (other.value, other.codes, sign)]
        return lambda codes: requantize.added(terms, codes)


class _OnIntegers:
    """A cell whose own code is run on numbers.

    Args:
        cell: a quantized cell.
        codes: of its input.
    """

    def __init__(self, cell: Any, codes: Codes) -> None:
        self._cell, self._given = cell, codes
        self._codes = {place: codes_of(getattr(cell, f"{place}_range")) for place in cell._own()}
        self._codes[cell.result] = codes_of(getattr(cell, f"{cell.result}_range"))
        self._steps = {name: requantize.channel_steps(cell, name) for name in cell.rules}

    @property
    def results(self) -> Codes:
        """Of what the cell gives."""
        return self._codes[self._cell.result]

    def __getattr__(self, name: str) -> Any:
        """What the cell has; its functions run on this."""
        own = getattr(type(self._cell), name, None)
        return MethodType(own, self) if isinstance(own, FunctionType) else getattr(self._cell, name)

    def run(self, inputs: Any, states: Any, training: bool = False) -> Any:
        """As the cell's `call`, on tensors."""
        states = states if isinstance(states, (list, tuple)) else [states]
        kinds = (self.results, self._codes.get("carry", self.results))
        numbers = [_Number(state, codes) for state, codes in zip(states, kinds, strict=False)]
        call = type(self._cell).call
        result, kept = call(self, _Number(inputs, self._given), numbers, training=training)
        return result.value, [state.value for state in kept]

    def at(self, place: str, x: _Number, *, training: bool) -> _Number:
        """As the cell's: rounded to the range of a place."""
        if self._cell._in_relu(place):
            return x
        codes = self._codes[self._cell.same.get(place, place)]
        if x.to is None:
            return _Number(self._cell.at(place, x.value, training=training), codes)
        return _Number(requantize.on_steps(x.to(codes), codes), codes)

    def apply(self, function: str, x: _Number, *, training: bool) -> _Number:
        """As the cell's: the rounded result of a function."""
        limits = self._cell._functions()[function] in _LIMITS
        made = _Number(getattr(self._cell, function)(x.value), to=x.to if limits else None)
        return self.at(function, made, training=training)

    def product(
        self, name: str, x: _Number, bias: Any, *, training: bool, columns: slice = slice(None)
    ) -> _Number:
        """As the cell's: the rounded result of a kernel."""
        assert x.codes is not None
        value = ops.matmul(x.value, self._cell.rounded(name, training=training)[:, columns])
        value = value if bias is None else value + bias
        steps = x.codes.step * self._steps[name][columns]
        place = "input" if name == "kernel" else "recurrent"
        made = _Number(value, to=lambda codes: requantize.summed(value, steps, codes))
        return self.at(place, made, training=training)


@dataclass(frozen=True)
class Recurrent:
    """A recurrent layer on integers.

    Attributes:
        cells: what its cells run instead, by cell.
        results: codes of its results, if they are one.
    """

    cells: Mapping[Any, Callable[..., Any]]
    results: Codes | None

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """While the layer is called, its cells run on integers."""
        for cell, run in self.cells.items():
            object.__setattr__(cell, "call", run)
        try:
            yield
        finally:
            for cell in self.cells:
                object.__delattr__(cell, "call")


def recurrent(layer: Any, codes: Codes) -> Recurrent | None:
    """A layer of quantized cells on integers, or None if it is none.

    Args:
        layer: any layer.
        codes: of its input.
    """
    both = isinstance(layer, QuantizedBidirectional)
    ways = (layer.forward_layer, layer.backward_layer) if both else (layer,)
    if not all(isinstance(way, layers.RNN) for way in ways):
        return None
    runs: dict[Any, Callable[..., Any]] = {}
    ends = []
    for way in ways:
        end = codes
        for cell in cells_within(way):
            if not isinstance(cell, tuple(QUANTIZED_CELLS.values())):
                return None
            on = _OnIntegers(cell, end)
            runs[cell], end = on.run, on.results
        ends.append(end)
    known = ends[0] if not both or layer.results_range is not None else None
    return Recurrent(runs, known)
