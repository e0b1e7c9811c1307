"""Channels that must stay or go together, and what a layer does with them.

A channel of a tensor has an id. Ids that one weight or one operation ties to each other are united
(the dependency groups of Fang et al. 2023, "DepGraph"); ids that cannot go are frozen, with the
reason. A rule, one for each class of layers, says which axes of which weights follow which ids.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Size = Ids | tuple["int | Ids", ...]


@dataclass(frozen=True)
class Channels:
    """The channels of a tensor.

    Attributes:
        axis: that holds them; the batch is axis 0.
        ids: one for each index of the axis; flattened tensors repeat them.
    """

    axis: int
    ids: Ids


class Coupling:
    """A union-find of ids."""

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._reasons: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._parents)

    def new(self, count: int) -> Ids:
        """That many ids, each alone."""
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        return np.arange(first, first + count, dtype=np.int64)

    def unite(self, one: Ids, other: Ids) -> None:
        """Ties the ids of equal position."""
        for a, b in zip(one, other, strict=True):
            gone, stays = self._root(int(a)), self._root(int(b))
            if gone != stays:
                self._parents[gone] = stays
                if gone in self._reasons:
                    self._reasons.setdefault(stays, self._reasons[gone])

    def freeze(self, ids: Ids, reason: str) -> None:
        """Keeps ids, and all tied to them, in the model."""
        for one in ids:
            self._reasons.setdefault(self._root(int(one)), reason)

    def roots(self, ids: Ids) -> Ids:
        """What stands for all ids tied to each of these."""
        return np.array([self._root(int(one)) for one in ids], np.int64)

    def reason(self, one: int) -> str | None:
        """Why an id is frozen, or None if it may go."""
        return self._reasons.get(self._root(one))

    def _root(self, one: int) -> int:
        while self._parents[one] != one:
            self._parents[one] = one = self._parents[self._parents[one]]
        return one


@dataclass(frozen=True)
class Weight:
    """How one weight follows channels.

    Attributes:
        variable: the Keras variable.
        axes: for each axis the ids that its indices belong to, or None for an axis that stays.
        made: the axis whose channels this weight computes, as a filter does.
        taken: the axis that multiplies the channels of an input.
        source: which input that is; None: values within the layer.
        scale: it scales channels, as the gamma of a batch normalization does.
        also: another axis as `made`: an attention makes heads, and channels in each.
        averaged: ids by whose number's square root the layer divides what this weight computes, as
            attention does; the values make up for those that go.
    """

    variable: Any
    axes: tuple[Ids | None, ...]
    made: int | None = None
    taken: int | None = None
    source: int | None = 0
    scale: bool = False
    also: int | None = None
    averaged: Ids | None = None

    @property
    def multiplies(self) -> bool:
        """Whether it is a kernel, not a bias, which may have two axes too."""
        return self.made is not None or self.taken is not None or len(self.axes) > 2


@dataclass(frozen=True)
class Wiring:
    """What a layer does with channels.

    Attributes:
        outputs: the channels of each output tensor; None where none may go.
        weights: all weights of the layer.
        config: arguments of the layer that change with the channels, by their name (nested ones
            with dots): ids stand for how many of them stay.
        makes: the channels that the layer makes, by what they are called.
        macs: products of sizes whose sum is the multiply-accumulates of one call for one sample;
            none: they are in proportion to the kernels.
    """

    outputs: tuple[Channels | None, ...]
    weights: tuple[Weight, ...] = ()
    config: Mapping[str, Size] = field(default_factory=dict)
    makes: Mapping[str, Ids] = field(default_factory=dict)
    macs: tuple[tuple[int | Ids, ...], ...] = ()


@dataclass(frozen=True)
class Site:
    """A layer at one of its calls: what a rule works with.

    Attributes:
        label: name of the layer; `outer/inner` within a nested model.
        layer: the layer or operation.
        inputs: the channels of its input tensors; None where none may go.
        shapes: of its input tensors, with the batch.
        constants: arguments of the call that are no tensors of the graph.
        coupling: of all ids.
    """

    label: str
    layer: Any
    inputs: tuple[Channels | None, ...]
    shapes: tuple[tuple[int | None, ...], ...]
    constants: tuple[Any, ...]
    coupling: Coupling

    @property
    def axis(self) -> int:
        """The channel axis by the layer's data format."""
        first = getattr(self.layer, "data_format", None) == "channels_first"
        return 1 if first else len(self.shapes[0]) - 1

    def taken(self, axis: int | None = None, source: int = 0) -> Ids | None:
        """The ids of an input on `axis` (by default the channel axis); elsewhere they freeze."""
        channels = self.inputs[source]
        if channels is None:
            return None
        axis = self.axis if axis is None else axis % len(self.shapes[source])
        if channels.axis == axis:
            return channels.ids
        self.freeze(channels.ids, "it works along another axis than that of the channels")
        return None

    def new(self, count: int) -> Ids:
        """Ids of channels that the layer makes."""
        return self.coupling.new(count)

    def freeze(self, ids: Ids, reason: str) -> None:
        """Keeps channels, because of this layer."""
        self.coupling.freeze(ids, f"{self.label} ({type(self.layer).__name__}): {reason}")

    def keep_all(self, reason: str) -> Wiring:
        """The wiring of a layer that can lose no channel of any input, nor of what it makes."""
        for channels in self.inputs:
            if channels is not None:
                self.freeze(channels.ids, reason)
        return Wiring((None,))


Rule = Callable[[Site], Wiring]
