"""A device: whatever can run a model file and say how long it took."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edgekit.base.child import Worker
from edgekit.base.registry import Registry
from edgekit.devices.machine import Machine, machine

_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Latency:
    """Time of one inference, in seconds.

    Attributes:
        seconds: median.
        least: of all runs; on a machine that does something else too it says more.
        spread: third quartile over the first, minus one: how much else was going on.
    """

    seconds: float
    least: float
    spread: float


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
        )
        self._versions[runtime] = answer.pop("version")
        return Latency(**answer)

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
