"""Which processor runs each operator, and why not a better one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgekit.graph.types import Graph, Op
from edgekit.profiling.links import WEIGHTED
from edgekit.profiling.partition import first_subgraph
from edgekit.profiling.rules import RULE_SETS, OpView, RuleSet
from edgekit.profiling.rules.base import finding
from edgekit.profiling.view import GraphView
from edgekit.schema.results import Finding, Placement, Severity
from edgekit.schema.target import Target

# What a compiler leaves behind, and the rule sets of the processors that it compiles for.
COMPILED = {"edgetpu-custom-op": ("edgetpu",), "ethos-u": ("ethos-u55", "ethos-u85")}


@dataclass(frozen=True)
class OpPlacement:
    """Where an operator runs.

    Attributes:
        where: name of the processor, or None if none of the target takes it.
        findings: broken rules: those of the processors before `where`, and what makes it slow
            there.
    """

    where: str | None
    findings: tuple[Finding, ...] = ()


def place(view: GraphView, target: Target) -> list[OpPlacement]:
    """Places each operator on the first of the target's processors that takes it.

    A compiler that makes a single subgraph leaves everything behind that comes after an operator
    which it cannot map (`edgekit.profiling.partition`).
    """
    rule_sets: list[RuleSet] = [
        RULE_SETS.get(processor.rules, where=target.name) for processor in target.processors
    ]
    broken = [_all_findings(view, rules, target) for rules in rule_sets]
    for number, rules in enumerate(rule_sets):
        if rules.partition == "single":
            broken[number] = _with_downstream(view, broken[number], rules)
    return [
        _place(target, [column[index] for column in broken]) for index in range(len(view.graph.ops))
    ]


def counted(placed: Sequence[OpPlacement], target: Target) -> Placement:
    """How many operators run where."""
    first = target.processors[0]
    on_first = sum(place.where == first.name for place in placed)
    unplaced = sum(place.where is None for place in placed)
    return Placement(
        accelerator_ops=0 if first.kind == "cpu" else on_first,
        fallback_ops=len(placed) - on_first - unplaced,
        unplaced_ops=unplaced,
    )


def _all_findings(view: GraphView, rules: RuleSet, target: Target) -> Sequence[list[Finding]]:
    """Findings of every operator, found once for all targets with the same rules."""
    key = (rules.name, tuple(target.precisions))
    found: list[list[Finding]] | None = view.found.get(key)
    if found is None:
        found = [_findings(view, op, rules, target) for op in view.graph.ops]
        view.found[key] = found
    return found


def _findings(view: GraphView, op: Op, rules: RuleSet, target: Target) -> list[Finding]:
    if op.index in view.free:
        return []
    if op.kind in WEIGHTED:
        precision = view.op_precision(op)
        if precision not in target.precisions:
            allowed = ", ".join(target.precisions)
            fix = f"export with --precision {next(iter(target.precisions))}"
            return [finding(op, "precision", precision, allowed, fix=fix, severity="blocks")]
    if rules.name in COMPILED.get(op.name, ()):
        return []
    return rules.findings(OpView(view, op))


def _with_downstream(
    view: GraphView, findings: Sequence[list[Finding]], rules: RuleSet
) -> list[list[Finding]]:
    taken = [not _blocking(found) for found in findings]
    inside = first_subgraph(view, taken) | view.free
    return [
        [_downstream(op, rules)] if taken[op.index] and op.index not in inside else found
        for op, found in zip(view.graph.ops, findings, strict=True)
    ]


def _downstream(op: Op, rules: RuleSet) -> Finding:
    return finding(
        op,
        "partition",
        "comes after an operator that stays on the CPU",
        f"{rules.title} compiler makes one subgraph: what follows an unmapped operator stays out",
        fix="replace the operator before it that is not mapped, or move it to the end",
        severity="blocks",
    )


def _blocking(findings: Sequence[Finding]) -> list[Finding]:
    return [found for found in findings if found.severity == "blocks"]


def _place(target: Target, findings: Sequence[list[Finding]]) -> OpPlacement:
    passed: list[Finding] = []
    for processor, found in zip(target.processors, findings, strict=True):
        blocking = _blocking(found)
        if not blocking:
            return OpPlacement(processor.name, (*_marked(passed, "fallback"), *found))
        passed += blocking
    return OpPlacement(None, _marked(passed, "unsupported"))


def _marked(findings: Sequence[Finding], severity: Severity) -> tuple[Finding, ...]:
    return tuple(found.model_copy(update={"severity": severity}) for found in findings)


def crossing_tensors(
    graph: Graph, placed: Sequence[OpPlacement], processor: str
) -> tuple[set[int], set[int]]:
    """Tensors that go into a processor, and those that come out: each crosses once a direction."""
    inside = {
        index
        for op, where in zip(graph.ops, placed, strict=True)
        if where.where == processor
        for index in op.outputs
    }
    into: set[int] = set()
    out = {port.tensor for port in graph.outputs} & inside
    for op, where in zip(graph.ops, placed, strict=True):
        if where.where == processor:
            into.update(i for i in op.inputs if not graph.tensors[i].constant and i not in inside)
        else:
            out.update(inside.intersection(op.inputs))
    return into, out
