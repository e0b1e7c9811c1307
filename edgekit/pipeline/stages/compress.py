"""The compress stages, one a pass, and the reference: the outputs of the final Keras model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgekit.base.files import atomic_path, write_json
from edgekit.pipeline.fingerprint import fingerprints
from edgekit.pipeline.stage import Result, Stage, StageContext
from edgekit.pipeline.stages.train import MODEL_FILE
from edgekit.profiling.dense_scales import refusing_dense_scales
from edgekit.schema.plan import QuantizationPlan, save_plan
from edgekit.schema.recipe import PassSpec
from edgekit.schema.target import Target

OUTPUTS_FILE = "outputs.npz"
_LIBRARIES = ("keras", "tensorflow", "numpy")


def stages(
    specs: tuple[PassSpec, ...],
    targets: tuple[Target, ...],
    fine_tuning: object,
    seed: int,
    root: Path,
) -> list[Stage]:
    """One stage for each pass, each on the model of the one before, then the reference."""
    made: list[Stage] = []
    simple = refusing_dense_scales(targets)
    before = "train"
    for position, spec in enumerate(specs):
        name = f"compress-{position + 1}-{spec.name}"
        settings = {
            "pass": spec.model_dump(mode="json"),
            "train": fine_tuning,
            "seed": seed,
            "files": fingerprints(spec.args, root),
            "zeros": [target.zeros.model_dump(mode="json") for target in targets],
            **({"dense_one_scale": list(simple)} if simple else {}),
        }
        made.append(
            Stage(
                name=name,
                group="compress",
                function=_pass(position, before),
                inputs=("data", before),
                settings=settings,
                libraries=_LIBRARIES,
            )
        )
        before = name
    made.append(
        Stage(
            name="reference",
            group="compress",
            function=_reference(before),
            inputs=("data", before),
            libraries=_LIBRARIES,
        )
    )
    return made


def final_model(specs: tuple[PassSpec, ...]) -> str:
    """Name of the stage that holds the final Keras model."""
    return f"compress-{len(specs)}-{specs[-1].name}" if specs else "train"


def _pass(position: int, before: str) -> Callable[[StageContext], Result]:
    def run(context: StageContext) -> Result:
        from edgekit.compress.contract import PassContext
        from edgekit.compress.passes import run_passes
        from edgekit.models.files import load_model, save_model
        from edgekit.training.evaluate import evaluate

        resources = context.resources
        earlier = context.inputs[before].result.get("plan")
        model = load_model(context.inputs[before].directory / MODEL_FILE)
        model, reports, plan = run_passes(
            model,
            [resources.recipe.compress[position]],
            PassContext(
                dataset=resources.dataset,
                train=resources.recipe.train,
                seed=resources.recipe.seed,
                targets=resources.targets,
                directory=context.directory / "work",
                progress=context.progress,
                tell=context.progress,
                root=resources.root,
                plan=QuantizationPlan.model_validate(earlier) if earlier else None,
                ran=tuple(spec.name for spec in resources.recipe.compress[:position]),
            ),
            resources.source,
            first=position,
        )
        save_model(model, context.directory / MODEL_FILE)
        if plan:
            save_plan(plan, context.directory / MODEL_FILE)
        write_json(context.directory / "report.json", reports)
        return {
            "report": reports[0],
            "plan": plan.model_dump(mode="json") if plan else None,
            "metrics": evaluate(model, resources.dataset.test),
        }

    return run


def _reference(before: str) -> Callable[[StageContext], Result]:
    def run(context: StageContext) -> Result:
        from edgekit.models.files import load_model
        from edgekit.training.evaluate import record_outputs
        from edgekit.verify.metrics import classification_metrics

        context.progress("recording the outputs of the Keras model")
        test = context.resources.dataset.test
        outputs = record_outputs(load_model(context.inputs[before].directory / MODEL_FILE), test.x)
        with atomic_path(context.directory / OUTPUTS_FILE) as path:
            np.savez(path, **outputs)  # type: ignore[arg-type]
        first = next(iter(outputs.values()))
        return {"metrics": classification_metrics(first, test.y)}

    return run
