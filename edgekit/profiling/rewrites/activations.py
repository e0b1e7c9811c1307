"""Activations that a target lacks, in operators that it may have.

int8 forms need scales for what lies between; those of products with a constant are chosen so that
the integers stay as they are, those of gates are the range from 0 to 1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgekit.graph.tflite_edit import TFLiteEditor
from edgekit.profiling.rewrites.base import Change, RefusedError, Site, operator, rewrite
from edgekit.profiling.rewrites.negation import minus_of
from edgekit.schema.quantization import Quantization

_RULES = ("operator", "activations", "float_only", "optimized_operator", "gelu_type")
_RELU6 = 3  # of ActivationFunctionType
_GATE = Quantization((1 / 256,), (-128,))  # int8 LOGISTIC's, by the quantization specification
_WHOLE_GATE = Quantization((1 / 255,), (-128,))  # 0 to 1; what is beyond saturates
_SIGMOID = 1.702  # Hendrycks and Gimpel, 2016: GELU(x) is near x * sigmoid(1.702 x)
_CUBIC = 0.044715  # of the same paper's tanh form


class _Chain:
    """Operators in the place of one, made one after another."""

    def __init__(self, edit: TFLiteEditor, op: Any) -> None:
        self.edit, self.op, self.made = edit, op, list[Any]()
        self.source, self.result = int(op.inputs[0]), int(op.outputs[0])
        self.name = edit.label(self.result)
        self.dtype = edit.dtype(self.source)
        self.shape = edit.shape(self.source)
        if self.dtype not in ("float32", "int8") or edit.dtype(self.result) != self.dtype:
            raise RefusedError(f"there is no other form known for {self.dtype}")

    @property
    def scale(self) -> Quantization:
        """Of the int8 input."""
        found = self.edit.quantization(self.source)
        if found is None or found.per_channel:
            raise RefusedError("its input has not one scale")
        return found

    def constant(self, value: float) -> int:
        """A constant of one value, in the dtype of the input."""
        array = np.array([value], np.float32)
        name = f"{self.name}/{value:.6g}"
        if self.dtype == "float32":
            return self.edit.add_constant(array, name)
        scale = Quantization((abs(value) / 127,), (0,))
        return self.edit.add_constant(scale.quantize(array, "int8"), name, scale)

    def between(self, part: str, quantization: Quantization | None = None) -> int:
        """A tensor between two operators."""
        scale = None if self.dtype == "float32" else quantization
        return self.edit.add_tensor(
            self.shape, self.dtype, f"{self.name}/{part}", scale, like=self.source
        )

    def add(self, name: str, inputs: list[int], output: int, fused: int = 0) -> int:
        """An operator; its output."""
        options = {"ADD": "AddOptions", "MUL": "MulOptions", "SUB": "SubOptions"}.get(name)
        fields = {"fusedActivationFunction": fused} if options else {}
        self.made.append(self.edit.make(name, inputs, [output], options, **fields))
        return output

    def scaled(self, factor: float) -> int:
        """The input times a constant; in int8 the same integers at another scale."""
        scale = None
        if self.dtype == "int8":
            old = self.scale
            scale = Quantization((old.scale[0] * factor,), old.zero_point)
        inputs = [self.source, self.constant(factor)]
        return self.add("MUL", inputs, self.between("scaled", scale))

    def done(self, words: str, promise: Any) -> Change:
        """Puts the operators in place."""
        self.edit.replace(self.op, self.made)
        return Change(words, promise)


@rewrite(*_RULES, ops="HARD_SWISH")
def hard_swish(site: Site[TFLiteEditor]) -> Change:
    """Writes hard-swish as x * relu6(x + 3) / 6; in int8 as x * (x / 6 + 1/2), which saturates."""
    chain = _Chain(site.model, operator(site))
    if chain.dtype == "float32":
        gate = chain.add("ADD", [chain.source, chain.constant(3)], chain.between("gate"), _RELU6)
        share = chain.add("MUL", [gate, chain.constant(1 / 6)], chain.between("share"))
        chain.add("MUL", [chain.source, share], chain.result)
        return chain.done("x * relu6(x + 3) / 6 for HARD_SWISH", "rounding")
    gate = chain.between("gate", _WHOLE_GATE)
    chain.add("ADD", [chain.scaled(1 / 6), chain.constant(0.5)], gate)
    chain.add("MUL", [chain.source, gate], chain.result)
    return chain.done("x * clip(x / 6 + 1/2) for HARD_SWISH", "approximate")


@rewrite(*_RULES, ops="GELU")
def gelu(site: Site[TFLiteEditor]) -> Change:
    """Writes GELU as x * sigmoid(2u), u = sqrt(2 / pi) (x + 0.044715 x^3): its tanh form.

    In int8 as x * sigmoid(1.702 x), off by at most 0.021 (Hendrycks and Gimpel, 2016).
    """
    op = operator(site)
    chain = _Chain(site.model, op)
    if chain.dtype == "int8":
        gate = chain.add("LOGISTIC", [chain.scaled(_SIGMOID)], chain.between("gate", _GATE))
        chain.add("MUL", [chain.source, gate], chain.result)
        return chain.done("x * sigmoid(1.702 x) for GELU", "approximate")
    twice = 2 * math.sqrt(2 / math.pi)
    x = chain.source
    square = chain.add("MUL", [x, x], chain.between("square"))
    cubic = chain.add("MUL", [square, chain.constant(twice * _CUBIC)], chain.between("cubic"))
    slope = chain.add("ADD", [cubic, chain.constant(twice)], chain.between("slope"))
    inner = chain.add("MUL", [x, slope], chain.between("inner"))
    gate = chain.add("LOGISTIC", [inner], chain.between("gate"))
    chain.add("MUL", [x, gate], chain.result)
    tanh = op.builtinOptions is not None and op.builtinOptions.approximate
    return chain.done(
        "x * sigmoid(2u), the tanh form, for GELU", "rounding" if tanh else "approximate"
    )


@rewrite(*_RULES, "leaky_ratio", ops="LEAKY_RELU")
def leaky_relu(site: Site[TFLiteEditor]) -> Change:
    """Writes a leaky ReLU as PRELU, with the same slope for every channel."""
    op = operator(site)
    chain = _Chain(site.model, op)
    slope = float(op.builtinOptions.alpha)
    shape = (*(1 for _ in chain.shape[1:-1]), chain.shape[-1])
    values = np.full(shape, slope, np.float32)
    scale = None
    if chain.dtype == "int8":
        if slope <= 0:
            raise RefusedError(f"its slope is {slope:g}")
        scale = Quantization((slope / 127,), (0,))
        values = scale.quantize(values, "int8")
    alpha = chain.edit.add_constant(values, f"{chain.name}/alpha", scale)
    chain.add("PRELU", [chain.source, alpha], chain.result)
    return chain.done(
        "PRELU of one slope for LEAKY_RELU", "bits" if chain.dtype == "float32" else "approximate"
    )


@rewrite(*_RULES, {"element_wise": {"as_sum": True}}, ops="SQUARED_DIFFERENCE")
def squared_difference(site: Site[TFLiteEditor]) -> Change:
    """Writes a squared difference, as in layer normalization, as a difference times itself.

    The difference is a sum with the negative where a target has sums only.
    """
    op = operator(site)
    chain = _Chain(site.model, op)
    scale = None
    if chain.dtype == "int8":
        result = chain.edit.quantization(chain.result)
        if result is None:
            raise RefusedError("its result has no scale")
        most = result.scale[0] * (127 - result.zero_point[0])
        scale = Quantization((math.sqrt(most) / 127,), (0,))
    chain.shape = chain.edit.shape(chain.result)
    how, inputs = "SUB", list(op.inputs)
    if site.arguments.get("as_sum"):
        made, minus = minus_of(chain.edit, int(inputs[1]))
        chain.made += made
        how, inputs = "ADD", [inputs[0], minus]
    gap = chain.add(how, inputs, chain.between("difference", scale))
    chain.add("MUL", [gap, gap], chain.result)
    promise = "rounding" if chain.dtype == "float32" else "approximate"
    return chain.done(f"{how} and MUL for SQUARED_DIFFERENCE", promise)
