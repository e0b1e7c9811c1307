"""Where a model's activations get ranges.

It goes by what the graph computes: what multiplies by a kernel gets its quantized form, what moves
values keeps their scale, and every other operation, known or not, gets a range on its result.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from edgekit.base.extras import require
from edgekit.compress.recurrent import needs_range
from edgekit.models.calls import nested_model, nodes_of

if TYPE_CHECKING:
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
RELUS = ("relu", "relu6")  # functions that a layer before them takes in
Kind = Literal["kernel", "recurrent", "move", "same", "join", "nested", "other"]


@dataclass
class Group:
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
class Plan:
    """What happens to the result of each call of a layer, by the number of the call.

    Attributes:
        ranges: the group of the result, and its slot there (None: used, and not observed).
        inputs: the same of the model's inputs, by their number.
        outputs: names that the results must have, being outputs of the model.
    """

    ranges: dict[int, tuple[Group, int | None]] = field(default_factory=dict)
    inputs: dict[int, tuple[Group, int | None]] = field(default_factory=dict)
    outputs: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RangePlanner:
    """Says what a layer computes, and which results share a range.

    Attributes:
        recurrent: labels of recurrent layers that are quantized as a whole.
        skip: labels of layers whose kernels stay float.
    """

    recurrent: Set[str]
    skip: Set[str]

    def kind(self, layer: Any, label: str) -> Kind:
        """What a layer or operation computes; `label` is its name, `outer/inner` if nested."""
        from edgekit.models.fakequant import quantized_class

        if nested_model(layer) is not None:
            return "nested"
        if label in self.recurrent:
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

    def plan(self, model: Any, prefix: str, *, top: bool) -> Plan:
        """Which results share a scale, and which have none because a ReLU takes them in."""
        plan = Plan()
        nodes = list(nodes_of(model))
        consumers: dict[int, list[Any]] = defaultdict(list)
        for node in nodes:
            for tensor in node.input_tensors:
                consumers[id(tensor)].append(node.operation)
        outputs = {id(tensor) for tensor in model.outputs}
        groups = self._groups(model, nodes, prefix, top=top)
        for number, node in enumerate(nodes):
            kind = self.kind(node.operation, f"{prefix}{node.operation.name}")
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
                    and activation_of(node.operation) == "linear"
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

    def _groups(self, model: Any, nodes: list[Any], prefix: str, *, top: bool) -> dict[int, Group]:
        """The group of each value; values with none have a range elsewhere, or are no floats."""
        from edgekit.models.fakequant import FIXED_RANGES

        groups: dict[int, Group] = {}
        if top:
            groups = {id(tensor): Group(tensor.name) for tensor in model.inputs}
        for node in nodes:
            operation = node.operation
            kind = self.kind(operation, f"{prefix}{operation.name}")
            taken = [groups.get(id(tensor)) for tensor in node.input_tensors]
            if kind == "nested" or (kind == "recurrent" and not needs_range(operation)):
                continue
            fixed = None if kind == "recurrent" else FIXED_RANGES.get(activation_of(operation))
            one = Group(operation.name, fixed=fixed)
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

    def _joined(self, node: Any, groups: dict[int, Group]) -> bool:
        """Whether all that is put together has one scale already."""
        one = groups[id(node.outputs[0])]
        return all(groups.get(id(tensor)) is one for tensor in node.input_tensors)


def activation_of(operation: Any) -> str:
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
        return activation_of(function)
    return str(getattr(function, "__name__", "custom"))


def _is_relu(operation: Any) -> bool:
    kinds = ("ReLU", "Activation", "Relu", "Relu6")
    return type(operation).__name__ in kinds and activation_of(operation) in RELUS
