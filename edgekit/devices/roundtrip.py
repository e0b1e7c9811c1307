"""How near the cores are to each other on which a runtime's threads run.

Two cores that share a cache pass a value on in a third of the time of two that do not, and small
networks take up to twice as long with two threads on the latter, while each core alone is as fast
as ever. A hypervisor moves a virtual machine's cores, so that they are near at one time and far at
another.
"""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from edgekit.devices.threads import cores_in_use

_ROUNDS = 300
_COUNTED = _ROUNDS // 4  # the shortest: what else runs makes them longer
_TRIES = 3
_POLLS = 200_000  # that an answer is waited for
_ASKED, _ANSWERED = 0, 128  # places in the memory shared, in cache lines of their own
_SYMBOLS = 250


class RoundTrip:
    """Sends values to other cores, where a child answers. Close it when done."""

    def __init__(self) -> None:
        self._child: _Child | None = None

    def seconds(self, threads: int) -> float:
        """The time of a value's way to the farthest core in use and back; 0: unknown.

        Args:
            threads: of a runtime. It is known which cores they use if they need all.
        """
        cores = cores_in_use(threads)
        if not cores:
            return 0.0
        os.sched_setaffinity(0, cores[:1])
        try:
            tries = ((self._to(core) for _ in range(_TRIES)) for core in cores[1:])
            return max(next(filter(None, times), 0.0) for times in tries)
        finally:
            os.sched_setaffinity(0, cores)

    def close(self) -> None:
        """Ends the child."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def _to(self, core: int) -> float:
        self._child = self._child or _Child()
        shared = self._child.shared
        shared[_ASKED] = shared[_ANSWERED] = 0
        self._child.move_to(core)
        times = []
        for number in range(_ROUNDS):
            symbol = 1 + number % _SYMBOLS
            start = time.perf_counter()
            shared[_ASKED] = symbol
            if not _waited_for(shared, _ANSWERED, symbol):
                return 0.0
            times.append(time.perf_counter() - start)
        return sorted(times)[_COUNTED]


class _Child:
    """Another process, and the memory that it shares with this one."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="edgekit-")
        path = Path(self._folder.name) / "shared"
        path.write_bytes(bytes(mmap.PAGESIZE))
        self.shared = _mapped(path)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "edgekit.devices.roundtrip", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read()

    def move_to(self, core: int) -> None:
        """Lets it answer on a core."""
        if self._process.stdin is not None:
            self._process.stdin.write(f"{core}\n")
            self._process.stdin.flush()
        self._read()

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.communicate()
        self.shared.close()
        self._folder.cleanup()

    def _read(self) -> None:
        """Waits until it is ready."""
        if self._process.stdout is not None:
            self._process.stdout.readline()


def _mapped(path: Path) -> mmap.mmap:
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), mmap.PAGESIZE)


def _waited_for(shared: mmap.mmap, place: int, symbol: int) -> bool:
    """Whether a symbol came before patience ended."""
    for _ in range(_POLLS):  # noqa: SIM110 a generator would take longer than the way
        if shared[place] == symbol:
            return True
    return False


def _answer(path: Path) -> None:
    """Answers on the core that each line of the standard input names."""
    shared = _mapped(path)
    _tell_ready()
    for line in sys.stdin:
        os.sched_setaffinity(0, {int(line)})
        _tell_ready()
        for number in range(_ROUNDS):
            symbol = 1 + number % _SYMBOLS
            if not _waited_for(shared, _ASKED, symbol):
                break
            shared[_ANSWERED] = symbol


def _tell_ready() -> None:
    sys.stdout.write("\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _answer(Path(sys.argv[1]))
