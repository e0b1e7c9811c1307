"""What a model file is worth: its outputs against the float network's, its size, its latency.

    python benchmarks/measure.py FILE...

prints the latencies of some files, measured in turns in one process.
"""

from __future__ import annotations

import gzip
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.base.child import Worker
from edgekit.base.errors import EdgekitError
from edgekit.devices.timing import random_inputs
from edgekit.runtimes.open import open_session
from edgekit.runtimes.session import Arrays, predict, to_model

ROUNDS = 301
_BATCH_S = 0.0003  # calls of one file before the next: shorter than a turn of the scheduler
_WARM_UP_S = 0.2
_QUIET_CORES = 0.15
_LOOK_S = 1.0
PATIENCE_S = 60.0
TIMEOUT_S = 900.0


@contextmanager
def child(*preload: str, timeout_s: float = TIMEOUT_S) -> Iterator[Worker]:
    """A child process that finds the modules of this folder, for what may crash or hang."""
    here, before = str(Path(__file__).parent), os.environ.get("PYTHONPATH")
    with Worker(timeout_s=timeout_s, preload=preload) as worker:
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, before]))
        try:
            worker.call("measure:ready")
            yield worker
        finally:
            os.environ.pop("PYTHONPATH")
            if before is not None:
                os.environ["PYTHONPATH"] = before


def ready() -> None:
    """Answers once the child has loaded its modules, so that no one's time has that in it."""


@dataclass(frozen=True)
class Quality:
    """A file's outputs on the test split, in its real runtime.

    Attributes:
        score: accuracy, or the network's own metric.
        snr_db: against the float Keras model's outputs, over all of them together.
    """

    score: float
    snr_db: float


def quality(
    file: Path,
    x: Arrays,
    wanted: NDArray[Any],
    score: Callable[[NDArray[Any]], float],
) -> Quality:
    """Runs a file of one output on samples.

    Args:
        file: a .tflite, .onnx or .xml file.
        x: samples by input name.
        wanted: the float Keras model's outputs on them.
        score: of outputs like `wanted`.

    Raises:
        EdgekitError: the file cannot be loaded or run.
    """
    with open_session(file) as session:
        (outputs,) = predict(session, x).values()
    return Quality(score(outputs), snr_db(outputs.reshape(wanted.shape), wanted))


def snr_db(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    """Signal to noise ratio of `found`, in dB."""
    signal, noise = wanted.astype(np.float64), (found.astype(np.float64) - wanted)
    return float(10 * np.log10(np.sum(signal**2) / max(float(np.sum(noise**2)), 1e-30)))


def parts(file: Path) -> tuple[Path, ...]:
    """The files that a model file consists of."""
    weights = file.with_suffix(".bin")
    return (file, weights) if file.suffix == ".xml" and weights.exists() else (file,)


def sizes(file: Path) -> tuple[int, int]:
    """Bytes of a model file, plain and with gzip."""
    content = [part.read_bytes() for part in parts(file)]
    return sum(map(len, content)), sum(len(gzip.compress(c, 9, mtime=0)) for c in content)


def latencies(
    files: Mapping[str, Path],
    *,
    threads: int = 1,
    x: Arrays | None = None,
    rounds: int = ROUNDS,
    patience_s: float = PATIENCE_S,
) -> dict[str, float]:
    """Median milliseconds an inference of each file, measured in turns in one child process.

    A slow moment of the machine strikes all files alike, so that their ratios are fair. Files that
    cannot be run are left out.

    Args:
        files: by any name.
        threads: that each runtime may use.
        x: real samples by input name, of which the first is run; by default random values.
        rounds: turns of each file.
        patience_s: longest time to wait for other programs to end.
    """
    with child() as worker:
        sample = None
        if x is not None:
            sample = str(worker.scratch / "sample.npz")
            np.savez(sample, **{name: array[:1] for name, array in x.items()})  # type: ignore[arg-type]
        measured: dict[str, float] = worker.call(
            "measure:in_turns",
            files={name: str(path.resolve()) for name, path in files.items()},
            sample=sample,
            threads=threads,
            rounds=rounds,
            patience_s=patience_s,
        )
    return measured


def in_turns(
    *,
    files: Mapping[str, str],
    sample: str | None,
    threads: int,
    rounds: int,
    patience_s: float,
) -> dict[str, float]:
    """As `latencies`; in the child process."""
    x: Arrays | None = None
    if sample is not None:
        with np.load(sample, allow_pickle=False) as archive:
            x = dict(archive)
    calls: dict[str, Callable[[], object]] = {}
    with ExitStack() as stack:
        for name, path in files.items():
            try:
                session = stack.enter_context(open_session(Path(path), threads=threads))
                inputs = random_inputs(session.inputs, 0)
                if x is not None:
                    names = {info.name: info for info in session.inputs}
                    given = x if set(x) == set(names) else dict(zip(names, x.values(), strict=True))
                    inputs = {key: to_model(given[key], info) for key, info in names.items()}
                calls[name] = session.prepared(inputs)
            except EdgekitError as error:
                print(f"{path}: {error}", file=sys.stderr)
        times = take_turns(calls, rounds, patience_s)
    return {name: 1000 * median(values) for name, values in times.items()}


def take_turns(
    calls: Mapping[str, Callable[[], object]], rounds: int, patience_s: float
) -> dict[str, list[float]]:
    """Seconds a call of each in each round, after a warm-up and a wait for quiet."""
    counts = {name: _calls(call) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    wait_for_quiet(patience_s)
    for _ in range(rounds):
        for name, call in calls.items():
            call()  # the caches are another file's
            started = time.perf_counter()
            for _ in repeat(None, counts[name]):
                call()
            times[name].append((time.perf_counter() - started) / counts[name])
    return times


def _calls(call: Callable[[], object]) -> int:
    """Warms up; returns how many calls make a batch."""
    started, runs = time.perf_counter(), 0
    while runs < 3 or time.perf_counter() - started < _WARM_UP_S:
        call()
        runs += 1
    return max(1, round(_BATCH_S * runs / (time.perf_counter() - started)))


def wait_for_quiet(patience_s: float) -> bool:
    """Waits until other programs leave the processor alone; False if they do not in time."""
    deadline = time.monotonic() + patience_s
    while True:
        before, own = _busy(), time.process_time()
        time.sleep(_LOOK_S)
        if (_busy() - before) - (time.process_time() - own) < _QUIET_CORES * _LOOK_S:
            return True
        if time.monotonic() > deadline:
            return False


def _busy() -> float:
    """Seconds that all processors have worked; 0 where the system does not tell."""
    try:
        words = Path("/proc/stat").read_text().split("\n")[0].split()[1:9]
    except OSError:
        return 0.0
    user, nice, system, _, _, irq, softirq, _ = map(int, words)
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    for file, milliseconds in latencies({a: Path(a) for a in sys.argv[1:]}).items():
        print(f"{file:60} {1000 * milliseconds:9.1f} us")
