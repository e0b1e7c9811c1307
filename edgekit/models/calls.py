"""The layer calls of a model, nested models included, as one flat graph of values.

What looks at what follows a layer reads it here. Nothing of the model is touched.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from edgekit.base.extras import require
from edgekit.models.files import as_functional

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Call:
    """One call of a layer or operation.

    Attributes:
        label: name of the layer; `outer/inner` for one within a nested model.
        layer: the layer or operation itself.
        inputs: the values that it takes.
        outputs: the values that it makes.
        output_shapes: of `outputs`, with the batch.
        training: it is called as in training, whatever the model is used for.
    """

    label: str
    layer: Any
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    output_shapes: tuple[tuple[int | None, ...], ...]
    training: bool
    _arguments: Any
    _values: Mapping[int, int]

    @property
    def kind(self) -> str:
        """Class of the layer."""
        return type(self.layer).__name__

    @property
    def shapes(self) -> tuple[tuple[int | None, ...], ...]:
        """Shapes of `inputs`, with the batch."""
        return tuple(tuple(tensor.shape) for tensor in self._arguments.keras_tensors)

    @property
    def constants(self) -> list[Any]:
        """The arguments that are no values of the graph, structures that hold some left out."""
        tree = require("keras", purpose="to read Keras models").tree
        given = (*self._arguments.args, *self._arguments.kwargs.values())
        taken = {id(tensor) for tensor in self._arguments.keras_tensors}
        return [one for one in given if not any(id(leaf) in taken for leaf in tree.flatten(one))]

    def run(self, values: Mapping[int, Any]) -> dict[int, Any]:
        """Calls the layer on tensors, by value.

        Args:
            values: tensors of `inputs`.

        Returns:
            Tensors of `outputs`.
        """
        tree = require("keras", purpose="to read Keras models").tree
        known = {tensor: values[value] for tensor, value in self._values.items()}
        args, kwargs = self._arguments.fill_in(known)
        return dict(zip(self.outputs, tree.flatten(self.layer(*args, **kwargs)), strict=True))


@dataclass(frozen=True)
class CallGraph:
    """All calls of a model in an order in which they can run.

    Attributes:
        calls: with those within nested models instead of the calls of the nested models.
        inputs: values of the model's inputs, in their order.
        outputs: values of the model's outputs, in their order.
    """

    calls: tuple[Call, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def producers(self) -> dict[int, Call]:
        """The call that makes each value; inputs have none."""
        return {value: call for call in self.calls for value in call.outputs}

    def consumers(self) -> dict[int, list[Call | None]]:
        """The calls that take each value, once for each time; None stands for a model output."""
        found: dict[int, list[Call | None]] = defaultdict(list)
        for call in self.calls:
            for value in call.inputs:
                found[value].append(call)
        for value in self.outputs:
            found[value].append(None)
        return found

    def calls_of(self) -> dict[int, list[Call]]:
        """The calls of each layer, by the layer's `id`."""
        found: dict[int, list[Call]] = defaultdict(list)
        for call in self.calls:
            found[id(call.layer)].append(call)
        return found


def call_graph(model: keras.Model) -> CallGraph:
    """The flat graph of a functional or Sequential model."""
    model = as_functional(model)
    numbers = count()
    inputs = tuple(next(numbers) for _ in model.inputs)
    calls: list[Call] = []
    outputs = _walk(model, inputs, "", False, numbers, calls)
    return CallGraph(tuple(calls), inputs, outputs)


def nested_model(layer: Any) -> keras.Model | None:
    """The graph of a layer that is a model of its own, or None."""
    keras = require("keras", purpose="to read Keras models")
    if isinstance(layer, keras.Sequential):
        return as_functional(layer)
    # A subclass that brings its own `call` may compute anything.
    own = getattr(type(layer).call, "__qualname__", "") if isinstance(layer, keras.Model) else ""
    return layer if own == "Functional.call" else None


def _walk(
    model: Any,
    inputs: tuple[int, ...],
    prefix: str,
    training: bool,
    numbers: Iterator[int],
    calls: list[Call],
) -> tuple[int, ...]:
    known = {id(t): value for t, value in zip(model.inputs, inputs, strict=True)}
    for node in nodes_of(model):
        taken = {id(tensor): known[id(tensor)] for tensor in node.input_tensors}
        layer = node.operation
        as_trained = bool(training or node.arguments.kwargs.get("training"))
        into = tuple(taken[id(tensor)] for tensor in node.input_tensors)
        inner = nested_model(layer)
        if inner is not None and len(inner.inputs) == len(into):
            out = _walk(inner, into, f"{prefix}{layer.name}/", as_trained, numbers, calls)
        else:
            out = tuple(next(numbers) for _ in node.outputs)
            label = f"{prefix}{layer.name}"
            made = tuple(tuple(tensor.shape) for tensor in node.outputs)
            calls.append(Call(label, layer, into, out, made, as_trained, node.arguments, taken))
        known |= {id(tensor): value for tensor, value in zip(node.outputs, out, strict=True)}
    return tuple(known[id(tensor)] for tensor in model.outputs)


def nodes_of(model: Any) -> Iterator[Any]:
    """Keras' nodes from the inputs to the outputs, in the order of `clone_model`: by depth."""
    known = {id(tensor) for tensor in model.inputs}
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if node.is_input or any(id(tensor) not in known for tensor in node.input_tensors):
                continue
            known |= {id(tensor) for tensor in node.outputs}
            yield node
