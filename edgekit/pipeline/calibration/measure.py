"""Measures the networks on a device."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from edgekit.base.errors import EdgekitError
from edgekit.base.progress import Progress, silent
from edgekit.devices.device import Device
from edgekit.devices.latency import UNKNOWN, quiet_of
from edgekit.graph.read import read_graph
from edgekit.pipeline.calibration.chains import chains
from edgekit.pipeline.calibration.composites import composites
from edgekit.pipeline.calibration.files import write_network
from edgekit.pipeline.calibration.journal import Entry, Journal, Setting
from edgekit.pipeline.calibration.network import Network
from edgekit.pipeline.calibration.series import Gathered, Series
from edgekit.profiling.fit.named import told
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

Job = tuple[Network, FileType]


def jobs(
    plan: Sequence[Network], composites: frozenset[str], types: Sequence[FileType]
) -> list[Job]:
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
        profiled = runtime in PROFILERS.names() and network.name not in composites
        found.append((place * (_TOLD if profiled else 1), network, (runtime, precision)))
    return [(network, one) for _, network, one in sorted(found, key=lambda job: job[0])]


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
    share_s = seconds * _RUNS_SHARE / (len(plan) * len(settings))
    found = _Measurement(
        device,
        settings,
        seconds=seconds,
        runs_s=min(max(share_s, _RUNS_S[0]), _RUNS_S[1]),
        journal=journal,
        progress=progress,
    )
    turn = found.turn(jobs(plan, whole, found.types), first=True)
    while not turn.last:
        turn = found.turn(turn.begun, first=False)
    return found.series(whole)


@dataclass(frozen=True)
class _Turn:
    """One way through the networks.

    Attributes:
        begun: what was not too late.
        unsettled: whether something had to be measured.
        remembered: whether something was known of an earlier run.
        spent: share of the time up to its last network.
    """

    begun: Sequence[Job]
    unsettled: bool
    remembered: bool
    spent: float

    @property
    def last(self) -> bool:
        """Whether no turn follows."""
        return not self.remembered and (not self.unsettled or self.spent >= 1)


@dataclass(frozen=True)
class _File:
    """A network's file, as long as it is there."""

    network: Network
    path: Path
    view: GraphView


class _Measurement:
    """Networks on a device, measured in turns.

    Args:
        device: what runs them.
        settings: ways to run them.
        seconds: about how long all takes.
        runs_s: how long the runs of one network take, in seconds.
        journal: what is known already, and what is added to it.
        progress: receives what is being measured.
    """

    def __init__(
        self,
        device: Device,
        settings: Sequence[Setting],
        *,
        seconds: float,
        runs_s: float,
        journal: Journal,
        progress: Progress,
    ) -> None:
        self._device = device
        self._seconds = seconds
        self._runs_s = runs_s
        self._journal = journal
        self._progress = progress
        self._groups: dict[FileType, list[Setting]] = {}
        for setting in settings:
            self._groups.setdefault((setting.runtime, setting.precision), []).append(setting)
        self._fewest = {min(group, key=lambda one: one.threads) for group in self._groups.values()}
        self._gathered = {setting: Gathered() for setting in settings}
        self._quiet = dict.fromkeys((one.threads for one in settings), UNKNOWN)

    @property
    def types(self) -> list[FileType]:
        """Of the files that the settings need."""
        return list(self._groups)

    def turn(self, order: Sequence[Job], *, first: bool) -> _Turn:
        """Measures what is not settled yet, as far as there is time and the device is ready."""
        begun: list[Job] = []
        unsettled, remembered, spent = False, False, 0.0
        for count, (network, kind) in enumerate(order):
            spent = self._journal.spent / self._seconds
            needed = first and count < _LEAST_NETWORKS * len(self._groups)
            late = spent > (_FIRST_SHARE if first else 1) and not needed
            self._progress(network.name, min(spent, 1.0), 1.0)
            wanted = self._wanted(network, kind)
            known = any(wanted.values())
            if late and not known:
                continue
            begun.append((network, kind))
            unsettled, remembered = unsettled or bool(wanted), remembered or known
            asked = {
                setting: entry
                for setting, entry in wanted.items()
                if entry or needed or (not late and self._device.ready(setting.threads))
            }
            if asked:
                self._visit(network, kind, asked)
        self._look_for_quiet()
        return _Turn(begun, unsettled, remembered, spent)

    def series(self, whole: frozenset[str]) -> list[Series]:
        """What was measured, setting by setting; `whole` has the names of composites."""
        return [
            gathered.series(setting, whole, self._quiet[setting.threads])
            for setting, gathered in self._gathered.items()
        ]

    def _wanted(self, network: Network, kind: FileType) -> dict[Setting, Entry | None]:
        """Settings in which a network is not settled, with what is known of its next visit."""
        return {
            setting: self._journal.get(
                setting, network.name, self._gathered[setting].visits(network)
            )
            for setting in self._groups[kind]
            if not self._gathered[setting].settled(network, self._quiet[setting.threads])
        }

    def _visit(
        self, network: Network, kind: FileType, asked: Mapping[Setting, Entry | None]
    ) -> None:
        """Gathers a visit to a network in some settings, and measures what is not known of it."""
        runtime, precision = kind
        with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
            path = write_network(
                network, FORMATS[runtime], Path(folder), quantized=precision == "int8"
            )
            file = _File(network, path, GraphView(read_graph(path)))
            for setting, known in asked.items():
                entry = known or self._measured(setting, file)
                self._gathered[setting].add(network, file.view, entry)

    def _measured(self, setting: Setting, file: _File) -> Entry:
        name, visit = file.network.name, self._gathered[setting].visits(file.network)
        runtime, threads, seconds = setting.runtime, setting.threads, self._runs_s
        operators = []
        try:
            latency = self._device.latency(
                file.path, runtime=runtime, threads=threads, seconds=seconds
            )
            if setting in self._fewest:
                operators = self._device.operators(
                    file.path, runtime=runtime, threads=threads, seconds=seconds
                )
        except EdgekitError as error:  # one network that a runtime refuses spoils no calibration
            return self._journal.add(setting, name, visit, error=error.message)
        return self._journal.add(
            setting,
            name,
            visit,
            seconds=latency.seconds,
            loop_s=latency.loop_s,
            trip_s=latency.trip_s,
            operators=[(one.operators, one.seconds) for one in told(file.view, operators)],
            version=self._device.runtime_version(runtime),
        )

    def _look_for_quiet(self) -> None:
        """Learns anew what the device shows that nothing disturbs, of all that was measured."""
        for threads in self._quiet:
            alike = [one for setting, one in self._gathered.items() if setting.threads == threads]
            self._quiet[threads] = quiet_of(latency for one in alike for latency in one.known())
