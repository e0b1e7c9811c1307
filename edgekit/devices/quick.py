"""A short look at a model file's latency, in the process that is already there."""

from __future__ import annotations

import gc
import time
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.devices.timing import random_inputs
from edgekit.runtimes.open import open_session

_BATCH_S = 20e-6  # the clock costs about 0.1 us a reading: half a percent of such a batch
_WARM_UP_SHARE = 0.2
_LEAST_RUNS = 7


def quick_latency(*, path: str, runtime: str, threads: int, seconds: float) -> dict[str, Any]:
    """Quartiles of the time of one inference on a random sample.

    Args:
        path: the model file.
        runtime: a name of the runtimes' registry.
        threads: that the runtime may use.
        seconds: how long the timed runs take, if seven runs take no longer.

    Returns:
        JSON-able: `seconds`, `least` and `spread` of `edgekit.devices.device.Latency`, and the
        runtime's `version`.

    Raises:
        EdgekitError: the file cannot be loaded or run.
    """
    clock = time.perf_counter
    with open_session(Path(path), threads=threads, runtime=runtime) as session:
        call = session.prepared(random_inputs(session.inputs, 0))
        start, runs = clock(), 0
        while runs < 2 or clock() - start < _WARM_UP_SHARE * seconds:
            call()
            runs += 1
        batch = max(1, round(_BATCH_S * runs / (clock() - start)))
        times: list[float] = []
        gc.disable()
        try:
            start = end = clock()
            while len(times) < _LEAST_RUNS or end - start < seconds:
                begin = clock()
                for _ in repeat(None, batch):
                    call()
                end = clock()
                times.append((end - begin) / batch)
        finally:
            gc.enable()
        version = session.version
    first, median, third = np.percentile(times, [25, 50, 75])
    return {
        "seconds": float(median),
        "least": min(times),
        "spread": float(third / first - 1),
        "version": version,
    }
