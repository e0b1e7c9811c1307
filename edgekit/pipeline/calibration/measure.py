"""Measures the networks on a device, and remembers what is measured."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.base.errors import EdgekitError
from edgekit.base.files import write_text
from edgekit.base.progress import Progress, silent
from edgekit.devices.device import Device
from edgekit.graph.read import read_graph
from edgekit.pipeline.calibration.chains import chains
from edgekit.pipeline.calibration.composites import composites
from edgekit.pipeline.calibration.files import write_network
from edgekit.pipeline.calibration.network import Network
from edgekit.profiling.fit.kernels import Observation
from edgekit.profiling.view import GraphView
from edgekit.schema.names import Format, Precision

FORMATS: Mapping[str, Format] = {
    "litert": "tflite",
    "onnxruntime": "onnx",
    "openvino": "openvino",
}
_SEED = 0
_COMPOSITE_ROUNDS = 4
_LEAST_NETWORKS = 60
_RUNS_SHARE = 0.4  # of the time; the rest writes and loads files
_RUNS_S = (0.004, 0.2)  # of one network


@dataclass(frozen=True)
class Setting:
    """One way to run models on a device."""

    runtime: str
    precision: Precision
    threads: int

    @property
    def key(self) -> str:
        """One word for it."""
        return f"{self.runtime}-{self.precision}-{self.threads}"


@dataclass(frozen=True)
class Series:
    """What was measured in one setting.

    Attributes:
        spread: median of the relative spreads of the runs.
        failed: networks that the runtime did not run, with the reason.
        version: of the runtime.
    """

    setting: Setting
    observations: tuple[Observation, ...]
    composites: frozenset[str]
    spread: float
    failed: Mapping[str, str]
    version: str


def networks() -> tuple[list[Network], frozenset[str]]:
    """All networks in an order of which any beginning is a fair sample, and composites' names."""
    generator = np.random.default_rng(_SEED)
    whole = list(composites(generator, _COMPOSITE_ROUNDS))
    found = [*whole, *chains(generator)]
    order = generator.permutation(len(found))
    return [found[index] for index in order], frozenset(network.name for network in whole)


class Journal:
    """Latencies as they come, in a file beside the result, so that a killed run goes on.

    Args:
        path: of the file.
        head: what the run is about; a file with another head is begun anew.
    """

    def __init__(self, path: Path, head: Mapping[str, Any]) -> None:
        self._path = path
        self._known: dict[tuple[str, str], dict[str, Any]] = {}
        first = json.dumps({"head": head}, sort_keys=True)
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        if not lines or lines[0] != first:
            write_text(path, first + "\n")
            return
        for line in lines[1:]:
            with contextlib.suppress(ValueError, KeyError, TypeError):  # the last may be cut off
                entry = json.loads(line)
                self._known[entry["setting"], entry["network"]] = entry

    def get(self, setting: Setting, network: str) -> dict[str, Any] | None:
        """What is known of a network."""
        return self._known.get((setting.key, network))

    def add(self, setting: Setting, network: str, **found: Any) -> dict[str, Any]:
        """Notes what was measured."""
        entry = {"setting": setting.key, "network": network, **found}
        self._known[setting.key, network] = entry
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        return entry

    def remove(self) -> None:
        """Takes the file away: the result is written."""
        self._path.unlink(missing_ok=True)


def measure(
    device: Device,
    settings: Sequence[Setting],
    *,
    seconds: float,
    journal: Journal,
    progress: Progress = silent,
) -> Iterator[Series]:
    """Measures the networks in each setting; settings of one file type share the files.

    Args:
        device: what runs them.
        settings: ways to run them.
        seconds: about how long all takes; sixty networks a setting are measured in any case.
        journal: what is known already, and what is added to it.
        progress: receives what is being measured.
    """
    plan, whole = networks()
    groups: dict[tuple[str, Precision], list[Setting]] = {}
    for setting in settings:
        groups.setdefault((setting.runtime, setting.precision), []).append(setting)
    share = seconds / len(groups)
    for number, ((runtime, precision), members) in enumerate(groups.items()):
        each = share * _RUNS_SHARE / (len(plan) * len(members))
        runs = min(max(each, _RUNS_S[0]), _RUNS_S[1])
        observed: dict[Setting, list[Observation]] = {setting: [] for setting in members}
        failed: dict[Setting, dict[str, str]] = {setting: {} for setting in members}
        spreads: dict[Setting, list[float]] = {setting: [] for setting in members}
        version = "unknown"
        start = time.monotonic()
        for count, network in enumerate(plan):
            late = time.monotonic() - start > share
            if late and count >= _LEAST_NETWORKS:
                break
            done = (number + count / len(plan)) / len(groups)
            progress(f"{runtime} {precision}: {network.name}", done, 1.0)
            with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
                path = write_network(
                    network, FORMATS[runtime], Path(folder), quantized=precision == "int8"
                )
                view = GraphView(read_graph(path))
                for setting in members:
                    entry = journal.get(setting, network.name) or _entry(
                        device, journal, setting, network, path, runs
                    )
                    if "error" in entry:
                        failed[setting][network.name] = entry["error"]
                        continue
                    version = entry["version"]
                    spreads[setting].append(entry["spread"])
                    observed[setting].append(
                        Observation(
                            network.name,
                            network.family,
                            view,
                            entry["seconds"],
                            uncertainty=entry["spread"] / 2,
                        )
                    )
        for setting in members:
            spread = float(np.median(spreads[setting])) if spreads[setting] else 0.0
            found = tuple(observed[setting])
            yield Series(setting, found, whole, spread, failed[setting], version)


def _entry(
    device: Device, journal: Journal, setting: Setting, network: Network, path: Path, runs: float
) -> dict[str, Any]:
    try:
        latency = device.latency(
            path, runtime=setting.runtime, threads=setting.threads, seconds=runs
        )
    except EdgekitError as error:  # one network that a runtime refuses spoils no calibration
        return journal.add(setting, network.name, error=error.message)
    return journal.add(
        setting,
        network.name,
        seconds=latency.seconds,
        spread=latency.spread,
        version=device.runtime_version(setting.runtime),
    )
