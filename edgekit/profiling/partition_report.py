"""What a check says of a compiler with one subgraph: how much of the network is in it, and why."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.profiling.compilers import Compiled
from edgekit.profiling.edgetpu_cache import parameter_cache
from edgekit.profiling.placement import OpPlacement, place
from edgekit.profiling.rules import RULE_SETS
from edgekit.profiling.view import GraphView
from edgekit.schema.figure import Figure
from edgekit.schema.results import Finding
from edgekit.schema.target import Target

_SHOWN = 5


def partition_findings(
    view: GraphView, target: Target, placed: Sequence[OpPlacement], compiled: Compiled | None
) -> tuple[Finding, ...]:
    """Findings about the whole file, for a target whose compiler makes one subgraph.

    One says how many operators are in it and where it ends first; another, where the compiler
    itself was asked, in which operators the prediction by rules was wrong.

    Args:
        view: the graph.
        target: its first processor is the one compiled for.
        placed: where the operators run.
        compiled: the compiler's own answer, from which `placed` comes; None: a prediction.
    """
    first = target.processors[0]
    rules = RULE_SETS.get(first.rules, where=target.name)
    if rules.partition != "single":
        return ()
    findings = []
    live = [op for op in view.graph.ops if op.index not in view.free]
    left = [op for op in live if placed[op.index].where != first.name]
    if left:
        inside = len(live) - len(left)
        # What the CPU does before the subgraph, such as taking a float input, does not end it.
        entered = next((op.index for op in live if placed[op.index].where == first.name), 0)
        broken = next((op for op in left if op.index >= entered), left[0])
        why = next(iter(placed[broken.index].findings), None)
        word = f"by {compiled.compiler}" if compiled else "predicted by rules"
        reason = f": {why.found}, {why.rule.replace('_', ' ')}" if why else ""
        findings.append(
            Finding(
                rule="subgraph",
                found=f"{inside} of {len(live)} operators on {rules.title} ({word}), first break "
                f"at {broken.layer or broken.name}{reason}",
                allowed="all operators in the one subgraph that its compiler makes",
                severity="fallback",
                fix=why.fix if why else "see the operators",
                op=broken.name,
                index=broken.index,
                layer=broken.layer,
            )
        )
    if compiled is not None:
        findings += _differences(view, target, placed, compiled)
    return tuple(findings)


def _differences(
    view: GraphView, target: Target, placed: Sequence[OpPlacement], compiled: Compiled
) -> list[Finding]:
    predicted = place(view, target)
    wrong = [
        op
        for op in view.graph.ops
        if op.index not in view.free and predicted[op.index].where != placed[op.index].where
    ]
    if not wrong:
        return []
    names = [
        f"{op.index} {op.name} (predicted {predicted[op.index].where}, "
        f"compiled {placed[op.index].where})"
        for op in wrong[:_SHOWN]
    ]
    more = [f"and {len(wrong) - _SHOWN} more"] if len(wrong) > _SHOWN else []
    return [
        Finding(
            rule="prediction",
            found=f"rules and compiler differ: {', '.join(names + more)}",
            allowed=f"{compiled.compiler} is right",
            severity="fallback",
            fix="none needed: the report follows the compiler",
        )
    ]


def cache_figures(
    view: GraphView, target: Target, placed: Sequence[OpPlacement]
) -> dict[str, Figure]:
    """Predicted bytes of parameters that an Edge TPU caches and streams; none for other targets."""
    first = target.processors[0]
    if first.rules != "edgetpu" or first.parameter_cache_bytes is None:
        return {}
    found = parameter_cache(view, placed, first.name, first.parameter_cache_bytes)
    method = "weights as the Edge TPU compiler lays them out, in what it leaves of the cache"
    return {
        "parameters_cached": Figure(
            value=found.cached, unit="bytes", origin="estimated", method=method
        ),
        "parameters_streamed": Figure(
            value=found.streamed, unit="bytes", origin="estimated", method=method
        ),
    }
