"""What a rule is: a function whose docstring is the published rule.

The function answers what it found wrong, or None. Its docstring is what users are told is allowed,
so code, message and documentation cannot drift apart (the idea is that of Arm's Vela compiler).
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from edgekit.graph.types import Op, OpClass, Tensor
from edgekit.profiling.view import GraphView
from edgekit.schema.names import Format
from edgekit.schema.results import Finding


@dataclass(frozen=True)
class OpView:
    """An operator with its tensors, as rules see it."""

    view: GraphView
    op: Op

    @property
    def inputs(self) -> list[Tensor]:
        """All inputs, constants too."""
        return self.view.tensors(self.op.inputs)

    @property
    def activations(self) -> list[Tensor]:
        """Inputs that change from run to run."""
        return self.view.activations_in(self.op)

    @property
    def constants(self) -> list[Tensor]:
        """Inputs that are known before the first run."""
        return [t for t in self.inputs if t.index in self.view.constants]

    @property
    def outputs(self) -> list[Tensor]:
        """All outputs."""
        return self.view.tensors(self.op.outputs)

    @property
    def maps(self) -> list[Tensor]:
        """All that changes from run to run: computed inputs, and outputs."""
        return [*self.activations, *self.outputs]

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute of the operator."""
        return self.op.attributes.get(name, default)


Check = Callable[[OpView], str | None]
Declared = Literal["blocks", "requantized", "slow"]
"""Severities that a rule may have; placement makes the others of them."""


@dataclass(frozen=True)
class Rule:
    """A published restriction.

    Attributes:
        id: name of the function.
        text: what is allowed: the function's docstring.
        check: what was found, or None if the rule holds.
        ops: names of the operators that it concerns; empty for all.
        fix: what the user can do.
        severity: `blocks` if the processor does not take an operator that breaks the rule, `slow`
            if it runs there on a slower kernel, `requantized` if it runs there in other numbers.
        source: where the rule was published, if not where the rule set was.
    """

    id: str
    text: str
    check: Check
    ops: frozenset[str]
    fix: str
    severity: Declared = "blocks"
    source: str | None = None

    def find(self, op: OpView) -> Finding | None:
        """The finding if `op` breaks the rule."""
        if self.ops and op.op.name not in self.ops:
            return None
        if self.ops and not (op.op.inputs and op.op.outputs):
            return None  # a broken file: there is nothing to look at
        found = self.check(op)
        if found is None:
            return None
        return finding(op.op, self.id, found, self.text, fix=self.fix, severity=self.severity)


_FUSED = re.compile(r"([^\s;]+);[^\s]+")
"""Names of all layers that became one: hundreds of characters, with semicolons between."""


def finding(
    op: Op, rule: str, found: str, allowed: str, *, fix: str, severity: Declared
) -> Finding:
    """A finding about one operator, with the first of the names that a fused tensor has."""
    return Finding(
        rule=rule,
        found=_FUSED.sub(r"\1;...", found),
        allowed=allowed,
        severity=severity,
        fix=fix,
        op=op.name,
        index=op.index,
        layer=op.layer,
    )


def rule(
    *ops: str, fix: str, severity: Declared = "blocks", source: str | None = None
) -> Callable[[Check], Rule]:
    """Makes a rule of a function; `ops` are the operators that it concerns, none meaning all."""

    def make(check: Check) -> Rule:
        text = " ".join(inspect.cleandoc(check.__doc__ or "").split())
        return Rule(check.__name__, text, check, frozenset(ops), fix, severity, source)

    return make


@dataclass(frozen=True)
class RuleSet:
    """All restrictions of one processor's runtime.

    Attributes:
        takes: names of the operators that it implements; empty if `kinds` says it, or for all.
        kinds: classes of the operators that it implements; empty if `takes` says it, or for all.
        partition: "single" if the compiler makes one subgraph, so that all that comes after an
            operator it cannot take stays behind; "any" if operators come back.
        source: where the rules were published.
        fast: the rules of its fast kernels: an operator that breaks them runs on its other
            kernels, and is found to be `slow`.
        about: what must be known of the list, such as its version.
        formats: of the files whose operators it names.
        fallback: name of the set of the processor that usually takes what this one leaves.
    """

    name: str
    title: str
    rules: tuple[Rule, ...]
    source: str
    takes: frozenset[str] = frozenset()
    kinds: frozenset[OpClass] = frozenset()
    partition: Literal["any", "single"] = "any"
    fast: RuleSet | None = None
    about: str = ""
    formats: tuple[Format, ...] = ("tflite", "onnx", "openvino")
    fallback: str | None = None

    def findings(self, op: OpView) -> list[Finding]:
        """All rules that an operator breaks."""
        unknown = self._unknown(op.op)
        if unknown is not None:
            return [unknown]
        found = [broken for entry in self.rules if (broken := entry.find(op)) is not None]
        if self.fast is not None and not any(broken.severity == "blocks" for broken in found):
            slow = {"severity": "slow"}
            found += [broken.model_copy(update=slow) for broken in self.fast.findings(op)]
        return found

    def _unknown(self, op: Op) -> Finding | None:
        by_name = not self.takes or op.name in self.takes
        by_kind = not self.kinds or op.kind in self.kinds
        if by_name and by_kind:
            return None
        words = sorted(self.takes or self.kinds)
        allowed = f"{self.title} takes: {', '.join(words)}"
        fix = "replace the layer that makes it by one that the target takes"
        return finding(op, "operator", op.name, allowed, fix=fix, severity="blocks")


def broken_dimensions(tensors: list[Tensor]) -> str | None:
    """The first tensor with a free dimension other than its batch, in words."""
    for tensor in tensors:
        if any(size is None for size in tensor.shape[1:]):
            return f"{tensor.name} has shape {shape_text(tensor)}"
    return None


def shape_text(tensor: Tensor) -> str:
    """A shape in words: 1x224x224x3, with ? for a free dimension."""
    return "x".join("?" if size is None else str(size) for size in tensor.shape) or "scalar"


def first_of(tensors: Iterable[Tensor], allowed: Iterable[str]) -> str | None:
    """The first tensor of a dtype that is not `allowed`, in words."""
    taken = frozenset(allowed)
    wrong = next((tensor for tensor in tensors if tensor.dtype not in taken), None)
    return None if wrong is None else f"{wrong.name} is {wrong.dtype}"


@dataclass(frozen=True)
class Geometry:
    """A convolution or pooling in one form for all formats.

    Attributes:
        kernel, stride, dilation: down and across.
        channels: of input and output.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    channels: tuple[int, int]


def geometry(op: OpView) -> Geometry | None:
    """The geometry of a 2D convolution or pooling; None for other operators, or if unknown."""
    if not op.inputs or not op.outputs or len(op.outputs[0].shape) != 4:
        return None
    last = op.view.graph.format == "tflite"  # where channels are: NHWC, else NCHW
    source = op.inputs[2] if op.op.name == "TRANSPOSE_CONV" and len(op.inputs) > 2 else op.inputs[0]
    if len(source.shape) != 4:
        return None
    kernel = _kernel(op, last=last)
    if kernel is None:
        return None
    axis = 3 if last else 1
    channels = (source.shape[axis] or 1, op.outputs[0].shape[axis] or 1)
    if last:
        stride = (op.attribute("stride_h", 1), op.attribute("stride_w", 1))
        dilation = (op.attribute("dilation_h_factor", 1), op.attribute("dilation_w_factor", 1))
    else:
        stride, dilation = _pair(op.attribute("strides")), _pair(op.attribute("dilations"))
    return Geometry(kernel, stride, dilation, channels)


def _kernel(op: OpView, *, last: bool) -> tuple[int, int] | None:
    if op.op.kind == "pool":
        if last:
            return op.attribute("filter_height", 1), op.attribute("filter_width", 1)
        stated = op.attribute("kernel_shape", op.attribute("kernel"))
        return None if stated is None or len(stated) != 2 else _pair(stated)
    if op.op.kind not in ("conv", "pointwise", "depthwise") or len(op.inputs) < 2:
        return None
    shape = op.inputs[1].shape
    if len(shape) < 4 or any(size is None for size in shape):
        return None
    down, across = (shape[1], shape[2]) if last else (shape[-2], shape[-1])
    return down or 1, across or 1


def _pair(values: Any) -> tuple[int, int]:
    if isinstance(values, (list, tuple)) and len(values) == 2:
        return int(values[0]), int(values[1])
    return (1, 1)


def ceil_div(value: int, divisor: int) -> int:
    """The smallest whole number not below `value / divisor`."""
    return -(-value // divisor)


def power_of_two(scale: float) -> bool:
    """Whether a scale is a power of two, to the precision of float32."""
    if scale <= 0 or not math.isfinite(scale):
        return False
    exponent = math.log2(scale)
    return abs(exponent - round(exponent)) < 1e-6
