"""From a recipe to its stages, in the order in which they run."""

from __future__ import annotations

from edgekit.base.errors import RecipeError, did_you_mean
from edgekit.pipeline.fingerprint import fingerprint
from edgekit.pipeline.resources import Resources
from edgekit.pipeline.stage import Stage
from edgekit.pipeline.stages import assess, compress, data, export, train

GROUPS = ("data", "train", "compress", "export", "check", "verify", "profile", "bench", "package")


def stages_of(resources: Resources, machine: dict[str, object]) -> list[Stage]:
    """All stages of a recipe up to the release of a bundle, each after those that it reads."""
    recipe, root = resources.recipe, resources.root
    training = {
        "model": recipe.model.model_dump(mode="json"),
        "train": recipe.train.model_dump(mode="json"),
        "seed": recipe.seed,
    }
    files = export.wanted(recipe)
    model = compress.final_model(recipe.compress)
    made = [
        data.stage(
            fingerprint(recipe.data.source, root), recipe.data.model_dump(mode="json"), recipe.seed
        ),
        train.stage(fingerprint(recipe.model.name, root), training),
        *compress.stages(recipe.compress, resources.targets, training["train"], recipe.seed, root),
        *(export.stage(one, recipe, model, resources.targets) for one in files),
    ]
    for one in files:
        made += assess.stages(one, recipe, resources.targets, machine)
    return sorted(made, key=lambda stage: GROUPS.index(stage.group))


def until(stages: list[Stage], group: str | None) -> list[Stage]:
    """The stages up to and with one group.

    Raises:
        RecipeError: there is no such group.
    """
    if group is None:
        return stages
    if group not in GROUPS:
        hint = did_you_mean(group, GROUPS)
        raise RecipeError(f"unknown stage '{group}'", where="--until", hint=hint)
    last = GROUPS.index(group)
    return [stage for stage in stages if GROUPS.index(stage.group) <= last]
