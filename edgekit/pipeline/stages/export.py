"""The export stages: one a model file, each proven on its real runtime before it is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.base.extras import versions
from edgekit.pipeline.stage import Result, Stage, StageContext
from edgekit.pipeline.stages.compress import OUTPUTS_FILE
from edgekit.pipeline.stages.data import CALIBRATION_FILE
from edgekit.pipeline.stages.train import MODEL_FILE
from edgekit.profiling.dense_scales import refusing_dense_scales
from edgekit.profiling.targets import load_target
from edgekit.schema.artifact import Preprocessing
from edgekit.schema.names import SUFFIX_OF, Format, Precision
from edgekit.schema.plan import load_plan
from edgekit.schema.recipe import Recipe
from edgekit.schema.target import Target

_GATE_SAMPLES = 512
_DERIVED: tuple[Precision, ...] = ("int8", "mixed")
_LIBRARIES: dict[str, tuple[str, ...]] = {
    "tflite": ("tensorflow", "keras", "ai-edge-litert", "ai-edge-quantizer"),
    "onnx": ("tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime"),
    "openvino": ("tensorflow", "keras", "openvino"),
    "vela": ("ethos-u-vela",),
}


@dataclass(frozen=True)
class Wanted:
    """One model file that a recipe asks for.

    Attributes:
        native: by its runtime's own quantizer.
        target: that the file is compiled for, if it is.
    """

    format: Format
    precision: Precision
    opset: int | None = None
    native: bool = False
    target: str | None = None

    @property
    def key(self) -> str:
        """The word for it in stage names: "tflite-int8"."""
        return f"{self.format}-{self._kind}"

    @property
    def _kind(self) -> str:
        if self.target is not None:
            return f"{self.precision}-{Path(self.target).stem}"
        return f"{self.precision}-native" if self.native else self.precision

    @property
    def master(self) -> Wanted | None:
        """The TFLite file of the same precision, if this one derives from it."""
        derived = self.precision in _DERIVED and self.format != "tflite" and not self.native
        return Wanted("tflite", self.precision) if derived else None

    @property
    def masters(self) -> tuple[str, ...]:
        """The stage of the master, if there is one; else nothing."""
        return (f"export-{self.master.key}",) if self.master else ()

    def file_name(self, recipe_name: str) -> str:
        """Name of the model file."""
        return f"{recipe_name}-{self._kind}{SUFFIX_OF[self.format]}"


def wanted(recipe: Recipe) -> list[Wanted]:
    """The model files of a recipe, each once, a master before what derives from it."""
    files: list[Wanted] = []
    for spec in recipe.export:
        for precision in spec.precision:
            one = Wanted(spec.format, precision, spec.opset, target=spec.target)
            files += [one.master, one] if one.master else [one]
            if one.master and precision == "int8" and not one.target and _is_native(recipe):
                files.append(replace(one, native=True))
    return list({one.key: one for one in files}.values())


def _is_native(recipe: Recipe) -> bool:
    """Whether a pass plans the runtimes' own quantizers; the derived files are made too."""
    return any(spec.args.get("engine") == "native" for spec in recipe.compress)


def stage(one: Wanted, recipe: Recipe, model: str, targets: Sequence[Target] = ()) -> Stage:
    """The stage that makes one model file from the Keras model of the stage `model`.

    Args:
        one: the file.
        recipe: that asks for it.
        model: name of a stage.
        targets: of the recipe: some take dense layers with one scale only.
    """
    simple = refusing_dense_scales(targets) if one.key == "tflite-int8" else ()
    return Stage(
        name=f"export-{one.key}",
        group="export",
        function=_run(one, model, simple),
        inputs=("data", model, "reference", *one.masters),
        settings={
            "format": one.format,
            "precision": one.precision,
            "opset": one.opset,
            "native": one.native,
            **({"target": load_target(one.target).model_dump(mode="json")} if one.target else {}),
            **({"dense_one_scale": list(simple)} if simple else {}),
            "file": one.file_name(recipe.name),
            "limits": recipe.verify.limits_for(one.precision).model_dump(mode="json"),
        },
        libraries=(*_LIBRARIES[one.format], *(("nncf",) if one.native else ())),
    )


def _run(one: Wanted, model: str, simple: tuple[str, ...]) -> Callable[[StageContext], Result]:
    def run(context: StageContext) -> Result:
        from edgekit.export.exporter import ExportJob, export

        recipe = context.resources.recipe
        context.progress(f"converting to {one.format} {one.precision}")
        masters = [context.inputs[name] for name in one.masters]
        master = next((done.directory / str(done.result["file"]) for done in masters), None)
        data = context.inputs["data"]
        with np.load(context.inputs["reference"].directory / OUTPUTS_FILE) as outputs:
            reference_y = {name: outputs[name][:_GATE_SAMPLES] for name in outputs.files}
        keras_file = context.inputs[model].directory / MODEL_FILE
        plan = load_plan(keras_file)
        if plan is not None:
            plan = plan.model_copy(update={"engine": "native" if one.native else "derived"})
        job = ExportJob(
            model=keras_file,
            format=one.format,
            precision=one.precision,
            output=context.directory / one.file_name(recipe.name),
            calibration=data.directory / CALIBRATION_FILE,
            master=master,
            opset=one.opset,
            plan=plan,
            target=one.target,
            dense_one_scale=simple,
        )
        sidecar = export(
            job,
            worker=context.resources.worker,
            limits=recipe.verify.limits_for(one.precision),
            preprocessing=Preprocessing.model_validate(data.result["preprocessing"]),
            labels=tuple(data.result["labels"]),
            provenance=_provenance(recipe, one),
            reference_x=context.resources.dataset.test.take(_GATE_SAMPLES).x,
            reference_y=reference_y,
        )
        return {
            "file": sidecar.file,
            "bytes": sidecar.bytes,
            "sha256": sidecar.sha256,
            "format": one.format,
            "precision": one.precision,
        }

    return run


def _provenance(recipe: Recipe, one: Wanted) -> dict[str, Any]:
    return {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "passes": [spec.model_dump(mode="json") for spec in recipe.compress],
        "versions": versions("edgekit", *_LIBRARIES[one.format]),
    }
