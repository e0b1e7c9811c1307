"""Words for tab completion: names of targets and recipes, and files beside them."""

from __future__ import annotations

from pathlib import Path


def target_words(incomplete: str) -> list[str]:
    """Targets and YAML files that begin with what was typed."""
    from edgekit.profiling.targets import target_names

    return _matching(incomplete, target_names())


def recipe_words(incomplete: str) -> list[str]:
    """Recipes and YAML files that begin with what was typed."""
    from edgekit.pipeline.shipped import recipe_names

    return _matching(incomplete, recipe_names())


def _matching(incomplete: str, names: list[str]) -> list[str]:
    folder = Path(incomplete) if incomplete.endswith("/") else Path(incomplete).parent
    files = [f"{path}/" if path.is_dir() else str(path) for path in sorted(folder.glob("*"))]
    known = [*names, *(file for file in files if file.endswith(("/", ".yaml", ".yml")))]
    return [word for word in known if word.startswith(incomplete)]
