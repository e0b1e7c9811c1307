from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgekit.devices import timing
from edgekit.devices.timing import measure, random_inputs
from edgekit.runtimes.session import Arrays, Session
from edgekit.schema.artifact import TensorInfo


class Sleeper(Session):
    """A model whose inference takes a known time."""

    runtime, version = "sleeper", "1"
    inputs = (TensorInfo(name="x", shape=(None, 4), dtype="float32"),)
    outputs = ()

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.runs = 0

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        self.runs += 1
        end = time.perf_counter() + self.seconds
        while time.perf_counter() < end:
            pass
        return {}


def run(monkeypatch: pytest.MonkeyPatch, session: Sleeper, max_seconds: float) -> dict[str, Any]:
    monkeypatch.setattr(timing, "open_session", lambda *args, **kwargs: session)
    now = time.monotonic_ns()
    return measure(
        path="model",
        threads=1,
        runtime=None,
        seed=0,
        max_seconds=max_seconds,
        spawned_ns=now,
        python_ns=now,
    )


def test_a_known_time_is_found_and_short_calls_are_timed_in_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = run(monkeypatch, Sleeper(10e-6), 0.2)
    assert answer["calls"] > 1
    # The shortest time: other programs lengthen the rest.
    per_call = np.min(answer["times_ns"]) / answer["calls"]
    assert 10_000 <= per_call <= 20_000
    answer = run(monkeypatch, Sleeper(2e-3), 0.2)
    assert answer["calls"] == 1
    assert np.min(answer["times_ns"]) == pytest.approx(2e6, rel=0.2)


def test_a_slow_model_is_run_a_few_times_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Sleeper(0.03)
    answer = run(monkeypatch, session, 0.01)
    assert len(answer["times_ns"]) == 3
    assert session.runs <= 6


def test_the_cold_start_is_the_sum_of_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    cold = run(monkeypatch, Sleeper(0.02), 0.01)["cold_ms"]
    assert cold["first_inference"] >= 20
    parts = sum(value for name, value in cold.items() if name != "total")
    assert cold["total"] == pytest.approx(parts)


def test_peak_memory_is_in_bytes_and_grows_with_what_is_used() -> None:
    before = timing._peak_bytes()
    block = np.ones(50_000_000, np.uint8)
    grown = timing._peak_bytes()
    assert 10_000_000 < before < 1 << 36
    assert grown >= before
    assert block.sum() == 50_000_000


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8", "int16", "int32", "bool"])
def test_random_inputs_fill_the_range_of_the_dtype(dtype: str) -> None:
    info = TensorInfo(name="x", shape=(None, 5000), dtype=dtype)
    (array,) = random_inputs((info,), 0).values()
    assert array.shape == (1, 5000)
    assert array.dtype == dtype
    if dtype in ("int8", "uint8", "int16"):
        limits, width = np.iinfo(dtype), 2 ** (8 * np.dtype(dtype).itemsize)
        assert array.min() <= limits.min + width // 50
        assert array.max() >= limits.max - width // 50
    elif dtype.startswith("float"):
        assert -1 <= array.min() < -0.99
        assert 0.99 < array.max() <= 1
    else:
        assert set(np.unique(array)) == {0, 1}


def test_random_inputs_are_seeded() -> None:
    infos = (TensorInfo(name="x", shape=(1, 8), dtype="int8"),)
    first, again, other = (random_inputs(infos, seed)["x"] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_processor_time_of_others_is_not_ours() -> None:
    before = timing._CpuTimes(wall=10.0, own=1.0, busy=100.0, stolen=5.0)
    after = timing._CpuTimes(wall=12.0, own=3.0, busy=103.0, stolen=5.5)
    assert after.since(before) == {"other_cores": 0.5, "stolen_cores": 0.25}
    assert timing._CpuTimes(wall=12.0, own=3.0, busy=None, stolen=0.0).since(before) is None


def test_the_processor_times_of_this_machine() -> None:
    if not Path("/proc/stat").exists():
        pytest.skip("no /proc/stat")
    before = timing._CpuTimes.read()
    time.sleep(0.05)
    after = timing._CpuTimes.read()
    assert after.busy >= before.busy > 0
    assert after.own - before.own < after.wall - before.wall
