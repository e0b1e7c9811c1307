"""Targets by name or by file."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from edgekit.base.errors import TargetError, did_you_mean
from edgekit.base.registry import Registry
from edgekit.profiling.compilers import COMPILERS
from edgekit.profiling.kernels.shapes import FEATURE_VERSION
from edgekit.profiling.rules import RULE_SETS
from edgekit.schema.shipped import shipped_dir
from edgekit.schema.target import Target, read_target
from edgekit.schema.yamlfile import Location, YamlSource, read_yaml, validate

_FAST: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def target_names() -> list[str]:
    """Names of the shipped targets, sorted."""
    return sorted(path.stem for path in shipped_dir("targets").glob("*.yaml"))


def load_target(name_or_path: str) -> Target:
    """A shipped target by its name, or any target by the path of its .yaml file.

    `FILE@2` is a calibrated target with two threads (`Target.variants`).

    Raises:
        TargetError: there is none, its file cannot be used, it has no such threads, or another
            version of edgekit calibrated it.
    """
    name, at, threads = name_or_path.rpartition("@")
    if at and threads.isdigit():
        return _with_threads(load_target(name), int(threads))
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        source = read_yaml(path, TargetError)
        target = validate(Target, source, TargetError)
        _refuse_unknown_names(target, source)
        return _calibrated_for_this_code(target, name_or_path)
    if name_or_path not in target_names():
        raise TargetError(
            f"unknown target '{name_or_path}'", hint=did_you_mean(name_or_path, target_names())
        )
    return _load_shipped(name_or_path)


def _refuse_unknown_names(target: Target, source: YamlSource) -> None:
    """Refuses a target file with names that nothing is registered under.

    Raises:
        TargetError: at the line of the first.
    """
    named: list[tuple[Registry[Any], Location, str]] = [
        *((RULE_SETS, ("processors", n, "rules"), one.rules)
          for n, one in enumerate(target.processors)),
        *((RULE_SETS, ("variants", n, "rules"), one.rules)
          for n, one in enumerate(target.variants)),
    ]  # fmt: skip
    if target.compiler is not None:
        named.append((COMPILERS, ("compiler", "name"), target.compiler.name))
    for registry, place, name in named:
        if name not in registry.names():
            raise TargetError(
                f"'{'.'.join(map(str, place))}': unknown {registry.kind} '{name}'",
                where=source.where(place),
                hint=did_you_mean(name, registry.names()),
            )


def _calibrated_for_this_code(target: Target, path: str) -> Target:
    """The target, whose tables of kernels have the features that they are looked up by.

    Raises:
        TargetError: another version of edgekit measured them.
    """
    costs = [
        *(processor.costs for processor in target.processors),
        *(variant.costs for variant in target.variants),
    ]
    tables = [one.kernels for each in costs for one in each.values() if one.kernels is not None]
    odd = {table.feature_version for table in tables} - {FEATURE_VERSION}
    if odd:
        raise TargetError(
            f"its measured kernels are described by features of version {min(odd)}, and this "
            f"edgekit looks them up by version {FEATURE_VERSION}",
            where=path,
            hint="calibrate again with `edgekit calibrate`",
        )
    return target


def _with_threads(target: Target, threads: int) -> Target:
    """A target whose runtime, and whose variants, have so many threads."""
    runtimes = (target.runtime, *(variant.runtime for variant in target.variants))
    same = [runtime for runtime in runtimes if runtime.threads == threads]
    if not same:
        known = sorted({runtime.threads for runtime in runtimes if runtime.threads})
        raise TargetError(
            f"{target.name} was not measured with {threads} threads",
            hint=f"it has {', '.join(map(str, known))}" if known else None,
        )
    changed = target.running(same[0].formats[0], threads)
    plural = "s" if threads > 1 else ""
    return changed.model_copy(update={"name": f"{target.name}-{threads}-thread{plural}"})


@cache
def _load_shipped(name: str) -> Target:
    path = shipped_dir("targets") / f"{name}.yaml"
    try:  # libyaml, where PyYAML has it, reads forty targets in a tenth of the time
        return Target.model_validate(yaml.load(path.read_bytes(), Loader=_FAST))  # noqa: S506
    except (yaml.YAMLError, ValidationError, OSError):
        return read_target(path)  # says what is wrong, and where


def all_targets() -> list[Target]:
    """The shipped targets, by name."""
    return [_load_shipped(name) for name in target_names()]


def named_target(name: str | None, action: str) -> Target:
    """The target that a command was asked for.

    Raises:
        TargetError: no name was given, there is none of that name, or its file cannot be used.
    """
    if name is None:
        raise TargetError(
            f"'{action}' needs the name or the file of a target",
            hint=f"edgekit targets {action} NAME; names: {', '.join(target_names())}",
        )
    return load_target(name)
