"""A device: whatever can run a model file and say how long it took."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edgekit.base.child import Worker
from edgekit.base.registry import Registry
from edgekit.devices.machine import Machine, machine
from edgekit.runtimes.operators import OperatorTime

_TIMEOUT_S = 120.0
_QUIET = 1.1  # times the shortest: the loop varies a little
_RARELY = 50  # the shortest loops in so many are luck


@dataclass(frozen=True)
class Latency:
    """Time of one inference.

    Attributes:
        seconds: first quartile of the runs that count.
        loop_s: mean time of a loop of known length around these runs: the longer, the more else
            ran on the core.
    """

    seconds: float
    loop_s: float = 0.0

    def doubt(self, quiet_loop_s: float) -> float:
        """How much slower than on a quiet device the loop was; 0: hardly.

        Args:
            quiet_loop_s: the loop's time on a quiet device.
        """
        if not quiet_loop_s:
            return 0.0
        return max(0.0, self.loop_s / quiet_loop_s - _QUIET)

    def at_clock(self, loop_s: float) -> float:
        """The time at the clock at which the loop takes `loop_s`, in seconds."""
        if not loop_s or not self.loop_s:
            return self.seconds
        return self.seconds * min(_QUIET, max(1 / _QUIET, loop_s / self.loop_s))


def quiet_loop(latencies: Iterable[Latency]) -> float:
    """The loop's time on a quiet device: hardly ever was it shorter. In seconds; 0: unknown."""
    times = sorted(one.loop_s for one in latencies)
    return times[len(times) // _RARELY] if times else 0.0


def settled(latencies: Iterable[Latency], quiet_loop_s: float) -> bool:
    """Whether one of a file's latencies is in no doubt, so that no more are needed."""
    return any(not one.doubt(quiet_loop_s) for one in latencies)


def quietest(latencies: Sequence[Latency], quiet_loop_s: float) -> list[Latency]:
    """Those of a file's latencies that were disturbed least."""
    least = min(one.doubt(quiet_loop_s) for one in latencies)
    return [one for one in latencies if one.doubt(quiet_loop_s) <= least]


class Device(Protocol):
    """Runs model files. Close it when done, as `contextlib.closing` does."""

    name: str

    def machine(self) -> Machine:
        """What it is, and its load now."""

    def latency(self, path: Path, *, runtime: str, threads: int, seconds: float) -> Latency:
        """Measures a file that lies on this machine.

        Args:
            path: a .tflite, .onnx or .xml file.
            runtime: a name of the runtimes' registry.
            threads: that the runtime may use.
            seconds: about how long the timed runs take.

        Raises:
            EdgekitError: the file cannot be run there.
        """

    def operators(
        self, path: Path, *, runtime: str, threads: int, seconds: float
    ) -> list[OperatorTime]:
        """Times of operators by the runtime's own profiler; none if it has none.

        Args:
            path: see `latency`.
            runtime: see `latency`.
            threads: see `latency`.
            seconds: about how long the runs take.

        Raises:
            EdgekitError: the file cannot be run there.
        """

    def runtime_version(self, runtime: str) -> str:
        """Version of a runtime that has run a file."""

    def close(self) -> None:
        """Ends what it started."""


class LocalDevice:
    """This machine: files run one after the other in one child, which is restarted if it dies."""

    name = "local"

    def __init__(self) -> None:
        self._worker = Worker(timeout_s=_TIMEOUT_S)
        self._versions: dict[str, str] = {}
        self._quiet_loop_s = math.inf  # until something was measured

    def machine(self) -> Machine:
        """See `Device.machine`."""
        return machine()

    def latency(self, path: Path, *, runtime: str, threads: int, seconds: float) -> Latency:
        """See `Device.latency`."""
        answer = self._worker.call(
            "edgekit.devices.quick:quick_latency",
            path=str(path),
            runtime=runtime,
            threads=threads,
            seconds=seconds,
            quiet_loop_s=self._quiet_loop_s,
        )
        self._versions[runtime] = answer.pop("version")
        found = Latency(**answer)
        self._quiet_loop_s = min(self._quiet_loop_s, found.loop_s)
        return found

    def operators(
        self, path: Path, *, runtime: str, threads: int, seconds: float
    ) -> list[OperatorTime]:
        """See `Device.operators`."""
        answer = self._worker.call(
            "edgekit.devices.quick:quick_operators",
            path=str(path),
            runtime=runtime,
            threads=threads,
            seconds=seconds,
        )
        return [OperatorTime(tuple(names), time) for names, time in answer["operators"]]

    def runtime_version(self, runtime: str) -> str:
        """See `Device.runtime_version`."""
        return self._versions.get(runtime, "unknown")

    def close(self) -> None:
        """Ends the child."""
        self._worker.close()


DEVICES: Registry[Callable[[], Any]] = Registry(
    "device", {"local": "edgekit.devices.device:LocalDevice"}, group="devices"
)
"""Makers of a `Device` by its word."""
