"""Latencies, and which of them nothing disturbed."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

_QUIET = 1.1  # times the shortest loop: it varies a little
_NEAR = 1.8  # times the shortest way: cores beyond it share no cache
# Powers of the loop's slowness, of one thread and of several, which wait for the slowest: medians
# of 0.46 to 0.66 and of 0.8 to 1 were seen on one machine.
_SHARED = (0.5, 0.9)
_AGREED = 1.1  # times the shortest
_RARELY = 50  # the shortest loops in so many are luck


@dataclass(frozen=True)
class Quiet:
    """What a device shows that nothing disturbs, in seconds; 0: unknown.

    Attributes:
        loop_s: time of a loop of known length.
        trip_s: a value's way from one core to another and back.
    """

    loop_s: float = 0.0
    trip_s: float = 0.0


UNKNOWN = Quiet()


@dataclass(frozen=True)
class Latency:
    """Time of one inference.

    Attributes:
        seconds: first quartile of the runs that count.
        loop_s: mean time of a loop of known length around these runs: the longer, the more else
            ran on the core.
        trip_s: of runs on several cores, a value's way from one to another and back: virtual cores
            are near each other at one time and far at another.
    """

    seconds: float
    loop_s: float = 0.0
    trip_s: float = 0.0

    def doubt(self, quiet: Quiet) -> float:
        """How much slower than on a quiet device the loop or the way was; 0: hardly."""
        loop = self.loop_s / quiet.loop_s - _QUIET if quiet.loop_s else 0.0
        trip = 0.0 if near(self.trip_s, quiet.trip_s) else self.trip_s / quiet.trip_s - 1
        return max(0.0, loop, trip)

    def at_clock(self, loop_s: float) -> float:
        """The time at the clock at which the loop takes `loop_s`, in seconds.

        What is left of the loop's time is another's share of the core, which slows inferences
        mostly less than the loop.
        """
        if not loop_s or not self.loop_s:
            return self.seconds
        slower = self.loop_s / loop_s
        clock = min(_QUIET, max(1 / _QUIET, slower))
        shared = math.pow(max(1.0, slower / clock), _SHARED[self.trip_s > 0])
        return self.seconds / (clock * shared)


def near(trip_s: float, shortest_s: float) -> bool:
    """Whether cores are as near each other as they can be, as far as is known."""
    return not shortest_s or trip_s < _NEAR * shortest_s


def quiet_of(latencies: Iterable[Latency]) -> Quiet:
    """What was hardly ever shorter."""
    known = list(latencies)
    loops, trips = ([getattr(one, name) for one in known] for name in ("loop_s", "trip_s"))
    return Quiet(_rare(loops), _rare([time for time in trips if time]))


def _rare(times: Collection[float]) -> float:
    return sorted(times)[len(times) // _RARELY] if times else 0.0


def settled(latencies: Sequence[Latency], quiet: Quiet) -> bool:
    """Whether no more of a file's latencies are needed.

    One of them is in no doubt; of runs on several cores two are, and agree: at times a hypervisor
    runs two virtual cores in turns, and neither the loop nor the way tells it.
    """
    sure = [one for one in latencies if not one.doubt(quiet)]
    needed = 2 if any(one.trip_s for one in sure) else 1
    return len(quietest(sure, quiet)) >= needed


def quietest(latencies: Sequence[Latency], quiet: Quiet) -> list[Latency]:
    """Those of a file's latencies that were disturbed least; on several cores, the shortest."""
    least = min((one.doubt(quiet) for one in latencies), default=0.0)
    found = [one for one in latencies if one.doubt(quiet) <= least]
    if not any(one.trip_s for one in found):
        return found
    shortest = min(one.seconds for one in found)
    return [one for one in found if one.seconds <= _AGREED * shortest]
