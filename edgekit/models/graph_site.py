"""A layer at one of its calls, as the rules see it that write its operators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgekit.models.calls import Call
from edgekit.models.graph_writer import GraphWriter, Shape

Tensors = int | tuple[int, ...]

_ACTIVATIONS = {
    "relu": "RELU",
    "relu6": "RELU6",
    "sigmoid": "LOGISTIC",
    "tanh": "TANH",
    "softmax": "SOFTMAX",
    "log_softmax": "LOG_SOFTMAX",
    "elu": "ELU",
    "gelu": "GELU",
    "leaky_relu": "LEAKY_RELU",
    "hard_silu": "HARD_SWISH",
    "hard_swish": "HARD_SWISH",
    "exponential": "EXP",
}


@dataclass(frozen=True)
class Site:
    """A layer at one of its calls.

    Attributes:
        call: the call.
        layer: the layer, or the one within a wrapper.
        label: its name.
        inputs: tensors.
        shapes: of its outputs, with a batch of 1.
        alone: whether nothing else reads the first input.
        size: gives the shape of a Keras variable.
        writer: takes the operators.
        write: writes a layer, for wrappers of others.
    """

    call: Call
    layer: Any
    label: str
    inputs: tuple[int, ...]
    shapes: tuple[Shape, ...]
    alone: bool
    size: Callable[[Any], Shape]
    writer: GraphWriter
    write: Callable[[Site], Tensors]

    def op(self, name: str, inputs: tuple[int, ...], shape: Any, **attributes: Any) -> int:
        """Adds an operator."""
        return self.writer.op(name, self.label, inputs, shape, **attributes)

    def weights(self, variable: Any, shape: Shape | None = None) -> int:
        """A kernel, in another layout if `shape` says so."""
        return self.writer.weights(self.label, shape or self.size(variable), id(variable))

    def bias(self, variable: Any, size: int | None) -> int:
        """A bias of that size; without a variable, of zeros."""
        key = None if variable is None else id(variable)
        return self.writer.bias(self.label, size, key)

    def reshaped(self, tensor: int, shape: Shape) -> int:
        """The same values in another shape."""
        if self.writer.shape(tensor) == shape:
            return tensor
        return self.op("RESHAPE", (tensor, self.writer.numbers(len(shape))), shape)

    def transposed(self, tensor: int, *axes: int) -> int:
        """The axes of a tensor in another order."""
        given = self.writer.shape(tensor)
        shape = tuple(given[axis] for axis in axes)
        return self.op("TRANSPOSE", (tensor, self.writer.numbers(len(axes))), shape)

    def activated(self, tensor: int, activation: Any, *, alone: bool = True) -> int:
        """A tensor after an activation function of Keras; nothing else reads it if `alone`."""
        name = getattr(activation, "__name__", "linear") if activation is not None else "linear"
        if name == "linear":
            return tensor
        word = _ACTIVATIONS.get(name)
        shape = self.writer.shape(tensor)
        if word is not None and alone and self.writer.fuse(tensor, word):
            return tensor
        if name in ("silu", "swish"):
            return self.op("MUL", (tensor, self.op("LOGISTIC", (tensor,), shape)), shape)
        return self.op(word or name.upper(), (tensor,), shape, kind="activation")


Rule = Callable[[Site], Tensors]
