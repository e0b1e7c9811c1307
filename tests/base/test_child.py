from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from edgekit.base import errors
from edgekit.base.child import Worker
from edgekit.base.errors import ConversionError

FUNCTIONS = """
import json, os, signal, sys, time
from edgekit.base import errors

def echo(**values): return values
def pid(): return os.getpid()
def noisy(): print("to standard output"); os.write(1, b"more\\n"); return "answer"
def fail(): raise ZeroDivisionError("by hand")
def ours(kind): raise getattr(errors, kind)("what", where="here", hint="do this")
def private():
    class OwnError(errors.ParityError): pass
    raise OwnError("not known to the parent")
def say(text): print(text, file=sys.stderr, flush=True)
def leave(): say("last words"); sys.exit(7)
def crash(): say("before the crash"); os.kill(os.getpid(), signal.SIGSEGV)
def hang(): time.sleep(600)
def grow(mib): kept = b"x" * (mib << 20); time.sleep(600); return len(kept)
def not_json(): return {1, 2}
def large(): return "x" * 5_000_000
def mark(path): open(path, "w").close(); time.sleep(600)
"""


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    (tmp_path / "functions_for_child.py").write_text(FUNCTIONS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Worker(timeout_s=20, preload=["functions_for_child"]) as worker:
        yield worker


def call(worker: Worker, name: str, **arguments: object) -> object:
    return worker.call(f"functions_for_child:{name}", **arguments)


def test_results_and_arguments_pass_unchanged(worker: Worker) -> None:
    values = {"a": [1, 2.5, None, True], "b": {"c": "grün\nnew line"}}
    assert call(worker, "echo", **values) == values
    assert call(worker, "large") == "x" * 5_000_000


def test_one_child_serves_many_calls(worker: Worker) -> None:
    assert call(worker, "pid") == call(worker, "pid") != os.getpid()


def test_what_a_library_prints_does_not_disturb_the_answer(worker: Worker) -> None:
    assert call(worker, "noisy") == "answer"


def test_an_exception_of_a_library_becomes_a_conversion_error(worker: Worker) -> None:
    with pytest.raises(ConversionError, match="ZeroDivisionError: by hand") as caught:
        call(worker, "fail")
    assert caught.value.where == "functions_for_child:fail"
    assert call(worker, "noisy") == "answer"  # the child lives on


@pytest.mark.parametrize("kind", ["ParityError", "DataError", "MissingDependencyError"])
def test_our_exceptions_pass_whole(worker: Worker, kind: str) -> None:
    with pytest.raises(getattr(errors, kind)) as caught:
        call(worker, "ours", kind=kind)
    assert type(caught.value).__name__ == kind
    assert str(caught.value) == "here: what\n  do this"


def test_an_exception_that_the_parent_does_not_know_is_still_ours(worker: Worker) -> None:
    with pytest.raises(ConversionError, match="not known to the parent"):
        call(worker, "private")


def test_a_result_that_is_not_json_is_reported(worker: Worker) -> None:
    with pytest.raises(ConversionError) as caught:
        call(worker, "not_json")
    assert caught.value.message == "TypeError: Object of type set is not JSON serializable"
    assert call(worker, "noisy") == "answer"


@pytest.mark.parametrize(
    ("name", "how", "words"),
    [("crash", "SIGSEGV", "before the crash"), ("leave", "exit code 7", "last words")],
)
def test_a_dead_child_says_how_it_died_and_the_next_call_works(
    worker: Worker, name: str, how: str, words: str
) -> None:
    with pytest.raises(ConversionError, match=how) as caught:
        call(worker, name)
    assert words in str(caught.value.hint)
    assert call(worker, "noisy") == "answer"


def test_a_hanging_call_is_stopped(worker: Worker) -> None:
    child = call(worker, "pid")
    worker.timeout_s = 0.3
    with pytest.raises(ConversionError, match=r"longer than 0\.3 s"):
        call(worker, "hang")
    assert not psutil.pid_exists(int(str(child)))
    worker.timeout_s = 20
    assert call(worker, "noisy") == "answer"


def test_a_call_that_takes_too_much_memory_is_stopped(worker: Worker) -> None:
    worker.memory_bytes = 200 << 20
    assert call(worker, "noisy") == "answer"
    with pytest.raises(ConversionError, match=r"more than 0\.195 GiB of memory"):
        call(worker, "grow", mib=400)


def test_a_module_that_cannot_be_imported_is_reported() -> None:
    with Worker(preload=["no_such_module_at_all"]) as broken:
        with pytest.raises(ConversionError, match="exit code 1") as caught:
            broken.call("time:time")
        assert "no_such_module_at_all" in str(caught.value.hint)
    with Worker() as worker, pytest.raises(ConversionError, match="ModuleNotFoundError"):
        worker.call("no_such_module_at_all:f")


def test_files_in_the_working_directory_are_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "psutil.py").write_text("raise SystemExit('hijacked')")
    monkeypatch.chdir(tmp_path)
    with Worker() as worker:
        assert worker.call("os:getcwd") == str(tmp_path)


def test_closing_ends_the_child_and_can_be_repeated(worker: Worker) -> None:
    child = int(str(call(worker, "pid")))
    worker.close()
    worker.close()
    assert not psutil.pid_exists(child)


def test_a_child_does_not_outlive_a_killed_parent(worker: Worker, tmp_path: Path) -> None:
    started = tmp_path / "started"
    program = (
        "import sys; from edgekit.base.child import Worker\n"
        "worker = Worker(); worker.start(); print(worker._process.pid, flush=True)\n"
        "worker.call('functions_for_child:mark', path=sys.argv[1])"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(started)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    wait_for(started.exists)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_for(lambda: not alive(child))


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(condition: object, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
