"""What is found out about each model file: check, verify, profile, bench."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from edgekit.base.files import write_json
from edgekit.pipeline.stage import Result, Stage, StageContext
from edgekit.pipeline.stages.compress import OUTPUTS_FILE
from edgekit.pipeline.stages.export import Wanted
from edgekit.profiling.targets import load_target
from edgekit.schema.recipe import Recipe
from edgekit.schema.target import Target

RUNTIMES = {
    "tflite": "ai-edge-litert",
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "vela": "ai-edge-litert",  # of the master
}


def stages(
    one: Wanted, recipe: Recipe, targets: tuple[Target, ...], machine: dict[str, object]
) -> list[Stage]:
    """The stages for one model file; `machine` is what a measurement depends on.

    Of a file compiled for an accelerator its master is assessed: on its own target, where that
    is one of the recipe's.
    """
    own = f"export-{one.key}"
    source = one.masters[0] if one.target else own
    needs = tuple(dict.fromkeys((source, own)))
    if one.target:
        targets = tuple(t for t in targets if t.name == load_target(one.target).name)
    shown = one.file_name(recipe.name)
    about: dict[str, object] = {"artifact": shown}
    about |= {"targets": [target.model_dump(mode="json") for target in targets]}
    limits = recipe.verify.limits_for(one.precision).model_dump(mode="json")
    runtime = (RUNTIMES[one.format],)
    made = [
        Stage(f"check-{one.key}", "check", _check(source, targets, shown), needs, about),
        Stage(
            f"verify-{one.key}",
            "verify",
            _verify(source, one),
            tuple(dict.fromkeys((*needs, "data", "reference", *one.masters))),
            {"limits": limits},
            runtime,
        ),
        Stage(f"profile-{one.key}", "profile", _profile(source, targets, shown), needs, about),
    ]
    if recipe.bench.enabled and not one.target:
        settings = {"bench": recipe.bench.model_dump(mode="json"), "machine": machine}
        made.append(
            Stage(f"bench-{one.key}", "bench", _bench(source), (source,), settings, runtime)
        )
    return made


def artifact_path(context: StageContext, source: str) -> Path:
    """The model file that the stage `source` made."""
    done = context.inputs[source]
    return done.directory / str(done.result["file"])


def _dump(documents: list[BaseModel]) -> list[dict[str, object]]:
    return [document.model_dump(mode="json") for document in documents]


def _check(
    source: str, targets: tuple[Target, ...], shown: str
) -> Callable[[StageContext], Result]:
    def run(context: StageContext) -> Result:
        from edgekit.graph.read import read_graph
        from edgekit.profiling.check import check_graph

        path = artifact_path(context, source)
        graph = read_graph(path)
        reports = [check_graph(graph, target, shown, path=path) for target in targets]
        return {"checks": _dump([*reports])}

    return run


def _profile(
    source: str, targets: tuple[Target, ...], shown: str
) -> Callable[[StageContext], Result]:
    def run(context: StageContext) -> Result:
        from edgekit.graph.read import read_graph
        from edgekit.profiling.memory.report import memory_plans
        from edgekit.profiling.profile import profile_graph

        path = artifact_path(context, source)
        graph = read_graph(path)
        profiles = [profile_graph(graph, target, shown, path=path) for target in targets]
        write_json(context.directory / f"{shown}.profiles.json", _dump([*profiles]))
        plans = memory_plans(graph, targets, shown)
        return {"profiles": _dump([*profiles]), "memory": _dump([*plans])}

    return run


def _verify(source: str, one: Wanted) -> Callable[[StageContext], Result]:
    def run(context: StageContext) -> Result:
        from edgekit.runtimes.open import open_session
        from edgekit.verify.parity import master_limits, verify_file

        recipe, test = context.resources.recipe, context.resources.dataset.test
        context.progress(f"verifying {one.key} on {len(test)} samples")
        with np.load(context.inputs["reference"].directory / OUTPUTS_FILE) as stored:
            reference = {name: stored[name] for name in stored.files}
        limits = recipe.verify.limits_for(one.precision)
        path = artifact_path(context, source)
        parity = verify_file(path, reference, test.x, test.y, limits, reference_name="Keras model")
        found = {"verify": parity.model_copy(update={"artifact": path.name})}
        for name in () if one.target else one.masters:
            master = artifact_path(context, name)
            with open_session(master) as session:
                near = master_limits(limits, session.outputs)
                held = verify_file(path, session, test.x, limits=near, reference_name=master.name)
            found["master"] = held.model_copy(update={"artifact": path.name})
        return {name: result.model_dump(mode="json") for name, result in found.items()}

    return run


def _bench(source: str) -> Callable[[StageContext], Result]:
    def run(context: StageContext) -> Result:
        from edgekit.devices.bench import bench_file

        settings = context.resources.recipe.bench
        path = artifact_path(context, source)
        context.progress(f"measuring {path.name}")
        profile = bench_file(path, threads=settings.threads, max_seconds=settings.max_seconds)
        return {"profile": profile.model_dump(mode="json")}

    return run
