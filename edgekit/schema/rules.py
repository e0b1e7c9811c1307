"""`edgekit targets rules --json`: what a target takes, by rule."""

from __future__ import annotations

from edgekit.schema.base import Document
from edgekit.schema.results import Severity


class RuleRow(Document):
    """One published restriction.

    Attributes:
        id: what findings of `edgekit check` name it by.
        operators: those that it concerns; empty for all.
        severity: `blocks` if an operator that breaks it is not taken.
        rule: what is allowed.
    """

    id: str
    operators: tuple[str, ...]
    severity: Severity
    rule: str
    fix: str
    source: str


class RuleTable(Document):
    """One rule set.

    Attributes:
        about: what must be known of it, such as its version.
        operators: names that it takes; empty if `kinds` says it, or for all.
        kinds: classes of operators that it takes; empty if `operators` says it, or for all.
    """

    name: str
    title: str
    source: str
    about: str
    operators: tuple[str, ...]
    kinds: tuple[str, ...]
    rules: tuple[RuleRow, ...]


class ProcessorRules(Document):
    """The rules of one processor; operators go to the first that takes them.

    Attributes:
        fast: the rules of its fast kernels, if it has others too.
    """

    processor: str
    table: RuleTable
    fast: RuleTable | None = None


class TargetRules(Document):
    """All rules of a target."""

    target: str
    title: str
    formats: tuple[str, ...]
    precisions: tuple[str, ...]
    processors: tuple[ProcessorRules, ...]
