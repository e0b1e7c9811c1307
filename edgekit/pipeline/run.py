"""`run_recipe`: a recipe to proven, profiled, packed model files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgekit.base.errors import InputError, RecipeError
from edgekit.base.files import canonical_json, sha256_text, write_json, write_text
from edgekit.base.progress import Progress, silent
from edgekit.pipeline.events import Event, Listener, ignore, log_to
from edgekit.pipeline.execute import Execution, execute
from edgekit.pipeline.plan import stages_of
from edgekit.pipeline.plan import until as stages_until
from edgekit.pipeline.publish import publish_artifacts, publish_golden, publish_profiles
from edgekit.pipeline.resources import Resources
from edgekit.pipeline.rundir import RunDirectory
from edgekit.pipeline.summary import proven, run_report
from edgekit.schema.recipe import Recipe, dump_recipe, load_recipe
from edgekit.schema.results import RunReport
from edgekit.schema.target import Target
from edgekit.schema.yamlfile import YamlSource


def run_recipe(
    path: Path,
    *,
    overrides: tuple[str, ...] = (),
    until: str | None = None,
    runs_dir: Path = Path("runs"),
    progress: Progress = silent,
    listen: Listener = ignore,
) -> RunReport:
    """Runs a recipe; finished stages of this or an earlier run are not done again.

    Args:
        path: the recipe.
        overrides: `a.b=c` settings on top of it.
        until: last group of stages to run: data, train, compress, export, ...
        runs_dir: where run directories are.
        progress: receives the state of long work.
        listen: receives an event for each stage.

    Returns:
        The report, which is also in `run.json`; `passed` is False if a parity check, a budget or
        a stage that not everything depends on failed.

    Raises:
        RecipeError: the recipe cannot be used.
        RunLockedError: another process is working in the same run directory.
        EdgekitError: a stage failed on which everything depends.
    """
    from edgekit.compress.passes import prepare_passes
    from edgekit.devices.machine import machine

    recipe, source = load_recipe(path, overrides)
    prepare_passes(recipe.compress, source)  # a wrong argument is found before the training
    root = path.resolve().parent
    targets = _targets(recipe, source, root)
    lock_text = dump_recipe(recipe)
    digest = sha256_text(canonical_json(recipe.model_dump(mode="json")))[:8]
    run = RunDirectory(runs_dir / f"{recipe.name}-{digest}")
    with run.locked():
        resources = Resources(
            recipe=recipe,
            source=source,
            root=root,
            data_directory=run.stages / "data",
            targets=targets,
        )
        write_text(run.path / "recipe.lock.yaml", lock_text)
        log = log_to(run.path / "log.jsonl")
        stages = stages_until(stages_of(resources, {"cpu": machine().cpu}), until)
        try:
            execution = execute(stages, run, resources, progress, _both(log, listen))
        finally:
            resources.close()
        return _release(run, resources, execution, complete=until in (None, "package"))


def _both(first: Listener, second: Listener) -> Callable[[Event], None]:
    def tell(event: Event) -> None:
        first(event)
        second(event)

    return tell


def _targets(recipe: Recipe, source: YamlSource, root: Path) -> tuple[Target, ...]:
    from edgekit.profiling.targets import load_target

    targets = []
    for position, name in enumerate(recipe.targets):
        try:
            local = root / name
            targets.append(load_target(str(local) if local.is_file() else name))
        except InputError as error:
            where = source.where(("targets", position))
            raise RecipeError(error.message, where=where, hint=error.hint) from None
    return tuple(targets)


def _release(
    run: RunDirectory, resources: Resources, execution: Execution, *, complete: bool
) -> RunReport:
    """Publishes what passed, judges the budgets, packs the bundle, writes report and `run.json`."""
    from edgekit.bundle.gate import gate
    from edgekit.bundle.pack import pack_run
    from edgekit.report.html import write_html

    report = run_report(run, resources, execution)
    passed = proven(resources, execution)
    if complete or passed:
        publish_artifacts(run, execution, passed)
    if complete:
        publish_golden(run, execution, resources)
        publish_profiles(run, report)
        verdict = gate(report, resources.recipe.budgets) if resources.recipe.budgets else None
        report = report.model_copy(
            update={"gate": verdict, "passed": report.passed and (not verdict or verdict.passed)}
        )
        _write(run, report)
        if passed:
            pack_run(run.path)
            report = report.model_copy(update={"bundle": f"{report.recipe}.zip"})
        report = report.model_copy(update={"report": "report.html"})
        write_html(report, run.path / "report.html")
    if complete or not (run.path / "report.html").exists():  # a part does not hide the whole
        _write(run, report)
    return report


def _write(run: RunDirectory, report: RunReport) -> None:
    write_json(run.path / "run.json", report.model_dump(mode="json"))
