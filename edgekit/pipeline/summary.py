"""The one document of a run, `run.json`, from the results of its stages."""

from __future__ import annotations

from edgekit.base.extras import OPTIONAL, versions
from edgekit.pipeline.execute import Execution
from edgekit.pipeline.resources import Resources
from edgekit.pipeline.rundir import RunDirectory
from edgekit.pipeline.stages import export
from edgekit.pipeline.stages.export import Wanted
from edgekit.schema.memory import MemoryReport
from edgekit.schema.results import (
    ArtifactResult,
    CheckReport,
    Profile,
    RunReport,
    StageFailure,
    StageResult,
    VerifyResult,
)


def proven(resources: Resources, execution: Execution) -> list[Wanted]:
    """The model files that were made and passed their parity check."""
    return [
        one
        for one in export.wanted(resources.recipe)
        if f"verify-{one.key}" in execution.done and _artifact(execution, one).proven
    ]


def run_report(run: RunDirectory, resources: Resources, execution: Execution) -> RunReport:
    """Everything that the stages found out, without bundle, gate and report file."""
    files = [
        one for one in export.wanted(resources.recipe) if f"export-{one.key}" in execution.done
    ]
    artifacts = tuple(_artifact(execution, one) for one in files)
    failures = tuple(
        StageFailure(stage=name, error=error.to_dict()) for name, error in execution.failed.items()
    )
    trained = execution.done.get("train")
    return RunReport(
        recipe=resources.recipe.name,
        run=str(run.path),
        artifacts=artifacts,
        profiles=tuple(profile for one in files for profile in _profiles(execution, one)),
        checks=tuple(check for one in files for check in _checks(execution, one)),
        memory=tuple(plan for one in files for plan in _memory(execution, one)),
        reference_metrics=trained.result["metrics"] if trained else {},
        stages=tuple(
            StageResult(
                name=name,
                key=execution.keys[name],
                cached=execution.origins[name] != "now",
                seconds=execution.seconds[name],
                result={},
            )
            for name in execution.done
        ),
        failures=failures,
        passed=not failures and all(one.proven for one in artifacts),
        versions=versions(
            "edgekit", "numpy", *(distribution for distribution, _ in OPTIONAL.values())
        ),
    )


def _artifact(execution: Execution, one: Wanted) -> ArtifactResult:
    made = execution.done[f"export-{one.key}"].result
    verified = execution.done.get(f"verify-{one.key}")
    checks = verified.result if verified else {}
    parity = VerifyResult.model_validate(checks["verify"]) if verified else None
    result = ArtifactResult(
        path=f"stages/export-{one.key}/{made['file']}",
        format=one.format,
        precision=one.precision,
        bytes=made["bytes"],
        sha256=made["sha256"],
        metrics=parity.metrics if parity else {},
        parity=parity,
        master_parity=VerifyResult.model_validate(checks["master"]) if "master" in checks else None,
    )
    shown = verified is not None and result.proven
    return result.model_copy(update={"path": f"artifacts/{made['file']}"}) if shown else result


def _profiles(execution: Execution, one: Wanted) -> list[Profile]:
    found = []
    if measured := execution.done.get(f"bench-{one.key}"):
        found.append(measured.result["profile"])
    if estimated := execution.done.get(f"profile-{one.key}"):
        found += estimated.result["profiles"]
    return [Profile.model_validate(profile) for profile in found]


def _checks(execution: Execution, one: Wanted) -> list[CheckReport]:
    done = execution.done.get(f"check-{one.key}")
    plain = done.result["checks"] if done else []
    return [CheckReport.model_validate(check) for check in plain]


def _memory(execution: Execution, one: Wanted) -> list[MemoryReport]:
    done = execution.done.get(f"profile-{one.key}")
    # A run that is resumed may have profiles of a version that kept no plans.
    plain = done.result.get("memory", []) if done else []
    return [MemoryReport.model_validate(plan) for plan in plain]
