from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.base.errors import RunLockedError
from edgekit.base.files import link_tree
from edgekit.pipeline import rundir
from edgekit.pipeline.rundir import RunDirectory

KEY = "k" * 64


def finish(run: RunDirectory, name: str, key: str, text: str) -> None:
    directory = run.begin(name, key, resumable=False)
    (directory / "file.txt").write_text(text)
    run.finish(name, key, {"text": text}, 0.1)


def test_a_finished_stage_is_found_by_its_key_only(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    finish(run, "train", KEY, "a")
    record = run.finished("train", KEY)
    assert record is not None
    assert record["result"] == {"text": "a"}
    assert run.finished("train", "other") is None
    assert run.finished("export", KEY) is None


@pytest.mark.parametrize("damage", ["alter", "remove", "truncate result", "garbage result"])
def test_a_damaged_stage_counts_as_not_done(tmp_path: Path, damage: str) -> None:
    run = RunDirectory(tmp_path / "run")
    finish(run, "train", KEY, "a")
    stage = run.stages / "train"
    if damage == "alter":
        (stage / "file.txt").write_text("b")
    elif damage == "remove":
        (stage / "file.txt").unlink()
    elif damage == "truncate result":
        text = (stage / "result.json").read_text()
        (stage / "result.json").write_text(text[: len(text) // 2])
    else:
        (stage / "result.json").write_text("[]")
    assert run.finished("train", KEY) is None


def test_a_stage_done_again_replaces_the_old_one(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    finish(run, "train", KEY, "a")
    finish(run, "train", "new", "b")
    assert run.finished("train", KEY) is None
    assert run.finished("train", "new") is not None
    assert sorted(path.name for path in run.stages.iterdir()) == ["train"]


def test_an_interrupted_stage_resumes_only_the_same_work_and_only_if_it_can(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    (run.begin("train", KEY, resumable=True) / "checkpoint").write_text("epoch 3")
    assert (run.begin("train", KEY, resumable=True) / "checkpoint").exists()
    assert not (run.begin("train", "new", resumable=True) / "checkpoint").exists()
    (run.begin("train", "new", resumable=True) / "checkpoint").write_text("epoch 3")
    assert not (run.begin("train", "new", resumable=False) / "checkpoint").exists()


def test_a_sibling_run_lends_its_stage_and_keeps_its_own(tmp_path: Path) -> None:
    first, second = RunDirectory(tmp_path / "a"), RunDirectory(tmp_path / "b")
    finish(first, "train", KEY, "a")
    assert second.adopt("train", "other") is None
    assert second.adopt("train", KEY) is not None
    assert second.finished("train", KEY) is not None
    finish(second, "train", "new", "b")
    assert first.finished("train", KEY) is not None


def test_a_second_process_is_told_who_holds_the_directory(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    code = (
        "import sys; from pathlib import Path; from edgekit.pipeline.rundir import RunDirectory\n"
        "from edgekit.base.errors import RunLockedError\n"
        "try:\n"
        "    with RunDirectory(Path(sys.argv[1])).locked(): print('entered')\n"
        "except RunLockedError as error: print(error)\n"
    )
    command = [sys.executable, "-c", code, str(run.path)]
    with run.locked():
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"process {os.getpid()} is working in this run directory" in said
    assert "entered" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_lock_is_not_given_twice_within_one_process(tmp_path: Path) -> None:
    first, second = RunDirectory(tmp_path), RunDirectory(tmp_path)
    with first.locked(), pytest.raises(RunLockedError), second.locked():
        pass


def test_a_sibling_whose_stage_goes_away_meanwhile_lends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(RunDirectory(tmp_path / "one"), "train", KEY, "a")

    def vanish(source: Path, destination: Path) -> None:
        shutil.rmtree(source)
        link_tree(source, destination)

    monkeypatch.setattr(rundir, "link_tree", vanish)
    assert RunDirectory(tmp_path / "two").adopt("train", KEY) is None
