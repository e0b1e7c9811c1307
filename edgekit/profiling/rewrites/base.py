"""What a rewrite is: a function that changes a graph where a rule was found broken.

Its docstring is what it does, in words for people. It says of its result what it promises; whoever
applies it holds it to that on the real runtime, and looks whether the finding is gone.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from edgekit.graph.tflite_edit import TFLiteEditor
from edgekit.schema.fixing import Promise
from edgekit.schema.results import Finding
from edgekit.schema.target import Target

Model = TypeVar("Model")


class RefusedError(Exception):
    """A rewrite does not apply here; the message says why."""


class UnrelatedError(RefusedError):
    """A rewrite has nothing to do with what was found, and that is not worth telling."""


@dataclass(frozen=True)
class Change:
    """What a rewrite did.

    Attributes:
        words: what stands where now.
        promise: how near the results are to those before.
    """

    words: str
    promise: Promise


@dataclass(frozen=True)
class Site(Generic[Model]):
    """Where a rewrite is asked for.

    Attributes:
        model: to be changed in its place.
        finding: the broken rule.
        target: of the check.
        arguments: what the rule means for the rewrite.
    """

    model: Model
    finding: Finding
    target: Target
    arguments: Mapping[str, Any] = field(default_factory=dict)


Apply = Callable[[Site[Any]], Change]
Rules = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Rewrite:
    """A known fix.

    Attributes:
        text: what it does: the function's docstring.
        rules: the rules that it is an answer to, with the arguments that it takes for each.
        ops: names of the operators that it is an answer for; empty for all.
        apply: changes the model of a site in its place. It may raise `RefusedError`, after which
            the model is thrown away.
    """

    text: str
    rules: Rules
    ops: frozenset[str]
    apply: Apply

    def answers(self, finding: Finding) -> bool:
        """Whether it is a fix for what was found."""
        return finding.rule in self.rules and (not self.ops or finding.op in self.ops)


def rewrite(*rules: str | Rules, ops: str = "") -> Callable[[Apply], Rewrite]:
    """Makes a rewrite of a function.

    Args:
        rules: ids of the rules that it answers; or ids with the arguments for each.
        ops: names of the operators that it is for, with blanks between; none meaning all.
    """
    answered: dict[str, Mapping[str, Any]] = {}
    for one in rules:
        answered |= {one: {}} if isinstance(one, str) else one

    def make(apply: Apply) -> Rewrite:
        text = " ".join(inspect.cleandoc(apply.__doc__ or "").split())
        return Rewrite(text, answered, frozenset(ops.split()), apply)

    return make


def operator(site: Site[TFLiteEditor]) -> Any:
    """The operator that a finding is about.

    Raises:
        RefusedError: the finding is about the whole file.
    """
    if site.finding.index is None:
        raise RefusedError("the finding is not about an operator")
    return site.model.ops[site.finding.index]
