"""The train stage: a model built, trained and evaluated."""

from __future__ import annotations

from typing import Any

from edgekit.base.files import write_json
from edgekit.pipeline.stage import Result, Stage, StageContext

MODEL_FILE = "model.keras"


def stage(fingerprint: str | None, settings: dict[str, Any]) -> Stage:
    """The stage for one recipe; `fingerprint` is the hash of the model's own file, if any."""
    return Stage(
        name="train",
        group="train",
        function=_run,
        inputs=("data",),
        settings={**settings, "files": fingerprint},
        libraries=("keras", "tensorflow", "numpy"),
        resumable=True,
    )


def _run(context: StageContext) -> Result:
    from edgekit.models.build import build_model
    from edgekit.models.files import save_model
    from edgekit.training.evaluate import evaluate
    from edgekit.training.fit import fit

    recipe, dataset = context.resources.recipe, context.resources.dataset
    # Importing the converters takes seconds: let the child do it while this process trains.
    context.resources.worker.start()
    context.progress(f"building {recipe.model.name}")
    model = build_model(
        recipe.model,
        input_shapes=dataset.input_shapes,
        classes=dataset.classes,
        root=context.resources.root,
        seed=recipe.seed,
        source=context.resources.source,
    )
    checkpoints = context.directory / "checkpoints"
    trained = fit(
        model,
        dataset,
        recipe.train,
        seed=recipe.seed,
        directory=checkpoints,
        progress=context.progress,
    )
    save_model(model, context.directory / MODEL_FILE)
    write_json(context.directory / "history.json", trained.history)
    return {
        "epochs": trained.epochs,
        "best_epoch": trained.best_epoch,
        "parameters": int(model.count_params()),
        "metrics": evaluate(model, dataset.test),
    }
