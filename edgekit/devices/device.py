"""A device: whatever can run a model file and say how long it took."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from edgekit.base.child import Worker
from edgekit.base.registry import Registry
from edgekit.devices.latency import Latency, near
from edgekit.devices.machine import Machine, machine
from edgekit.devices.roundtrip import RoundTrip
from edgekit.runtimes.operators import OperatorTime

_TIMEOUT_S = 120.0


class Device(Protocol):
    """Runs model files. Close it when done, as `contextlib.closing` does."""

    name: str

    def machine(self) -> Machine:
        """What it is, and its load now."""

    def ready(self, threads: int) -> bool:
        """Whether runs of so many threads would now take what they take at best.

        The cores of a virtual machine may be far from each other for a while.

        Args:
            threads: that a runtime may use.
        """

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
        self._trips = RoundTrip()
        self._shortest_s = math.inf

    def machine(self) -> Machine:
        """See `Device.machine`."""
        return machine()

    def ready(self, threads: int) -> bool:
        """See `Device.ready`."""
        return near(self._trip(threads), self._shortest_s)

    def latency(self, path: Path, *, runtime: str, threads: int, seconds: float) -> Latency:
        """See `Device.latency`."""
        before = self._trip(threads)
        answer = self._worker.call(
            "edgekit.devices.quick:quick_latency",
            path=str(path),
            runtime=runtime,
            threads=threads,
            seconds=seconds,
            quiet_loop_s=self._quiet_loop_s,
        )
        self._versions[runtime] = answer.pop("version")
        found = Latency(**answer, trip_s=max(before, self._trip(threads)))
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
        return [OperatorTime(tuple(names), *rest) for names, *rest in answer["operators"]]

    def runtime_version(self, runtime: str) -> str:
        """See `Device.runtime_version`."""
        return self._versions.get(runtime, "unknown")

    def close(self) -> None:
        """Ends the children."""
        self._worker.close()
        self._trips.close()

    def _trip(self, threads: int) -> float:
        """A value's way between the cores now, in seconds; 0: unknown."""
        trip = self._trips.seconds(threads)
        self._shortest_s = min(self._shortest_s, trip or math.inf)
        return trip


DEVICES: Registry[Callable[[], Any]] = Registry(
    "device", {"local": "edgekit.devices.device:LocalDevice"}, group="devices"
)
"""Makers of a `Device` by its word."""
