"""Targets with fitted costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgekit.profiling.fit.parameters import Parameter
from edgekit.profiling.fit.samples import Sample
from edgekit.schema.fitting import FitSpec
from edgekit.schema.target import KernelCosts, Target, Term


def with_costs(
    target: Target, spec: FitSpec, solution: Mapping[Parameter, float], samples: Sequence[Sample]
) -> Target:
    """The target with fitted costs, in seconds a unit, and with what the fit saw."""
    seen = {
        work.kind
        for measured in samples
        for work, where in zip(measured.loads, measured.placed, strict=True)
        if where.where == spec.processor and not work.free
    }
    sizes = [measured.view.graph.macs for measured in samples]
    ns: dict[Term, float] = {
        term: rounded(value * 1e9) for term, value in solution.items() if term != "link"
    }
    costs = KernelCosts(
        origin=spec.origin,
        source=spec.source,
        measurements=len(samples),
        ns=ns,
        cores=spec.cores,
        seen=tuple(sorted(seen)),
        seen_macs=(min(sizes), max(sizes)),
    )
    processors = []
    for processor in target.processors:
        if processor.name != spec.processor:
            processors.append(processor)
            continue
        update: dict[str, Any] = {"costs": {**processor.costs, spec.precision: costs}}
        if processor.link and solution.get("link"):
            speed = rounded(1e-9 / solution["link"])
            update["link"] = processor.link.model_copy(
                update={"gb_per_s": speed, "source": spec.source}
            )
        processors.append(processor.model_copy(update=update))
    return target.model_copy(update={"processors": tuple(processors)})


def rounded(value: float) -> float:
    """Four digits: more would not be measured."""
    return float(f"{value:.4g}")
