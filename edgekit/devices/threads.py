"""Keeps the threads of a runtime on cores of their own.

A scheduler may leave two busy threads on one core for seconds while another idles. Inferences then
take as long as with one thread, though nothing else runs and each core by itself is fast.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_TASKS = Path("/proc/self/task")


def cores_in_use(threads: int) -> list[int]:
    """The cores that a runtime's threads must be on; none if there are others or it has one."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return cores if 1 < len(cores) <= threads else []


def cpu_times() -> dict[int, int]:
    """CPU time of each thread of this process in ns, by its id; none where Linux tells none.

    The first number of https://docs.kernel.org/scheduler/sched-stats.html, "/proc/<pid>/schedstat".
    """
    times: dict[int, int] = {}
    for task in _TASKS.glob("*/schedstat"):
        with contextlib.suppress(OSError, ValueError, IndexError):  # a thread may have ended
            times[int(task.parent.name)] = int(task.read_text(encoding="ascii").split()[0])
    return times


@contextlib.contextmanager
def apart(cores: Sequence[int], before: Mapping[int, int]) -> Iterator[None]:
    """Gives each of the threads that were busy a core of its own, and this thread the first.

    Args:
        cores: on which this thread may run; none: nothing is moved.
        before: `cpu_times` before the threads were busy.
    """
    if not cores:
        yield
        return
    spent = {thread: time - before.get(thread, 0) for thread, time in cpu_times().items()}
    busy = sorted(spent, key=lambda thread: spent[thread], reverse=True)[: len(cores)]
    own = threading.get_native_id()
    others = [thread for thread in busy if thread != own]
    for thread, core in zip(others, cores[len(cores) - len(others) :], strict=True):
        _move(thread, {core})
    _move(own, {cores[0]})
    try:
        yield
    finally:
        for thread in (own, *others):
            _move(thread, set(cores))


def _move(thread: int, cores: set[int]) -> None:
    with contextlib.suppress(OSError):  # a thread may have ended
        os.sched_setaffinity(thread, cores)
