"""A short look at a model file's latency, in the process that is already there.

Another program, or another virtual machine on the same physical core, can make runs up to twice as
slow, for milliseconds or for seconds. A loop of known length before and after each run tells which
runs had the core for themselves: those count. Where the runtime uses all cores, the loop also looks
at each of them, every few milliseconds, and each thread is kept on a core of its own.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.devices.threads import apart, cores_in_use, cpu_times
from edgekit.devices.timing import random_inputs
from edgekit.runtimes.open import open_session
from edgekit.runtimes.operators import operator_times

_BATCH_S = 20e-6  # the clock costs about 0.1 us a reading: half a percent of such a batch
_WARM_UP_SHARE = 0.2
_LEAST_RUNS = 7
_PATIENCE = 4.0  # times the time that a quiet machine needs, or
_PATIENCE_S = 0.2  # if that is more
_LOOP = range(200)
_LOOPS = (3, 60)
_LOOPS_SHARE = 0.05  # of the time between two looks
_LOOKS = 100
_ROUND_S = 4e-3  # from one look at all cores to the next
_QUIET = 1.2  # times the loop's time on a quiet core
_QUANTILE = 25  # what else runs makes a run slower, never faster

_clock = time.perf_counter


def quick_latency(
    *, path: str, runtime: str, threads: int, seconds: float, quiet_loop_s: float
) -> dict[str, Any]:
    """The time of one inference on a random sample, of runs that nothing disturbed.

    Args:
        path: the model file.
        runtime: a name of the runtimes' registry.
        threads: that the runtime may use.
        seconds: how long the runs that count take, if seven runs take no longer; while other
            programs disturb, up to four times as long is measured.
        quiet_loop_s: the least time of the loop so far; infinite if nothing is known.

    Returns:
        JSON-able: `seconds` and `loop_s` of `edgekit.devices.latency.Latency`, and the
        runtime's `version`.

    Raises:
        EdgekitError: the file cannot be loaded or run.
    """
    with open_session(Path(path), threads=threads, runtime=runtime) as session:
        call = session.prepared(random_inputs(session.inputs, 0))
        before, start, runs = cpu_times(), _clock(), 0
        while runs < 2 or _clock() - start < _WARM_UP_SHARE * seconds:
            call()
            runs += 1
        each = (_clock() - start) / runs
        gc.disable()
        try:
            quiet_loop_s = min(quiet_loop_s, *(_look(1) for _ in range(_LOOKS)))
            batch = max(1, round(_BATCH_S / each))
            cores = cores_in_use(threads)
            with apart(cores, before):
                times, loops = _runs(call, batch, each, seconds, quiet_loop_s, cores)
        finally:
            gc.enable()
        version = session.version
    order = np.argsort(loops)
    quiet = int((loops < _QUIET * quiet_loop_s).sum())
    counted = order[: max(_LEAST_RUNS // 2, quiet)]
    return {
        "seconds": float(np.percentile(times[counted], _QUANTILE)),
        "loop_s": float(loops[counted].mean()),
        "version": version,
    }


def quick_operators(*, path: str, runtime: str, threads: int, seconds: float) -> dict[str, Any]:
    """Times of operators by the runtime's own profiler, on a random sample.

    Args:
        path: the model file.
        runtime: a name of the runtimes' registry.
        threads: that the runtime may use.
        seconds: about how long the runs take.

    Returns:
        JSON-able: `operators`, of each its names in the file, its seconds and its type; see
        `edgekit.runtimes.operators`.

    Raises:
        EdgekitError: the file cannot be loaded or run.
    """
    found = operator_times(
        Path(path),
        runtime=runtime,
        threads=threads,
        seconds=seconds,
        inputs=partial(random_inputs, seed=0),
    )
    return {"operators": [(one.names, one.seconds, one.type) for one in found]}


def _runs(
    call: Callable[[], object],
    batch: int,
    each: float,
    seconds: float,
    quiet_loop_s: float,
    cores: Sequence[int],
) -> tuple[Any, Any]:
    """Times of calls, and times of the loop around them."""
    loops = round(_LOOPS_SHARE * batch * each / quiet_loop_s)
    loops = min(max(loops, _LOOPS[0]), _LOOPS[1])
    times: list[float] = []
    around: list[float] = []
    quiet_runs, quiet_s = 0, 0.0
    start = _clock()
    elsewhere = _look_around(cores)
    while True:
        first, round_start, before = len(times), _clock(), _look(loops)
        while True:
            begin = _clock()
            for _ in repeat(None, batch):
                call()
            end = _clock()
            after = _look(loops)
            times.append((end - begin) / batch)
            around.append(max(before, after))
            before = after
            if end - round_start > _ROUND_S:
                break
        last, elsewhere = elsewhere, _look_around(cores)
        around[first:] = [max(one, last, elsewhere) for one in around[first:]]
        new = zip(times[first:], around[first:], strict=True)
        quiet = [time for time, slowest in new if slowest < _QUIET * quiet_loop_s]
        quiet_runs, quiet_s = quiet_runs + len(quiet), quiet_s + batch * sum(quiet)
        late = len(times) >= _LEAST_RUNS and end - start > max(_PATIENCE_S, _PATIENCE * seconds)
        if late or (quiet_runs >= _LEAST_RUNS and quiet_s > seconds):
            return np.array(times), np.array(around)


def _look_around(cores: Sequence[int]) -> float:
    """The longest mean time of the loop on any of the cores; 0: there is none to look at.

    This thread is on the first of them then.
    """
    longest = 0.0
    for core in reversed(cores):
        os.sched_setaffinity(0, {core})
        _look(1)  # the core's caches know nothing of it
        longest = max(longest, _look(_LOOPS[0]))
    return longest


def _look(loops: int) -> float:
    """Mean time of the loop."""
    start = _clock()
    for _ in repeat(None, loops):
        total = 0
        for number in _LOOP:
            total += number
    return (_clock() - start) / loops
