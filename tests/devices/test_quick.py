from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.base.errors import ToolError
from edgekit.devices import quick
from edgekit.devices.quick import quick_latency


class Failing:
    """A session whose runs fail once they are timed."""

    inputs = ()
    version = "1"

    def __enter__(self) -> Failing:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def prepared(self, _: object) -> Callable[[], None]:
        def call() -> None:
            if not gc.isenabled():
                raise ToolError("the runtime failed")

        return call


def test_a_run_that_fails_leaves_the_garbage_collector_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(quick, "open_session", lambda *_, **__: Failing())
    assert gc.isenabled()
    try:
        with pytest.raises(ToolError):
            quick_latency(path=str(tmp_path / "m.tflite"), runtime="any", threads=1, seconds=0.01)
        assert gc.isenabled()
    finally:
        gc.enable()
