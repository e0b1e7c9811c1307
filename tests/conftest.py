"""Fixtures that all tests share."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

from edgekit.base.child import Worker

ROOT = Path(__file__).parent.parent

# Two runs of CI try the same examples; a developer's runs look for new ones.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("developer", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "developer")


@pytest.fixture(scope="session")
def worker() -> Iterator[Worker]:
    """A child process to convert models in; it takes seconds to start."""
    with Worker(preload=["tensorflow"]) as one:
        yield one


@pytest.fixture(scope="session", autouse=True)
def spare_child() -> Iterator[None]:
    """Loading TensorFlow takes a child seconds: the next child starts before it is asked for."""
    start = Worker.start
    spare = Worker()
    place: object = None

    def here() -> object:
        variables = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
        return Path.cwd(), variables, sys.executable

    def start_or_take(worker: Worker) -> None:
        nonlocal place
        alive = worker._process is not None and worker._process.poll() is None
        if alive or not worker._preload:
            return start(worker)
        ready = spare._process is not None and spare._process.poll() is None
        if ready and spare._preload == worker._preload and place == here():
            worker._end_child()
            worker._process, worker._log = spare._process, spare._log
            spare._process = spare._log = None
        else:
            start(worker)
        spare._preload, place = worker._preload, here()
        spare._end_child()
        return start(spare)

    with pytest.MonkeyPatch.context() as patch, spare:
        patch.setattr(Worker, "start", start_or_take)
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of third-party models and measurements; users do not have it."""
    path = Path(os.environ.get("EDGEKIT_SHARED", ROOT.parent / "shared"))
    if not path.is_dir():
        pytest.skip(f"no shared material at {path} (set EDGEKIT_SHARED)")
    return path


@pytest.fixture(scope="session")
def tflite_files() -> ModuleType:
    """`tests/tflite_files.py`: builds small .tflite files without TensorFlow."""
    spec = importlib.util.spec_from_file_location("tflite_files", ROOT / "tests/tflite_files.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def small_tflite(tflite_files: ModuleType, tmp_path: Path) -> Path:
    """A small int8 .tflite file: conv, depthwise, reshape, dense, softmax; runs in LiteRT."""
    path = tmp_path / "small.tflite"
    path.write_bytes(tflite_files.small_cnn())
    return path


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a test that skips for a missing tool is a failure: CI installs what it needs."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("CI") or reporter is None:
        return
    skipped = [str(report.longrepr) for report in reporter.stats.get("skipped", [])]
    missing = [reason for reason in skipped if "no shared material" not in reason]
    if missing and session.exitstatus == pytest.ExitCode.OK:
        reporter.write_line(f"skipped in CI: {missing}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
