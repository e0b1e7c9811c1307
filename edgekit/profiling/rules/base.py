"""What a rule is: a function whose docstring is the published rule.

The function answers what it found wrong, or None. Its docstring is what users are told is allowed,
so code, message and documentation cannot drift apart (the idea is that of Arm's Vela compiler).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from edgekit.graph.types import Op, OpClass, Tensor
from edgekit.profiling.view import GraphView
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
    def outputs(self) -> list[Tensor]:
        """All outputs."""
        return self.view.tensors(self.op.outputs)

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute of the operator."""
        return self.op.attributes.get(name, default)


Check = Callable[[OpView], str | None]


@dataclass(frozen=True)
class Rule:
    """A published restriction.

    Attributes:
        id: name of the function.
        text: what is allowed: the function's docstring.
        check: what was found, or None if the rule holds.
        ops: names of the operators that it concerns; empty for all.
        fix: what the user can do.
    """

    id: str
    text: str
    check: Check
    ops: frozenset[str]
    fix: str

    def find(self, op: OpView) -> Finding | None:
        """The finding if `op` breaks the rule."""
        if self.ops and op.op.name not in self.ops:
            return None
        found = self.check(op)
        if found is None:
            return None
        return Finding(
            rule=self.id, found=found, allowed=self.text, severity="blocks", fix=self.fix
        )


def rule(*ops: str, fix: str) -> Callable[[Check], Rule]:
    """Makes a rule of a function; `ops` are the operators that it concerns, none meaning all."""

    def make(check: Check) -> Rule:
        text = " ".join(inspect.cleandoc(check.__doc__ or "").split())
        return Rule(check.__name__, text, check, frozenset(ops), fix)

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
    """

    name: str
    title: str
    rules: tuple[Rule, ...]
    source: str
    takes: frozenset[str] = frozenset()
    kinds: frozenset[OpClass] = frozenset()
    partition: Literal["any", "single"] = "any"

    def findings(self, op: OpView) -> list[Finding]:
        """All rules that an operator breaks."""
        unknown = self._unknown(op.op)
        if unknown is not None:
            return [unknown]
        return [found for entry in self.rules if (found := entry.find(op)) is not None]

    def _unknown(self, op: Op) -> Finding | None:
        by_name = not self.takes or op.name in self.takes
        by_kind = not self.kinds or op.kind in self.kinds
        if by_name and by_kind:
            return None
        words = sorted(self.takes or self.kinds)
        return Finding(
            rule="operator",
            found=op.name,
            allowed=f"{self.title} takes: {', '.join(words)}",
            severity="blocks",
            fix="replace the layer that makes it by one that the target takes",
        )


def broken_dimensions(tensors: list[Tensor]) -> str | None:
    """The first tensor with a free dimension other than its batch, in words."""
    for tensor in tensors:
        if any(size is None for size in tensor.shape[1:]):
            shape = "x".join("?" if size is None else str(size) for size in tensor.shape)
            return f"{tensor.name} has shape {shape}"
    return None
