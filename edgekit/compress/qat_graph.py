"""A model rewritten with fake-quantized kernels and with ranges on its activations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, Literal

from edgekit.base.extras import require
from edgekit.compress.kernels import Kernel
from edgekit.compress.qat_ranges import RELUS, Group, Kind, RangePlanner, activation_of
from edgekit.compress.recurrent import cells_of, quantizable_recurrent, quantized_recurrent
from edgekit.models.calls import nested_model
from edgekit.models.files import as_functional

if TYPE_CHECKING:
    import keras

    from edgekit.models.fakequant import FakeQuant

RENAMED = "_raw"  # ends the name of a layer whose rounded result is an output of the model


def original_key(kernel: Kernel) -> tuple[str, str]:
    """Layer and weight; a layer that was renamed has its name from before."""
    first, *rest = kernel.layer.split("/")
    return "/".join([first.removesuffix(RENAMED), *rest]), kernel.name


@dataclass(frozen=True)
class Settings:
    """How to quantize; see `QatArgs`.

    Attributes:
        norms: by label of the layers that they were folded into, those layers as they were before
            and the normalizations, to be trained on.
        dense_one_scale: dense layers have one scale for all weights, not one an output.
    """

    weight_bits: int
    ranges: Literal["moving", "learnt", "fixed"]
    momentum: float
    norms: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    dense_one_scale: bool = False


@dataclass(frozen=True)
class Origin:
    """What a layer of the quantized model stands for.

    Attributes:
        label: of the layer that it was made from; `outer/inner` for one within a nested model.
        kind: what that computes.
    """

    label: str
    kind: Kind


def quantized_model(model: keras.Model, settings: Settings, skip: frozenset[str]) -> keras.Model:
    """A copy of `model` with fake-quantized kernels and activations; the ranges are not set yet.

    Args:
        model: a functional or Sequential model with its normalizations folded.
        settings: how to quantize.
        skip: labels (`outer/inner` within nested models) of layers whose kernels stay float.

    Returns:
        The model, nested models in their places, with weights of its own.
    """
    return quantized_with_origins(model, settings, skip)[0]


def quantized_with_origins(
    model: keras.Model, settings: Settings, skip: frozenset[str]
) -> tuple[keras.Model, dict[int, Origin]]:
    """See `quantized_model`; with the origins of its layers by their `id`, ranges left out."""
    functional = as_functional(model)
    recurrent = quantizable_recurrent(functional)[0] - skip
    rewriter = _Rewriter(settings, RangePlanner(recurrent, skip))
    copied = rewriter.copy(functional, "", top=True)
    rewriter.take_weights()
    return copied, rewriter.origins


class _Rewriter:
    """Copies a model and the models within it; each layer becomes one layer, shared ones too."""

    def __init__(self, settings: Settings, planner: RangePlanner) -> None:
        self.keras = require("keras", purpose="to compress models")
        self.settings, self.planner = settings, planner
        self.origins: dict[int, Origin] = {}
        self._cache: dict[int, Any] = {}
        self._pairs: list[tuple[Any, Any]] = []
        self._names: Counter[str] = Counter()

    def copy(self, model: Any, prefix: str, *, top: bool) -> Any:
        """A quantized copy; the values that come into a nested model have ranges already."""
        plan = self.planner.plan(model, prefix, top=top)
        renamed = set(plan.outputs.values())
        numbers = count()
        entered: dict[int, Any] = {}
        inputs = self.keras.tree.map_structure(
            lambda t: self.keras.Input(batch_shape=t.shape, dtype=t.dtype, name=t.name), model.input
        )
        for index, tensor in enumerate(self.keras.tree.flatten(inputs)):
            if index in plan.inputs:
                entered[id(tensor)] = self._ranged(tensor, *plan.inputs[index])

        def clone(layer: Any) -> Any:
            if id(layer) not in self._cache:
                name = layer.name + RENAMED if layer.name in renamed else layer.name
                label = f"{prefix}{layer.name}"
                self._cache[id(layer)] = made = self._layer(layer, name, label)
                for new in made if isinstance(made, list) else [made]:
                    self.origins[id(new)] = Origin(label, self.planner.kind(layer, label))
            return self._cache[id(layer)]

        def call(new: Any, *args: Any, **kwargs: Any) -> Any:
            number = next(numbers)
            args, kwargs = self.keras.tree.map_structure(
                lambda value: entered.get(id(value), value), (args, kwargs)
            )
            first, *rest = new if isinstance(new, list) else [new]
            result = first(*args, **kwargs)
            for before, layer in zip([first, *rest], rest, strict=False):
                result = layer(self._ranged(result, Group(before.name, 1), 0))
            if number in plan.ranges:
                result = self.keras.tree.map_structure(
                    lambda value: self._ranged(value, *plan.ranges[number]), result
                )
            if number in plan.outputs:
                result = self.keras.layers.Identity(name=plan.outputs[number])(result)
            return result

        copied = self.keras.models.clone_model(
            model, input_tensors=inputs, clone_function=clone, call_function=call
        )
        copied.trainable = model.trainable
        return copied

    def _layer(self, layer: Any, name: str, label: str) -> Any:
        """The new layer; a list where it becomes several, with ranges between them."""
        inner = nested_model(layer)
        if inner is not None:
            return self.copy(inner, f"{label}/", top=False)
        config = layer.get_config()
        if not isinstance(layer, self.keras.Layer):
            return layer.__class__.from_config(config)
        layers = self.keras.layers
        if type(layer) is layers.Rescaling and layer.scale != 1 and layer.offset != 0:
            return [
                layers.Rescaling(layer.scale, name=f"{name}_scale"),
                layers.Rescaling(1.0, layer.offset, name=name),
            ]
        config["name"] = name
        if label in self.planner.recurrent:
            shared = {**self._weight_settings(), **self._range_settings()}
            new = quantized_recurrent(layer, name, shared)
            pairs = zip(cells_of(layer) or (), cells_of(new) or (), strict=True)
            self._pairs += pairs
            return new
        if self.planner.kind(layer, label) != "kernel":
            new = layer.__class__.from_config(config)
            self._pairs.append((layer, new))
            return new
        chain = []
        if activation_of(layer) not in (*RELUS, "linear"):
            chain = [layers.Activation(layer.activation, name=f"{name}_activation")]
            config["activation"] = "linear"
        before, norm = self.settings.norms.get(label, (layer, None))
        if norm is not None:
            config["norm"] = norm.get_config()
        new = self._quantized(type(layer), config)
        self._pairs.append((before, new))
        if norm is not None:
            self._pairs.append((norm, new.norm))
        return [new, *chain] if chain else new

    def _quantized(self, kind: type, config: dict[str, Any]) -> Any:
        from edgekit.models.fakequant import quantized_class

        quantized: Any = quantized_class(kind)
        return quantized.from_config({**config, **self._weight_settings()})

    def _weight_settings(self) -> dict[str, Any]:
        return {
            "weight_bits": self.settings.weight_bits,
            "learnt": self.settings.ranges == "learnt",
            "dense_one_scale": self.settings.dense_one_scale,
        }

    def _range_settings(self) -> dict[str, Any]:
        return {"ranges": self.settings.ranges, "momentum": self.settings.momentum}

    def take_weights(self) -> None:
        """Copies the weights of the old layers; those that only the new ones have come last."""
        for old, new in self._pairs:
            for mine, theirs in zip(new.variables, old.variables, strict=False):
                mine.assign(theirs)

    def _ranged(self, tensor: Any, group: Group, slot: int | None) -> Any:
        """The tensor, rounded to the steps of its group."""
        if not str(tensor.dtype).startswith("float"):
            return tensor
        if group.layer is None:
            group.layer = self._range(group)
        return group.layer(tensor, slot=slot)

    def _range(self, group: Group) -> FakeQuant:
        from edgekit.models.fakequant import FakeQuant

        name = f"{group.owner}_range"
        self._names[name] += 1
        layer = FakeQuant(
            slots=max(group.slots, 1),
            ranges="fixed" if group.fixed else self.settings.ranges,
            momentum=self.settings.momentum,
            reciprocal=group.takes_fixed,
            name=name if self._names[name] == 1 else f"{name}_{self._names[name]}",
        )
        layer.build(None)
        if group.fixed:
            layer.low.assign([group.fixed[0]])
            layer.high.assign([group.fixed[1]])
        return layer
