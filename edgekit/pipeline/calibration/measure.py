"""Measures the networks on a device, and remembers what is measured."""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.base.errors import EdgekitError
from edgekit.base.files import write_text
from edgekit.base.progress import Progress, silent
from edgekit.devices.device import Device
from edgekit.devices.latency import UNKNOWN, Latency, Quiet, quiet_of, quietest, settled
from edgekit.graph.read import read_graph
from edgekit.pipeline.calibration.chains import chains
from edgekit.pipeline.calibration.composites import composites
from edgekit.pipeline.calibration.files import write_network
from edgekit.pipeline.calibration.network import Network
from edgekit.profiling.fit.attribution import parts
from edgekit.profiling.fit.kernels import Observation
from edgekit.profiling.fit.named import Told, told
from edgekit.profiling.view import GraphView
from edgekit.runtimes.operators import PROFILERS
from edgekit.schema.names import Format, Precision

FORMATS: Mapping[str, Format] = {
    "litert": "tflite",
    "onnxruntime": "onnx",
    "openvino": "openvino",
}
_SEED = 0
_COMPOSITE_ROUNDS = 4
_LEAST_NETWORKS = 60
# Families of which networks, and one chain in so many, are measured with uint8 too.
_UNSIGNED = {
    "mobilenet", "inverted", "segmentation", "tiny", "pointwise", "conv", "depthwise", "dense",
    "stem", "colors", "add", "mean", "pool", "softmax", "logistic", "resize",
}  # fmt: skip
_EVERY = 4
_EARLY = 0.3  # where in the order the last composite comes
_MANY = 12  # chains of a sort; all of one with fewer come earlier
_TOLD = 1.6  # times later comes a chain where a profiler tells the times of composites' operators
_NUMBER = re.compile(r"-\d+")
_RUNS_SHARE = 0.15  # of the time; the rest writes and loads files, and waits for a quiet device
_RUNS_S = (0.004, 0.2)  # of one network
_FIRST_SHARE = 0.7  # of the time is for the first turn
_DOUBT = 0.5  # relative uncertainty of a latency, over how much it is in doubt
_ALONE = 0.1  # of one on several cores that no other agrees with


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
        disturbed: median of what else slowed the runs down, relative.
        failed: networks that the runtime did not run, with the reason.
        version: of the runtime.
    """

    setting: Setting
    observations: tuple[Observation, ...]
    composites: frozenset[str]
    disturbed: float
    failed: Mapping[str, str]
    version: str


def networks() -> tuple[list[Network], frozenset[str]]:
    """All networks, and composites' names; any beginning is a fair sample, with more composites."""
    generator = np.random.default_rng(_SEED)
    whole = list(composites(generator, _COMPOSITE_ROUNDS))
    single = list(chains(generator))
    older = [network for network in whole if network.family in _UNSIGNED]
    older += [network for network in single if network.family in _UNSIGNED][::_EVERY]
    found = [*whole, *single, *(network.as_unsigned() for network in older)]
    names = frozenset(network.name for network in whole)
    places = _places(found, names, generator)
    return sorted(found, key=lambda network: places[network.name]), names


def _places(
    found: Sequence[Network], composites: frozenset[str], generator: np.random.Generator
) -> dict[str, float]:
    """Places in the order: each sort is spread evenly, so that none is missing by chance."""
    sorts: dict[str, list[Network]] = {}
    for network in found:
        sorts.setdefault(_NUMBER.sub("", network.name), []).append(network)
    places: dict[str, float] = {}
    for members in sorts.values():
        count, whole = len(members), members[0].name in composites
        width = _EARLY / count if whole else 1 / max(count, _MANY)
        steps = generator.permutation(count) + generator.random(count)
        places |= {one.name: width * step for one, step in zip(members, steps, strict=True)}
    return places


FileType = tuple[str, Precision]
"""A runtime and a precision: settings that share their files."""


def jobs(
    plan: Sequence[Network], composites: frozenset[str], types: Sequence[FileType]
) -> list[tuple[Network, FileType]]:
    """Which network is measured in which type of file, in this order.

    Args:
        plan: networks in their order.
        composites: names of those that are.
        types: of files.
    """
    found: list[tuple[float, Network, FileType]] = []
    for (place, network), (runtime, precision) in product(enumerate(plan), types):
        if network.only_tflite and FORMATS[runtime] != "tflite":
            continue
        if network.unsigned and precision != "int8":
            continue
        told = runtime in PROFILERS.names() and network.name not in composites
        found.append((place * (_TOLD if told else 1), network, (runtime, precision)))
    return [(network, one) for _, network, one in sorted(found, key=lambda job: job[0])]


class Journal:
    """Latencies as they come, in a file beside the result, so that a killed run goes on.

    Args:
        path: of the file.
        head: what the run is about; a file with another head is begun anew.
    """

    def __init__(self, path: Path, head: Mapping[str, Any]) -> None:
        self._path = path
        self._known: dict[tuple[str, str, int], dict[str, Any]] = {}
        self._start = time.monotonic()
        first = json.dumps({"head": head}, sort_keys=True)
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        if not lines or lines[0] != first:
            write_text(path, first + "\n")
            return
        for line in lines[1:]:
            with contextlib.suppress(ValueError, KeyError, TypeError):  # the last may be cut off
                entry = json.loads(line)
                self._known[entry["setting"], entry["network"], entry["visit"]] = entry
        self._start -= max((entry["spent"] for entry in self._known.values()), default=0.0)

    @property
    def spent(self) -> float:
        """Seconds since it was begun, of all runs that wrote it."""
        return time.monotonic() - self._start

    def get(self, setting: Setting, network: str, visit: int) -> dict[str, Any] | None:
        """What is known of a network."""
        return self._known.get((setting.key, network, visit))

    def add(self, setting: Setting, network: str, visit: int, **found: Any) -> dict[str, Any]:
        """Notes what was measured."""
        what = {"setting": setting.key, "network": network, "visit": visit}
        entry = {**what, "spent": round(self.spent, 1), **found}
        self._known[setting.key, network, visit] = entry
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
) -> list[Series]:
    """Measures the networks in each setting; settings of one file type share the files.

    Networks come in an order by chance and settings in turns, so that what else the device does in
    some seconds or minutes is not taken for what some networks or settings cost. What was
    disturbed, and what the device was not ready for, is measured in further turns, as long as there
    is time. Times of operators are asked of the fewest threads alone: what more threads take is
    told by what these take.

    Args:
        device: what runs them.
        settings: ways to run them.
        seconds: about how long all takes; sixty networks a setting are measured in any case.
        journal: what is known already, and what is added to it.
        progress: receives what is being measured.
    """
    plan, whole = networks()
    groups: dict[FileType, list[Setting]] = {}
    for setting in settings:
        groups.setdefault((setting.runtime, setting.precision), []).append(setting)
    fewest = {min(group, key=lambda one: one.threads) for group in groups.values()}
    gathered = {setting: _Gathered() for setting in settings}
    runs = min(max(seconds * _RUNS_SHARE / (len(plan) * len(settings)), _RUNS_S[0]), _RUNS_S[1])
    order = jobs(plan, whole, list(groups))
    quiet, spent = dict.fromkeys((one.threads for one in settings), UNKNOWN), 0.0
    first = unsettled = remembered = True
    while remembered or (unsettled and spent < 1):
        begun, unsettled, remembered = [], False, False
        for count, (network, (runtime, precision)) in enumerate(order):
            spent = journal.spent / seconds
            needed = first and count < _LEAST_NETWORKS * len(groups)
            late = spent > (_FIRST_SHARE if first else 1) and not needed
            progress(network.name, min(spent, 1.0), 1.0)
            open_yet = [
                one
                for one in groups[runtime, precision]
                if not gathered[one].settled(network, quiet[one.threads])
            ]
            known = {
                one: journal.get(one, network.name, gathered[one].visits(network))
                for one in open_yet
            }
            if late and not any(known.values()):
                continue
            begun.append((network, (runtime, precision)))
            unsettled = unsettled or bool(open_yet)
            remembered = remembered or any(known.values())
            asked = [
                one
                for one in open_yet
                if known[one] or needed or (not late and device.ready(one.threads))
            ]
            if not asked:
                continue
            with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
                path = write_network(
                    network, FORMATS[runtime], Path(folder), quantized=precision == "int8"
                )
                view = GraphView(read_graph(path))
                for one in asked:
                    visit = gathered[one].visits(network)
                    profiled = one in fewest
                    entry = known[one] or _entry(
                        device, journal, one, network.name, visit, path, view, runs, profiled
                    )
                    gathered[one].add(network, view, entry)
        first, order = False, begun
        for threads in quiet:
            alike = [each for setting, each in gathered.items() if setting.threads == threads]
            quiet[threads] = quiet_of(one for each in alike for one in each.known())
    return [gathered[one].series(one, whole, quiet[one.threads]) for one in settings]


class _Gathered:
    """What comes in of one setting."""

    def __init__(self) -> None:
        self._networks: dict[str, tuple[Network, GraphView]] = {}
        self._latencies: dict[str, list[Latency]] = {}
        self._operators: dict[str, list[list[Told]]] = {}
        self._failed: dict[str, str] = {}
        self._version = "unknown"

    def known(self) -> list[Latency]:
        """All latencies so far."""
        return [one for latencies in self._latencies.values() for one in latencies]

    def visits(self, network: Network) -> int:
        """How often it was measured."""
        return len(self._latencies.get(network.name, ()))

    def settled(self, network: Network, quiet: Quiet) -> bool:
        """Whether it need not be measured again."""
        known = self._latencies.get(network.name, ())
        return network.name in self._failed or settled(known, quiet)

    def add(self, network: Network, view: GraphView, entry: Mapping[str, Any]) -> None:
        if "error" in entry:
            self._failed[network.name] = entry["error"]
            return
        latency = Latency(entry["seconds"], entry["loop_s"], entry["trip_s"])
        self._latencies.setdefault(network.name, []).append(latency)
        self._version = entry["version"]
        self._networks.setdefault(network.name, (network, view))
        times = [Told(tuple(operators), seconds) for operators, seconds in entry["operators"]]
        self._operators.setdefault(network.name, []).append(times)

    def _operators_beside(self, latency: Latency, name: str) -> list[Told]:
        """Times of a network's operators of the visit that a latency is of."""
        visits = zip(self._latencies[name], self._operators[name], strict=True)
        return next(times for one, times in visits if one is latency)

    def series(self, setting: Setting, whole: frozenset[str], quiet: Quiet) -> Series:
        best = {name: quietest(known, quiet) for name, known in self._latencies.items()}
        chosen = [one for group in best.values() for one in group]
        loops = [one.loop_s for one in chosen if not one.doubt(quiet)]
        usual_s = float(np.median(loops)) if loops else quiet.loop_s
        found = tuple(
            Observation(
                name,
                network.family,
                view,
                float(np.median([one.at_clock(usual_s) for one in best[name]])),
                uncertainty=_DOUBT * best[name][0].doubt(quiet)
                + _ALONE * (setting.threads > 1 and len(best[name]) == 1),
                parts=tuple(parts(view, self._operators_beside(best[name][0], name))),
            )
            for name, (network, view) in self._networks.items()
        )
        doubts = [one[0].doubt(quiet) for one in best.values()]
        doubt = float(np.median(doubts)) if doubts else 0.0
        return Series(setting, found, whole, doubt, self._failed, self._version)


def _entry(
    device: Device,
    journal: Journal,
    setting: Setting,
    network: str,
    visit: int,
    path: Path,
    view: GraphView,
    runs: float,
    profiled: bool,
) -> dict[str, Any]:
    try:
        latency = device.latency(
            path, runtime=setting.runtime, threads=setting.threads, seconds=runs
        )
        operators = (
            device.operators(path, runtime=setting.runtime, threads=setting.threads, seconds=runs)
            if profiled
            else []
        )
    except EdgekitError as error:  # one network that a runtime refuses spoils no calibration
        return journal.add(setting, network, visit, error=error.message)
    return journal.add(
        setting,
        network,
        visit,
        seconds=latency.seconds,
        loop_s=latency.loop_s,
        trip_s=latency.trip_s,
        operators=[(one.operators, one.seconds) for one in told(view, operators)],
        version=device.runtime_version(setting.runtime),
    )
