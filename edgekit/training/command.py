"""A recipe's training on its own: `edgekit train`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from edgekit.base.files import write_json
from edgekit.base.progress import Progress, silent
from edgekit.data.sources import load_dataset
from edgekit.models.build import build_model
from edgekit.models.files import save_model
from edgekit.schema.base import Document
from edgekit.schema.recipe import load_recipe
from edgekit.training.evaluate import evaluate
from edgekit.training.fit import fit


class TrainReport(Document):
    """`edgekit train --json`.

    Attributes:
        model: the .keras file.
        history_file: the history as JSON.
        parameters: of the model.
        epochs: how many were trained.
        best_epoch: the epoch (from 0) whose weights were kept, if early stopping chose it.
        seconds: time of the training.
        samples: of each split.
        metrics: by split, then by name.
        history: one value an epoch, by metric.
    """

    model: str
    history_file: str
    parameters: int
    epochs: int
    best_epoch: int | None
    seconds: float
    samples: dict[str, int]
    metrics: dict[str, dict[str, float]]
    history: dict[str, list[float]]


def train_recipe(
    path: Path,
    *,
    output: Path | None = None,
    overrides: tuple[str, ...] = (),
    progress: Progress = silent,
) -> TrainReport:
    """Trains what a recipe says into a .keras file, with its history as JSON beside it.

    If it is interrupted, the same call goes on where it was.

    Args:
        path: the recipe.
        output: the file to write; by default named as the recipe, in the current folder.
        overrides: `a.b=c` settings that replace values of the recipe.
        progress: told what is done.

    Raises:
        RecipeError: the recipe, its model or its training settings cannot be used.
        DataError: its data cannot be used.
        ModelFileError: the output is no .keras file.
        StorageError: the disk is full.
    """
    recipe, source = load_recipe(path, overrides)
    target = output or Path(f"{recipe.name}.keras")
    progress(f"loading {recipe.data.source}")
    dataset = load_dataset(recipe.data, seed=recipe.seed, root=path.parent, source=source)
    progress(f"building {recipe.model.name}")
    model = build_model(
        recipe.model,
        input_shapes=dataset.input_shapes,
        classes=dataset.classes,
        root=path.parent,
        seed=recipe.seed,
        source=source,
    )
    directory = target.with_suffix(".training")
    result = fit(
        model, dataset, recipe.train, seed=recipe.seed, directory=directory, progress=progress
    )
    save_model(model, target)
    history_file = target.with_suffix(".history.json")
    write_json(history_file, result.history)
    with suppress(OSError):  # a TensorBoard log may lie there
        directory.rmdir()
    splits = {name: getattr(dataset, name) for name in ("train", "validation", "test")}
    return TrainReport(
        model=str(target),
        history_file=str(history_file),
        parameters=int(model.count_params()),
        epochs=result.epochs,
        best_epoch=result.best_epoch,
        seconds=round(result.seconds, 3),
        samples={name: len(split) for name, split in splits.items()},
        metrics={name: evaluate(model, split) for name, split in splits.items()},
        history=result.history,
    )
