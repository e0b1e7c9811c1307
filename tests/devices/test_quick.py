from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from edgekit.base.errors import ToolError
from edgekit.devices import quick
from edgekit.devices.latency import UNKNOWN, Latency, Quiet, quiet_of, quietest, settled
from edgekit.devices.quick import quick_latency
from edgekit.devices.roundtrip import RoundTrip
from edgekit.devices.threads import apart, cores_in_use, cpu_times


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
            quick_latency(
                path=str(tmp_path / "m.tflite"),
                runtime="any",
                threads=1,
                seconds=0.01,
                quiet_loop_s=1e-6,
            )
        assert gc.isenabled()
    finally:
        gc.enable()


class Paced:
    """A session whose runs take the next of a list of times on a clock of its own."""

    inputs = ()
    version = "1"

    def __init__(self, slowness: list[float]) -> None:
        self.now = 0.0
        self._slowness = slowness
        self._runs = 0

    @property
    def slow(self) -> float:
        """How many times slower than alone the core is now."""
        return self._slowness[self._runs % len(self._slowness)]

    def __enter__(self) -> Paced:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def prepared(self, _: object) -> Callable[[], None]:
        def call() -> None:
            self.now += 1e-3 * self.slow
            self._runs += 1

        return call

    def look(self, loops: int) -> float:
        """Stands for the loop, as slow as what runs next or ran last."""
        self.now += 1e-6 * loops
        return 1e-6 * max(self.slow, self._slowness[(self._runs - 1) % len(self._slowness)])


@pytest.mark.parametrize(
    ("slowness", "disturbed"), [([1.0], 0.0), ([1.0, 1.0, 1.0, 1.9, 1.9], 0.0), ([1.9], 0.9)]
)
def test_runs_beside_other_programs_do_not_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, slowness: list[float], disturbed: float
) -> None:
    session = Paced(slowness)
    monkeypatch.setattr(quick, "open_session", lambda *_, **__: session)
    monkeypatch.setattr(quick, "_clock", lambda: session.now)
    monkeypatch.setattr(quick, "_look", session.look)
    found = quick_latency(
        path=str(tmp_path / "m.tflite"), runtime="any", threads=1, seconds=0.01, quiet_loop_s=1e-6
    )
    assert found["seconds"] == pytest.approx(1e-3 * (1 + disturbed))
    assert found["loop_s"] == pytest.approx(1e-6 * (1 + disturbed))


def test_runs_beside_programs_on_another_core_do_not_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With as many threads as cores; the session's own core is quiet all the time."""
    session = Paced([1.9] * 20 + [1.0] * 20)
    monkeypatch.setattr(quick, "open_session", lambda *_, **__: session)
    monkeypatch.setattr(quick, "_clock", lambda: session.now)
    monkeypatch.setattr(quick, "_look", lambda _loops: 1e-6)
    monkeypatch.setattr(quick, "cores_in_use", lambda threads: [0, 1][:threads])
    monkeypatch.setattr(quick, "_look_around", lambda cores: session.look(1) if cores else 0.0)
    arguments = {"path": str(tmp_path / "m.tflite"), "runtime": "any", "seconds": 0.02}
    found = quick_latency(**arguments, threads=2, quiet_loop_s=1e-6)
    assert found["seconds"] == pytest.approx(1e-3)
    assert found["loop_s"] == pytest.approx(1e-6)


SEVERAL_CORES = pytest.mark.skipif(
    len(cores_in_use(64)) < 2, reason="cores cannot be chosen, or there is one"
)


def test_one_core_or_one_thread_needs_no_look_around() -> None:
    assert quick._look_around([]) == 0.0
    assert cores_in_use(1) == []


@SEVERAL_CORES
def test_busy_threads_have_cores_of_their_own_while_runs_are_timed() -> None:
    cores, stop, started = cores_in_use(64), threading.Event(), threading.Event()

    def spin() -> None:
        while not stop.is_set():
            started.set()

    idle = threading.Thread(target=stop.wait)
    busy = threading.Thread(target=spin)
    before = cpu_times()
    idle.start()
    busy.start()
    try:
        started.wait()
        while cpu_times().get(busy.native_id or 0, 0) < 5e6:
            time.sleep(1e-3)
        with apart(cores[:2], before):
            assert os.sched_getaffinity(0) == {cores[0]}
            assert os.sched_getaffinity(busy.native_id or 0) == {cores[1]}
            assert os.sched_getaffinity(idle.native_id or 0) == set(cores)
            assert quick._look_around(cores[:2]) > 0
            assert os.sched_getaffinity(0) == {cores[0]}
        assert os.sched_getaffinity(0) == os.sched_getaffinity(busy.native_id or 0) == set(cores)
        with apart([], before):
            assert os.sched_getaffinity(0) == set(cores)
    finally:
        stop.set()
        busy.join()
        idle.join()


def test_the_quietest_latencies_count() -> None:
    quiet = [Latency(1.0, loop_s=1.02e-6), Latency(1.2, loop_s=1.1e-6)]
    noisy = [Latency(9.0, loop_s=1.8e-6), Latency(8.0, loop_s=1.6e-6)]
    assert quietest([*quiet, *noisy], Quiet(1e-6)) == quiet
    assert quietest(noisy, Quiet(1e-6)) == noisy[1:]
    assert quietest(noisy, UNKNOWN) == noisy
    assert quiet_of([*quiet, *noisy]) == Quiet(1.02e-6, 0.0)
    assert quiet_of([]) == UNKNOWN


def test_runs_on_cores_that_share_no_cache_are_in_doubt() -> None:
    near, far = Latency(1.0, 1e-6, 2.6e-7), Latency(1.6, 1e-6, 6.5e-7)
    assert quiet_of([near, far, Latency(2.0, 1e-6)]) == Quiet(1e-6, 2.6e-7)
    quiet = Quiet(1e-6, 2.5e-7)
    assert not near.doubt(quiet)
    assert far.doubt(quiet) == pytest.approx(1.6)
    assert not Latency(1.0, 1e-6).doubt(quiet)  # of one thread
    assert not settled([far], quiet)
    assert quietest([far, near], quiet) == [near]
    alike, slow = Latency(1.05, 1e-6, 2.6e-7), Latency(1.9, 1e-6, 2.6e-7)  # cores run in turns
    assert not settled([near], quiet)
    assert not settled([near, slow], quiet)
    assert settled([near, slow, alike], quiet)
    assert quietest([near, slow, alike], quiet) == [near, alike]
    assert settled([Latency(1.0, 1e-6)], quiet)


@SEVERAL_CORES
def test_a_value_comes_back_from_another_core() -> None:
    cores = cores_in_use(64)
    with closing(RoundTrip()) as trip:
        assert trip.seconds(1) == 0.0
        found = [trip.seconds(len(cores)) for _ in range(5)]
    assert all(1e-8 < one < 1e-4 for one in found)
    assert cores_in_use(64) == cores  # it is where it was


def test_a_slower_clock_is_not_taken_for_a_slower_network() -> None:
    assert Latency(2.0, loop_s=1.05e-6).at_clock(1e-6) == pytest.approx(2.0 / 1.05)
    assert Latency(2.0, loop_s=0.95e-6).at_clock(1e-6) == pytest.approx(2.0 / 0.95)
    shared = Latency(2.0, loop_s=1.9e-6).at_clock(1e-6)  # the core was another's too
    assert 2.0 / 1.9 < shared < 2.0 / 1.1
    assert Latency(2.0).at_clock(1e-6) == 2.0
    assert Latency(2.0, loop_s=1.9e-6).doubt(Quiet(1e-6)) == pytest.approx(0.8)
