"""Runs stages one by one: from the cache where nothing changed, else anew."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgekit.base.errors import CheckFailedError, EdgekitError, ToolError
from edgekit.base.extras import versions
from edgekit.base.files import canonical_json, sha256_text
from edgekit.base.progress import Progress
from edgekit.pipeline.events import Listener, StageFailed, StageFinished, StageStarted
from edgekit.pipeline.fingerprint import code_version
from edgekit.pipeline.resources import Resources
from edgekit.pipeline.rundir import RunDirectory
from edgekit.pipeline.stage import Done, Stage, StageContext
from edgekit.schema.figure import Figure
from edgekit.schema.units import show_figure


@dataclass
class Execution:
    """What came of the stages: those done, in order, and those that failed."""

    done: dict[str, Done] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    failed: dict[str, EdgekitError] = field(default_factory=dict)


def execute(
    stages: Sequence[Stage],
    run: RunDirectory,
    resources: Resources,
    progress: Progress,
    listen: Listener,
) -> Execution:
    """Runs `stages` in order.

    A model file that cannot be converted or does not pass its check takes only the stages that
    need it with it; any other failure ends the run.

    Raises:
        EdgekitError: a stage failed on which everything depends.
    """
    execution = Execution()
    digests: dict[str, str] = {}
    for position, stage in enumerate(stages):
        missing = [name for name in stage.inputs if name not in execution.done]
        if missing:
            listen(StageFailed(stage.name, f"left out: {missing[0]} failed"))
            continue
        key = cache_key(stage, digests)
        listen(StageStarted(stage.name, position, len(stages)))
        try:
            record, origin = _obtain(stage, key, run, resources, execution.done, progress)
        except (CheckFailedError, ToolError) as error:
            listen(StageFailed(stage.name, str(error)))
            if stage.group in ("data", "train", "compress"):
                raise
            execution.failed[stage.name] = error
            continue
        digests[stage.name] = sha256_text(canonical_json([record["result"], record["files"]]))
        execution.done[stage.name] = Done(run.stages / stage.name, record["result"])
        execution.origins[stage.name] = origin
        execution.keys[stage.name] = key
        execution.seconds[stage.name] = record["seconds"]
        listen(StageFinished(stage.name, origin, record["seconds"], _summary(record["result"])))
    return execution


def cache_key(stage: Stage, digests: Mapping[str, str]) -> str:
    """The hash of a stage's inputs, its settings and the versions of the libraries it calls."""
    parts = {
        "stage": stage.name,
        "edgekit": code_version(),
        "inputs": {name: digests[name] for name in stage.inputs},
        "settings": stage.settings,
        "versions": versions(*stage.libraries),
    }
    return sha256_text(canonical_json(parts))


def _obtain(
    stage: Stage,
    key: str,
    run: RunDirectory,
    resources: Resources,
    done: Mapping[str, Done],
    progress: Progress,
) -> tuple[dict[str, Any], str]:
    record = run.finished(stage.name, key)
    if record is not None:
        return record, "cache"
    record = run.adopt(stage.name, key)
    if record is not None:
        return record, "another run"
    directory = run.begin(stage.name, key, resumable=stage.resumable)
    inputs = {name: done[name] for name in stage.inputs}
    start = time.perf_counter()
    result = stage.function(StageContext(directory, inputs, resources, progress))
    return run.finish(stage.name, key, result, time.perf_counter() - start), "now"


def _summary(result: Mapping[str, Any]) -> str:
    """What a stage found, in a few words."""
    if "file" in result:
        return f"{result['file']}, {result['bytes']:,} bytes"
    if "verify" in result:
        parity = result["verify"]
        noise = "identical" if parity["snr_db"] is None else f"{parity['snr_db']:.1f} dB"
        return f"{noise} against the Keras model" + ("" if parity["passed"] else ": FAILED")
    if "profile" in result:
        return show_figure(Figure.model_validate(result["profile"]["latency_ms"]))
    if "checks" in result:
        verdicts = Counter(check["verdict"] for check in result["checks"])
        return ", ".join(f"{verdict} on {count}" for verdict, count in verdicts.items())
    metrics = result.get("metrics", {})
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
