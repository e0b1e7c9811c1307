from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from edgekit.pipeline.execute import Execution
from edgekit.pipeline.publish import publish_artifacts
from edgekit.pipeline.rundir import RESULT_FILE, RunDirectory
from edgekit.pipeline.stage import Done
from edgekit.pipeline.stages.export import Wanted


def test_artifacts_are_copied_where_there_are_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    run, one = RunDirectory(tmp_path), Wanted("tflite", "fp32")
    stage = run.stages / f"export-{one.key}"
    stage.mkdir(parents=True)
    (stage / "net-fp32.tflite").write_bytes(b"model")
    (stage / RESULT_FILE).write_text("{}")
    publish_artifacts(run, Execution(done={f"export-{one.key}": Done(stage, {})}), [one])
    assert [path.name for path in (tmp_path / "artifacts").iterdir()] == ["net-fp32.tflite"]
    assert (tmp_path / "artifacts" / "net-fp32.tflite").read_bytes() == b"model"
