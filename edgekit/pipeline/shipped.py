"""Recipes that come with edgekit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekit.base.errors import RecipeError, did_you_mean
from edgekit.schema.recipe import load_recipe
from edgekit.schema.shipped import shipped_dir


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    return sorted(path.stem for path in shipped_dir("recipes").glob("*.yaml"))


def find_recipe(name_or_path: str) -> Path:
    """The file of a recipe: a path, or the name of a shipped recipe.

    Raises:
        RecipeError: there is none.
    """
    path = Path(name_or_path)
    if path.exists() or path.suffix in (".yaml", ".yml"):
        return path
    shipped = shipped_dir("recipes") / f"{name_or_path}.yaml"
    if not shipped.exists():
        hint = did_you_mean(name_or_path, recipe_names())
        raise RecipeError(f"there is no recipe '{name_or_path}'", hint=hint)
    return shipped


def recipes_action(
    action: str, name: str | None, overrides: tuple[str, ...]
) -> tuple[dict[str, Any], str]:
    """What `edgekit recipes ACTION NAME` answers: a document, and the same in words.

    Raises:
        RecipeError: an unknown action, no recipe of that name, or a recipe that is not valid.
    """
    if action == "list":
        recipes = [load_recipe(find_recipe(known))[0] for known in recipe_names()]
        rows = [{"name": recipe.name, "description": recipe.description} for recipe in recipes]
        return {"recipes": rows}, "\n".join(f"{r['name']:<20} {r['description']}" for r in rows)
    if action not in ("show", "validate"):
        hint = did_you_mean(action, ["list", "show", "validate"])
        raise RecipeError(f"unknown action '{action}'", hint=hint)
    if name is None:
        raise RecipeError(f"'{action}' needs a recipe", hint="edgekit recipes list")
    path = find_recipe(name)
    recipe, _ = load_recipe(path, overrides)
    document = recipe.model_dump(mode="json")
    if action == "show":
        return document, path.read_text(encoding="utf-8").rstrip()
    return {"valid": True, "recipe": document}, f"{path} is a valid recipe"
