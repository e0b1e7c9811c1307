"""Words for tab completion: names of targets, rule sets and recipes, and files beside them."""

from __future__ import annotations

from pathlib import Path


def target_words(incomplete: str) -> list[str]:
    """Targets and YAML files that begin with what was typed."""
    from edgekit.profiling.targets import target_names

    return _matching(incomplete, target_names())


def rules_words(incomplete: str) -> list[str]:
    """Rule sets that begin with what was typed."""
    from edgekit.profiling.rules import RULE_SETS

    return [name for name in RULE_SETS.names() if name.startswith(incomplete)]


def recipe_words(incomplete: str) -> list[str]:
    """Recipes and YAML files that begin with what was typed."""
    from edgekit.pipeline.shipped import recipe_names

    return _matching(incomplete, recipe_names())


def _matching(incomplete: str, names: list[str]) -> list[str]:
    folder = Path(incomplete) if incomplete.endswith("/") else Path(incomplete).parent
    files = [f"{path}/" if path.is_dir() else str(path) for path in sorted(folder.glob("*"))]
    known = [*names, *(file for file in files if file.endswith(("/", ".yaml", ".yml")))]
    return [word for word in known if word.startswith(incomplete)]
