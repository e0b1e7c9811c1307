from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit.base.errors import DataError, EdgekitError, ParityError
from edgekit.base.progress import silent
from edgekit.pipeline.events import Event, StageFailed, ignore
from edgekit.pipeline.execute import Execution, execute
from edgekit.pipeline.rundir import RunDirectory
from edgekit.pipeline.stage import Result, Stage, StageContext

ran: list[str] = []


def stage(name: str, inputs: tuple[str, ...] = (), group: str = "export", **settings: Any) -> Stage:
    def work(context: StageContext) -> Result:
        ran.append(name)
        read = [context.inputs[one].result["value"] for one in inputs]
        return {"value": settings.get("value", name), "read": read}

    return Stage(name, group, work, inputs, settings)


def failing(name: str, error: EdgekitError, group: str = "export") -> Stage:
    def work(context: StageContext) -> Result:
        raise error

    return Stage(name, group, work)


@pytest.fixture
def run_stages(tmp_path: Path) -> Callable[..., Execution]:
    run = RunDirectory(tmp_path / "run")

    def call(*stages: Stage, listen: Callable[[Event], None] = ignore) -> Execution:
        ran.clear()
        return execute(stages, run, None, silent, listen)  # type: ignore[arg-type]

    return call


def test_nothing_is_done_twice(run_stages: Callable[..., Execution]) -> None:
    stages = (stage("a"), stage("b", ("a",)))
    first = run_stages(*stages)
    assert ran == ["a", "b"]
    assert first.done["b"].result["read"] == ["a"]
    second = run_stages(*stages)
    assert ran == []
    assert set(second.origins.values()) == {"cache"}
    assert second.done["b"].result == first.done["b"].result


def test_a_changed_setting_redoes_the_stage_and_what_reads_its_result(
    run_stages: Callable[..., Execution],
) -> None:
    run_stages(stage("a"), stage("b", ("a",)), stage("c"))
    run_stages(stage("a", value=2), stage("b", ("a",)), stage("c"))
    assert ran == ["a", "b"]


def test_a_stage_whose_result_stays_the_same_stops_the_change(
    run_stages: Callable[..., Execution],
) -> None:
    run_stages(stage("a", value=1, comment="x"), stage("b", ("a",)))
    run_stages(stage("a", value=1, comment="y"), stage("b", ("a",)))
    assert ran == ["a"]


def test_a_failed_model_file_takes_only_what_needs_it(
    run_stages: Callable[..., Execution],
) -> None:
    events: list[Event] = []
    execution = run_stages(
        stage("a"),
        failing("b", ParityError("differs")),
        stage("verify-b", ("b",)),
        stage("c", ("a",)),
        listen=events.append,
    )
    assert sorted(execution.done) == ["a", "c"]
    assert list(execution.failed) == ["b"]
    assert [event.name for event in events if isinstance(event, StageFailed)] == ["b", "verify-b"]


@pytest.mark.parametrize(
    ("error", "group"), [(ParityError("x"), "train"), (DataError("x"), "export")]
)
def test_other_failures_end_the_run(
    run_stages: Callable[..., Execution], error: EdgekitError, group: str
) -> None:
    with pytest.raises(type(error)):
        run_stages(failing("b", error, group), stage("c"))
    assert ran == []
