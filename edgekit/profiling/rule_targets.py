"""Targets made of a rule set alone: to check against a runtime without a board."""

from __future__ import annotations

from edgekit.base.errors import InputError
from edgekit.profiling.rules import RULE_SETS
from edgekit.profiling.targets import all_targets, load_target, named_target
from edgekit.schema.names import PRECISIONS, Precision
from edgekit.schema.target import MemorySpec, Processor, RuntimeSpec, Target, Zeros

_EVERY: dict[Precision, Precision | None] = dict.fromkeys(PRECISIONS)  # type: ignore[arg-type]


def rules_target(name: str) -> Target:
    """A target that has the rules of a set, and is otherwise unknown.

    Its processors are the rule set's and, where runtimes have one, that of the set's `fallback`.
    Nothing is known of its memory, costs and power: it is for checks alone.

    Args:
        name: of a rule set, such as `litert-gpu`.

    Raises:
        InputError: there is no such rule set.
    """
    rules = RULE_SETS.get(name)
    sets = [name] if rules.fallback is None else [name, rules.fallback]
    return Target(
        name=f"rules-{name}",
        title=f"Rule set {name} on any board (`edgekit check --rules {name}`)",
        device_class="npu",  # of no meaning here, as the kind of the processors
        runtime=RuntimeSpec(name=rules.title, formats=rules.formats),
        precisions=_EVERY,
        processors=tuple(Processor(name=one, kind="npu", rules=one) for one in sets),
        memory=MemorySpec(ram_bytes=None, bandwidth_gb_s=1),  # nothing is predicted by it
        zeros=Zeros(effect="none", why="nothing is known of it"),
    )


def unused_rules() -> list[str]:
    """Names of the rule sets that no shipped target has, sorted."""
    used = set()
    for target in all_targets():
        used |= {processor.rules for processor in target.processors}
        used |= {variant.rules for variant in target.variants}
    return [name for name in RULE_SETS.names() if name not in used]


def with_rules(name: str | None) -> Target:
    """The target, or the target of the rule set, that `edgekit targets rules` is asked for.

    Raises:
        TargetError: no name was given, or it is neither of a target nor of a rule set.
    """
    if name in RULE_SETS.names():
        return rules_target(str(name))
    return named_target(name, "rules")


def target_or_rules(target: str | None, rules: str | None) -> Target:
    """The target that `edgekit check` is asked for, by its name or by that of a rule set.

    Raises:
        InputError: both were given or neither, or there is none of that name.
    """
    if (target is None) == (rules is None):
        raise InputError(
            "a check needs a target or a rule set, and not both",
            hint=f"--target NAME, or --rules with one of {', '.join(RULE_SETS.names())}",
        )
    return load_target(target) if target is not None else rules_target(str(rules))


def documented() -> list[Target]:
    """What docs/ops has pages for: the shipped targets, and the rule sets that none of them has."""
    return [*all_targets(), *map(rules_target, unused_rules())]
