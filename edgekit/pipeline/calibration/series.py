"""What was measured in one setting: latencies of networks, and times of their operators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgekit.devices.latency import Latency, Quiet, quietest, settled
from edgekit.pipeline.calibration.journal import Entry, Setting
from edgekit.pipeline.calibration.network import Network
from edgekit.profiling.fit.attribution import parts
from edgekit.profiling.fit.kernels import Observation
from edgekit.profiling.fit.named import Told
from edgekit.profiling.view import GraphView

_DOUBT = 0.5  # relative uncertainty of a latency, over how much it is in doubt
_ALONE = 0.1  # of one on several cores that no other agrees with


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


class Gathered:
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

    def add(self, network: Network, view: GraphView, entry: Entry) -> None:
        """Takes what the journal has of a visit."""
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
        """All that was measured.

        Args:
            setting: that it is of.
            whole: names of composites.
            quiet: what the device shows that nothing disturbs.
        """
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
