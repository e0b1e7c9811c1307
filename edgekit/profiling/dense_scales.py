"""Targets that take dense layers with one scale for all weights only."""

from __future__ import annotations

from collections.abc import Iterable

from edgekit.profiling.rules import RULE_SETS
from edgekit.profiling.rules.edgetpu import dense_one_scale
from edgekit.schema.target import Target


def refusing_dense_scales(targets: Iterable[Target]) -> tuple[str, ...]:
    """Names of those targets that refuse dense layers with a scale an output.

    TensorFlow's converter has written these since 2024; compilers and runtimes of before then know
    one scale for all weights of a layer (`edgekit.profiling.rules.edgetpu.dense_one_scale`).
    """
    return tuple(target.name for target in targets if _refuses(target))


def _refuses(target: Target) -> bool:
    sets = (RULE_SETS.get(one.rules, where=target.name) for one in target.processors)
    return any(one.id == dense_one_scale.id for rules in sets for one in rules.rules)
