"""What the agent does: load a model file, run it, time it. NumPy and the runtime, no more."""

from __future__ import annotations

import gc
import math
import os
import sys
import time
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.devices.meters import Meter, find_meter
from edgekit.devices.statistics import summarize
from edgekit.runtimes.open import open_session
from edgekit.runtimes.session import Arrays
from edgekit.schema.artifact import TensorInfo

_BATCH_NS = 50_000  # the clock costs about 0.1 us a reading: 0.2% of such a batch
_WARM_UP_SHARE = 0.15
_LEAST_SHARE = 0.25  # of the time allowed: a shorter look misses slow changes
_LEAST_RUNS = 3
_TIGHT = 0.01
_CHECK_GROWTH = 1.3


def measure(
    *,
    path: str,
    threads: int,
    runtime: str | None,
    seed: int,
    max_seconds: float,
    spawned_ns: int,
    python_ns: int,
) -> dict[str, Any]:
    """Loads a file, runs it on random inputs and times it.

    Args:
        path: the model file.
        threads: that the runtime may use.
        runtime: a name of the runtimes' registry, or None for the file's default.
        seed: of the random inputs.
        max_seconds: longest time of the timed runs.
        spawned_ns: `time.monotonic_ns()` just before this process was started.
        python_ns: the same when its first line ran.

    Returns:
        JSON-able: `times_ns` are times of batches of `calls` calls each; `cold_ms` the time from
        the start of the process to its first result, in parts; memory in bytes.

    Raises:
        EdgekitError: the file cannot be loaded or run.
    """
    imported_ns = time.monotonic_ns()
    before_bytes = _peak_bytes()
    with open_session(Path(path), threads=threads, runtime=runtime) as session:
        loaded_ns = time.monotonic_ns()
        inputs = random_inputs(session.inputs, seed)
        ready_ns = time.monotonic_ns()
        session.run(inputs)
        first_ns = time.monotonic_ns()
        call = session.prepared(inputs)
        gc.collect()
        gc.disable()
        calls = _warm_up(call, max_seconds)
        meter, reason = find_meter()
        timed = _time(call, calls, max_seconds, meter)
        return {
            "runtime": session.runtime,
            "version": session.version,
            "calls": calls,
            **timed,
            "no_energy": reason,
            "peak_bytes": _peak_bytes(),
            "before_bytes": before_bytes,
            "cold_ms": {
                # The random inputs, made between load and first run, are the benchmark's own.
                "total": (first_ns - ready_ns + loaded_ns - spawned_ns) / 1e6,
                "python": (python_ns - spawned_ns) / 1e6,
                "imports": (imported_ns - python_ns) / 1e6,
                "load": (loaded_ns - imported_ns) / 1e6,
                "first_inference": (first_ns - ready_ns) / 1e6,
            },
        }


def random_inputs(infos: tuple[TensorInfo, ...], seed: int) -> Arrays:
    """One sample an input, in the range of its dtype; free dimensions are 1.

    Floats lie in [-1, 1); 8 and 16-bit integers take all values; wider ones are 0 or 1, because
    they are mostly indices into something.
    """
    generator = np.random.default_rng(seed)
    return {info.name: _random(generator, info) for info in infos}


def _random(generator: np.random.Generator, info: TensorInfo) -> NDArray[Any]:
    shape = tuple(1 if size is None else size for size in info.shape)
    dtype = np.dtype(info.dtype)
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype) if dtype.itemsize <= 2 else None
        low, high = (limits.min, limits.max) if limits else (0, 1)
        return generator.integers(low, high, shape, dtype, endpoint=True)
    if dtype == np.bool_:
        return generator.integers(0, 2, shape).astype(np.bool_)
    return (2 * generator.random(shape) - 1).astype(dtype)


def _warm_up(call: Callable[[], object], max_seconds: float) -> int:
    """Runs until caches and clocks have settled; returns the calls that one batch needs."""
    start = time.perf_counter_ns()
    elapsed, runs = 0, 0
    while runs < _LEAST_RUNS or elapsed < _WARM_UP_SHARE * max_seconds * 1e9:
        call()
        runs += 1
        elapsed = time.perf_counter_ns() - start
        if elapsed > max_seconds * 1e9:
            break
    return max(1, math.ceil(_BATCH_NS * runs / elapsed))


def _time(
    call: Callable[[], object], calls: int, max_seconds: float, meter: Meter | None
) -> dict[str, Any]:
    """Times batches until the median is known to 1%, or the time is up."""
    times: list[int] = []
    check_at = 30
    before = _CpuTimes.read()
    joules_before = meter.read() if meter else []
    start = time.perf_counter_ns()
    deadline, earliest = start + max_seconds * 1e9, start + _LEAST_SHARE * max_seconds * 1e9
    end = start
    while len(times) < _LEAST_RUNS or end < deadline:
        begin = time.perf_counter_ns()
        for _ in repeat(None, calls):
            call()
        end = time.perf_counter_ns()
        times.append(end - begin)
        if len(times) >= check_at and end > earliest:
            if summarize(times).uncertainty <= _TIGHT:
                break
            check_at = int(len(times) * _CHECK_GROWTH)
    energy = None
    if meter is not None:
        energy = {
            "meter": meter.name,
            "joules": meter.joules(joules_before, meter.read()),
            "runs": len(times) * calls,
        }
    return {"times_ns": times, "energy": energy, "noise": _CpuTimes.read().since(before)}


class _CpuTimes:
    """Seconds that all processors, and this process, have worked."""

    def __init__(self, wall: float, own: float, busy: float | None, stolen: float) -> None:
        self.wall, self.own, self.busy, self.stolen = wall, own, busy, stolen

    @classmethod
    def read(cls) -> _CpuTimes:
        busy, stolen = None, 0.0
        try:
            ticks = [
                int(word) for word in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]
            ]
            user, nice, system, _, _, irq, softirq, steal = ticks
            per_second = os.sysconf("SC_CLK_TCK")
            busy, stolen = (user + nice + system + irq + softirq) / per_second, steal / per_second
        except (OSError, ValueError):
            pass  # not a Linux system: nothing is known of other programs
        return cls(time.perf_counter(), time.process_time(), busy, stolen)

    def since(self, before: _CpuTimes) -> dict[str, float] | None:
        """Cores kept busy by others, and cores' worth of time that a hypervisor took."""
        wall = self.wall - before.wall
        if self.busy is None or before.busy is None or wall <= 0:
            return None
        others = (self.busy - before.busy) - (self.own - before.own)
        return {
            "other_cores": max(0.0, others / wall),
            "stolen_cores": (self.stolen - before.stolen) / wall,
        }


def _peak_bytes() -> int:
    """Largest resident size of this process so far, in bytes.

    Linux keeps the parent's peak in `ru_maxrss` across exec; VmHWM is this program's own.
    """
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
