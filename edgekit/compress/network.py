"""The channels of a whole model, traced through its calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.base.errors import InputError
from edgekit.compress.channel_rules import find_rule
from edgekit.compress.coupling import Channels, Coupling, Ids, Site, Wiring
from edgekit.compress.kernels import Untreated
from edgekit.models.calls import Call, CallGraph, call_graph

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Wired:
    """A layer, once for all its calls."""

    label: str
    layer: Any
    wiring: Wiring

    @property
    def kind(self) -> str:
        """Class of the layer."""
        return type(self.layer).__name__


@dataclass(frozen=True)
class Group:
    """Channels that the same layers make: which of them goes is a matter of importance alone.

    Attributes:
        makers: label of each layer that makes them, and what it calls them.
        roots: one id for each set of channels that go together.
    """

    makers: tuple[tuple[str, str], ...]
    roots: Ids


@dataclass(frozen=True)
class Network:
    """A model with its channels.

    Attributes:
        graph: the calls.
        layers: what each layer does with channels.
        channels: of each value of the graph.
        coupling: which channels go together.
        untreated: layers that can lose no channels, and why; those that make the model's outputs
            are left out.
    """

    graph: CallGraph
    layers: tuple[Wired, ...]
    channels: Mapping[int, Channels | None]
    coupling: Coupling
    untreated: tuple[Untreated, ...]

    def groups(self) -> list[Group]:
        """The channels that may go, grouped by the layers that make them."""
        makers: dict[int, Counter[tuple[str, str]]] = {}
        for wired, name, ids in self.made():
            for root in self.coupling.roots(ids):
                makers.setdefault(int(root), Counter())[wired.label, name] += 1
        found: dict[tuple[Any, ...], list[int]] = {}
        for root, counted in makers.items():
            if self.coupling.reason(root) is None:
                found.setdefault(tuple(sorted(counted.items())), []).append(root)
        return [
            Group(tuple(maker for maker, _ in key), np.array(roots, np.int64))
            for key, roots in found.items()
        ]

    def made(self) -> Iterator[tuple[Wired, str, Ids]]:
        """Each layer that makes channels, what they are called, and the ids."""
        for wired in self.layers:
            for name, ids in wired.wiring.makes.items():
                yield wired, name, ids


def trace(model: keras.Model) -> Network:
    """Follows the channels through a functional or Sequential model.

    Raises:
        InputError: the rule of a custom layer does not fit the layer.
    """
    graph, coupling = call_graph(model), Coupling()
    channels: dict[int, Channels | None] = dict.fromkeys(graph.inputs)
    found: dict[int, Wired] = {}
    unknown: dict[str, Untreated] = {}
    for call in graph.calls:
        site = Site(
            call.label,
            call.layer,
            tuple(channels[value] for value in call.inputs),
            call.shapes,
            tuple(call.constants),
            coupling,
        )
        wiring, reason = _wire(site)
        if reason is not None:
            unknown[call.label] = Untreated(call.label, call.kind, reason)
        if id(call.layer) in found:
            _unite(found[id(call.layer)].wiring, wiring, site)
        else:
            found[id(call.layer)] = Wired(call.label, call.layer, wiring)
        channels |= _outputs(call, wiring, site)
    outputs = [last.ids for value in graph.outputs if (last := channels[value]) is not None]
    for ids in outputs:
        coupling.freeze(ids, "it is an output of the model")
    network = Network(graph, tuple(found.values()), channels, coupling, tuple(unknown.values()))
    return replace(network, untreated=(*network.untreated, *_frozen(network, outputs)))


def _outputs(call: Call, wiring: Wiring, site: Site) -> dict[int, Channels | None]:
    outputs = wiring.outputs
    if len(outputs) < len(call.outputs):
        for one in outputs:
            if one is not None:
                site.freeze(one.ids, "it has more outputs than its rule knows")
        outputs = (None,) * len(call.outputs)
    return dict(zip(call.outputs, outputs, strict=True))


def _wire(site: Site) -> tuple[Wiring, str | None]:
    """The wiring of a layer, and why it has no other than to keep all."""
    rule = find_rule(site.layer)
    if rule is None:
        reason = "what it does with channels is not known"
        return site.keep_all(reason), reason
    wiring = rule(site)
    wired = {id(weight.variable) for weight in wiring.weights}
    stored = {id(variable) for variable in getattr(site.layer, "weights", ())}
    if wiring.weights and wired != stored:
        reason = "it has other weights than its rule knows"
        for ids in wiring.makes.values():
            site.freeze(ids, reason)
        return site.keep_all(reason), reason
    for weight in wiring.weights:
        sizes = tuple(weight.variable.shape)
        fits = [i is None or len(i) == n for i, n in zip(weight.axes, sizes, strict=False)]
        if len(sizes) != len(weight.axes) or not all(fits):
            raise InputError(
                f"the rule of {type(site.layer).__name__} does not fit its weight "
                f"{weight.variable.name} of shape {sizes}",
                where=site.label,
            )
    return wiring, None


def _unite(first: Wiring, again: Wiring, site: Site) -> None:
    """Ties the channels of two calls of one layer: it has one set of weights."""
    for one, other in zip_longest(_ids_of(first), _ids_of(again)):
        if one is not None and other is not None and len(one) == len(other):
            site.coupling.unite(one, other)
            continue
        for ids in (one, other):
            if ids is not None:
                site.freeze(ids, "another of its calls can lose no channels")


def _ids_of(wiring: Wiring) -> list[Ids | None]:
    """All that a layer's weights and arguments depend on, in the same order for each call."""
    found = [ids for weight in wiring.weights for ids in weight.axes]
    for size in wiring.config.values():
        sizes = size if isinstance(size, tuple) else (size,)
        found += [one if isinstance(one, np.ndarray) else None for one in sizes]
    return found


def _frozen(network: Network, outputs: list[Ids]) -> Iterator[Untreated]:
    """Layers that make nothing that may go, but those that make the outputs of the model."""
    coupling = network.coupling
    last = {int(root) for ids in outputs for root in coupling.roots(ids)}
    for wired, name, ids in network.made():
        roots = {int(root) for root in coupling.roots(ids)}
        reasons = [coupling.reason(root) for root in sorted(roots)]
        if None not in reasons and not roots <= last:
            yield Untreated(wired.label, wired.kind, f"its {name} stay because of {reasons[0]}")
