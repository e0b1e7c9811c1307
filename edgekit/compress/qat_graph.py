"""Where a model's activations get ranges, and the model rewritten with them.

It goes by what the graph computes: what multiplies by a kernel gets its quantized form, what moves
values keeps their scale, and every other operation, known or not, gets a range on its result.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, Literal

from edgekit.base.extras import require
from edgekit.compress.kernels import Kernel
from edgekit.compress.recurrent import (
    cells_of,
    needs_range,
    quantizable_recurrent,
    quantized_recurrent,
)
from edgekit.models.calls import nested_model, nodes_of
from edgekit.models.files import as_functional

if TYPE_CHECKING:
    import keras

    from edgekit.models.fakequant import FakeQuant

# Layers and operations whose results are values that they were given: they have no range.
_MOVES = (
    *("Flatten", "Reshape", "Permute", "RepeatVector", "Identity", "Squeeze", "ExpandDims"),
    *("MaxPooling", "GlobalMaxPooling", "ZeroPadding", "Cropping", "Dropout", "SpatialDropout"),
    *("GaussianNoise", "GaussianDropout", "AlphaDropout", "ActivityRegularization", "Masking"),
    *("GetItem", "Transpose", "Split", "Ravel", "Swapaxes", "Moveaxis", "Tile", "Repeat", "Take"),
)
# Those whose results are new values, and that int8 networks compute within one scale.
_SAME_SCALE = ("AveragePooling", "UpSampling", "AdaptiveAveragePooling")
# Those that put values together, which need one scale.
_JOINS = ("Concatenate", "Stack", "Hstack", "Vstack", "Maximum", "Minimum")
# Those that a ReLU after them becomes a part of.
_FUSE = ("Conv1D", "Conv2D", "DepthwiseConv1D", "DepthwiseConv2D", "Dense", "Add", "Subtract")
_RELUS = ("relu", "relu6")
RENAMED = "_raw"  # ends the name of a layer whose rounded result is an output of the model
Kind = Literal["kernel", "recurrent", "move", "same", "join", "nested", "other"]


def original_key(kernel: Kernel) -> tuple[str, str]:
    """Layer and weight; a layer that was renamed has its name from before."""
    first, *rest = kernel.layer.split("/")
    return "/".join([first.removesuffix(RENAMED), *rest]), kernel.name


@dataclass
class _Group:
    """Values that share one scale.

    Attributes:
        owner: names the range.
        slots: how many results of the group are observed.
        fixed: the range, if it is known beforehand.
        takes_fixed: values of a fixed range are brought to this scale.
        layer: the range, when it is made.
    """

    owner: str
    slots: int = 0
    fixed: tuple[float, float] | None = None
    takes_fixed: bool = False
    layer: FakeQuant | None = None


@dataclass
class _Plan:
    """What happens to the result of each call of a layer, by the number of the call.

    Attributes:
        ranges: the group of the result, and its slot there (None: used, and not observed).
        inputs: the same of the model's inputs, by their number.
        outputs: names that the results must have, being outputs of the model.
    """

    ranges: dict[int, tuple[_Group, int | None]] = field(default_factory=dict)
    inputs: dict[int, tuple[_Group, int | None]] = field(default_factory=dict)
    outputs: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """How to quantize; see `QatArgs`.

    Attributes:
        norms: by label of the layers that they were folded into, those layers as they were before
            and the normalizations, to be trained on.
    """

    weight_bits: int
    ranges: Literal["moving", "learnt", "fixed"]
    momentum: float
    norms: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)


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
    rewriter = _Rewriter(settings, skip)
    copied = rewriter.copy(as_functional(model), "", top=True)
    rewriter.take_weights()
    return copied, rewriter.origins


class _Rewriter:
    """Copies a model and the models within it; each layer becomes one layer, shared ones too."""

    def __init__(self, settings: Settings, skip: frozenset[str]) -> None:
        self.keras = require("keras", purpose="to compress models")
        self.settings, self.skip = settings, skip
        self.origins: dict[int, Origin] = {}
        self._recurrent: set[str] = set()
        self._cache: dict[int, Any] = {}
        self._pairs: list[tuple[Any, Any]] = []
        self._names: Counter[str] = Counter()

    def copy(self, model: Any, prefix: str, *, top: bool) -> Any:
        """A quantized copy; the values that come into a nested model have ranges already."""
        if top:
            self._recurrent = quantizable_recurrent(model)[0] - self.skip
        plan = self._plan(model, prefix, top=top)
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
                    self.origins[id(new)] = Origin(label, self._kind(layer, label))
            return self._cache[id(layer)]

        def call(new: Any, *args: Any, **kwargs: Any) -> Any:
            number = next(numbers)
            args, kwargs = self.keras.tree.map_structure(
                lambda value: entered.get(id(value), value), (args, kwargs)
            )
            first, *rest = new if isinstance(new, list) else [new]
            result = first(*args, **kwargs)
            for before, layer in zip([first, *rest], rest, strict=False):
                result = layer(self._ranged(result, _Group(before.name, 1), 0))
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
        if label in self._recurrent:
            shared = {**self._weight_settings(), **self._range_settings()}
            new = quantized_recurrent(layer, name, shared)
            pairs = zip(cells_of(layer) or (), cells_of(new) or (), strict=True)
            self._pairs += pairs
            return new
        if self._kind(layer, label) != "kernel":
            new = layer.__class__.from_config(config)
            self._pairs.append((layer, new))
            return new
        chain = []
        if _activation(layer) not in (*_RELUS, "linear"):
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
        }

    def _range_settings(self) -> dict[str, Any]:
        return {"ranges": self.settings.ranges, "momentum": self.settings.momentum}

    def take_weights(self) -> None:
        """Copies the weights of the old layers; those that only the new ones have come last."""
        for old, new in self._pairs:
            for mine, theirs in zip(new.variables, old.variables, strict=False):
                mine.assign(theirs)

    def _ranged(self, tensor: Any, group: _Group, slot: int | None) -> Any:
        """The tensor, rounded to the steps of its group."""
        if not str(tensor.dtype).startswith("float"):
            return tensor
        if group.layer is None:
            group.layer = self._range(group)
        return group.layer(tensor, slot=slot)

    def _range(self, group: _Group) -> FakeQuant:
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

    def _kind(self, layer: Any, label: str) -> Kind:
        from edgekit.models.fakequant import quantized_class

        if nested_model(layer) is not None:
            return "nested"
        if label in self._recurrent:
            return "recurrent"
        if quantized_class(type(layer)) is not None and label not in self.skip:
            return "kernel"
        name = type(layer).__name__
        if any(name.rstrip("123D") == move for move in _MOVES):
            return "move"
        nearest = getattr(layer, "interpolation", "nearest") == "nearest"
        if name.rstrip("123D") == "UpSampling" and nearest:
            return "move"
        if name.rstrip("123D") in _SAME_SCALE:
            return "same"
        return "join" if name in _JOINS else "other"

    def _plan(self, model: Any, prefix: str, *, top: bool) -> _Plan:
        """Which results share a scale, and which have none because a ReLU takes them in."""
        plan = _Plan()
        nodes = list(nodes_of(model))
        consumers: dict[int, list[Any]] = defaultdict(list)
        for node in nodes:
            for tensor in node.input_tensors:
                consumers[id(tensor)].append(node.operation)
        outputs = {id(tensor) for tensor in model.outputs}
        groups = self._groups(model, nodes, prefix, top=top)
        for number, node in enumerate(nodes):
            kind = self._kind(node.operation, f"{prefix}{node.operation.name}")
            for tensor in node.outputs:
                group = groups.get(id(tensor))
                follower = consumers[id(tensor)]
                if group is None or kind in ("move", "nested"):
                    continue
                fused = (
                    len(follower) == 1
                    and id(tensor) not in outputs
                    and _is_relu(follower[0])
                    and type(node.operation).__name__ in _FUSE
                    and _activation(node.operation) == "linear"
                )
                if fused or (kind == "join" and self._joined(node, groups)):
                    continue
                if kind == "same" and groups.get(id(node.input_tensors[0])) is group:
                    plan.ranges[number] = (group, None)
                    continue
                plan.ranges[number] = (group, group.slots)
                group.slots += 1
        if top:
            for index, tensor in enumerate(model.inputs):
                if id(tensor) in groups and str(tensor.dtype).startswith("float"):
                    group = groups[id(tensor)]
                    plan.inputs[index] = (group, group.slots)
                    group.slots += 1
            for number, node in enumerate(nodes):
                if number in plan.ranges and any(id(t) in outputs for t in node.outputs):
                    plan.outputs[number] = node.operation.name
        return plan

    def _groups(self, model: Any, nodes: list[Any], prefix: str, *, top: bool) -> dict[int, _Group]:
        """The group of each value; values with none have a range elsewhere, or are no floats."""
        from edgekit.models.fakequant import FIXED_RANGES

        groups: dict[int, _Group] = {}
        if top:
            groups = {id(tensor): _Group(tensor.name) for tensor in model.inputs}
        for node in nodes:
            operation = node.operation
            kind = self._kind(operation, f"{prefix}{operation.name}")
            taken = [groups.get(id(tensor)) for tensor in node.input_tensors]
            if kind == "nested" or (kind == "recurrent" and not needs_range(operation)):
                continue
            fixed = None if kind == "recurrent" else FIXED_RANGES.get(_activation(operation))
            one = _Group(operation.name, fixed=fixed)
            if kind == "move" and taken:
                if taken[0] is None:
                    continue
                one = taken[0]
            elif kind == "same" and taken[0] is not None and taken[0].fixed is None:
                one = taken[0]
            elif kind == "join":
                for group in taken:
                    if group is not None and group.fixed is None:
                        groups |= {t: one for t, g in groups.items() if g is group}
                    if group is not None:
                        one.takes_fixed |= group.takes_fixed or group.fixed is not None
            groups |= {id(tensor): one for tensor in node.outputs}
        return groups

    def _joined(self, node: Any, groups: dict[int, _Group]) -> bool:
        """Whether all that is put together has one scale already."""
        one = groups[id(node.outputs[0])]
        return all(groups.get(id(tensor)) is one for tensor in node.input_tensors)


def _activation(operation: Any) -> str:
    """Name of the function that an operation ends in: "linear" if in none, "relu", "custom"."""
    keras = require("keras", purpose="to compress models")
    name = type(operation).__name__
    if name == "ReLU":
        if operation.negative_slope or operation.threshold:
            return "custom"
        return {None: "relu", 6: "relu6"}.get(operation.max_value, "custom")
    if name in ("Relu", "Relu6", "Softmax", "Sigmoid", "Tanh"):
        return name.lower()
    function = getattr(operation, "activation", None)
    if function is None or not isinstance(operation, keras.Layer):
        return "linear"
    if isinstance(function, keras.Layer):
        return _activation(function)
    return str(getattr(function, "__name__", "custom"))


def _is_relu(operation: Any) -> bool:
    kinds = ("ReLU", "Activation", "Relu", "Relu6")
    return type(operation).__name__ in kinds and _activation(operation) in _RELUS
