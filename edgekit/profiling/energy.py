"""The energy of an inference, and what a rate of inferences takes of a battery.

Power is idle power plus what the operators draw above it while they run, by their class and
precision, plus energy a multiply-accumulate and a byte from the DRAM: as energy models of CPUs and
accelerators have it, with time in the place of counted events (Horowitz 2014, "Computing's energy
problem"; Yang, Chen and Sze 2017, "Designing energy-efficient convolutional neural networks").
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgekit.graph.types import OpClass
from edgekit.profiling.estimate import Estimate
from edgekit.profiling.intervals import Range, error_range, estimated, factors
from edgekit.profiling.placement import OpPlacement
from edgekit.profiling.work import Work
from edgekit.schema.figure import Figure
from edgekit.schema.names import Precision
from edgekit.schema.power import ActivePower, PowerClass, PowerSpec
from edgekit.schema.results import Usage
from edgekit.schema.target import Target

NO_POWER = "no power of this target has been published"
SECONDS_PER_DAY = 86_400.0
_PICO = 1e-12
_MATRIX: frozenset[OpClass] = frozenset({"conv", "pointwise", "dense", "matmul", "recurrent"})
# Average power of networks over the median of their board: 10th and 90th percentile of the
# published measurements of benchmarks/energy.py.
UNKNOWN_SPREAD = Range(
    0.90,
    1.11,
    "of average power between networks on one board, over the boards whose energy is published",
)


@dataclass
class Demand:
    """What one processor does in one precision during an inference.

    Attributes:
        seconds: by class of operators; crossings and what an inference costs once are "other".
        macs: multiply-accumulates.
        dram_bytes: of operators that exceed the target's cache.
    """

    seconds: dict[PowerClass, float] = field(default_factory=lambda: defaultdict(float))
    macs: int = 0
    dram_bytes: int = 0


Demands = Mapping[tuple[str, Precision], Demand]
"""By processor and the precision that is charged."""


def power_class(work: Work) -> PowerClass:
    """The operators that an operator draws like."""
    if work.kind in _MATRIX:
        return "matrix"
    return "depthwise" if work.kind == "depthwise" else "other"


def demands(
    result: Estimate, loads: Sequence[Work], placed: Sequence[OpPlacement], target: Target
) -> Demands:
    """Sums up what each processor does in each precision; times are those of `result`.

    Args:
        result: the estimate of the inference.
        loads: work of its operators.
        placed: where they run.
        target: the hardware.
    """
    found: dict[tuple[str, Precision], Demand] = defaultdict(Demand)
    rest = dict(result.busy)
    for work, place, time in zip(loads, placed, result.ops, strict=True):
        name = place.where or ""
        if work.free:
            continue
        own = found[name, target.precisions.get(work.precision) or work.precision]
        own.seconds[power_class(work)] += time.seconds
        own.macs += work.macs
        own.dram_bytes += work.bytes if work.bytes > target.memory.cache_bytes else 0
        rest[name] -= time.seconds
    for name, seconds in rest.items():
        keys = [key for key in found if key[0] == name]
        if keys:
            found[max(keys, key=lambda key: found[key].macs)].seconds["other"] += max(seconds, 0.0)
    return found


def energy_j(result: Estimate, does: Demands, power: PowerSpec) -> float:
    """Energy of one inference in joules, over the scope of the target's power.

    idle power * latency + sum over processors, precisions and classes of operators of power above
    idle * time + energy a multiply-accumulate, a byte from the DRAM and an inference.
    """
    total = power.idle_w * result.seconds + power.mj_per_inference * 1e-3
    main = max(does, key=lambda key: does[key].macs, default=None)
    for key, demand in does.items():
        name, precision = key
        own = power.operators.get(name, {}).get(precision)
        if own is None:
            total += power.active_w[name] * sum(demand.seconds.values())
            work = demand.macs * power.pj_per_mac + demand.dram_bytes * power.pj_per_byte
        else:
            total += sum(watts(own, kind) * took for kind, took in demand.seconds.items())
            work = demand.macs * own.pj_per_mac + demand.dram_bytes * own.pj_per_byte
            total += own.mj_per_inference * 1e-3 if key == main else 0.0
        total += work * _PICO
    return total


def watts(own: ActivePower, kind: PowerClass) -> float:
    """Power of a class of operators; of one that nobody measured, the highest known."""
    return own.w[kind] if kind in own.w else max(own.w.values(), default=0.0)


def energy_figures(
    result: Estimate,
    does: Demands,
    target: Target,
    charged: Precision | None,
    *,
    extrapolated: float,
) -> tuple[Figure, Figure]:
    """Energy of one inference in mJ, and average power over it in W.

    The interval of energy is that of its own residuals, which contain what the latency's
    prediction is off by. Where energies were not compared with measurements, it is the interval
    of latency combined with the spread of power (`Range.times`): that of the target, or that
    between networks on boards where energies are known.

    Args:
        result: the estimate of the inference.
        does: what the processors do in it.
        target: the hardware.
        charged: precision that the network is charged by.
        extrapolated: how far the network is from what the fit saw, from 0 to 1.
    """
    power = target.power
    if power is None:
        return Figure.missing(NO_POWER), Figure.missing(NO_POWER)
    spread = _spread(power)
    span = error_range(target.energy_error, charged, extrapolated=extrapolated)
    if span is None:
        latency = error_range(target.error, charged, extrapolated=extrapolated)
        span = None if latency is None else latency.times(spread)
    how = f"interval: {span.method}" if span else "no interval: latency was not compared either"
    joules = energy_j(result, does, power)
    basis = _basis(power, does)
    return (
        estimated(joules * 1e3, "mJ", f"{basis} over the estimated latency; {how}", span),
        estimated(
            joules / result.seconds if result.seconds else 0.0,
            "W",
            f"energy over latency, {power.scope}; interval: {spread.method}",
            spread,
        ),
    )


def compiled_energy(latency_ms: Figure, target: Target) -> tuple[Figure, Figure]:
    """Energy in mJ and average power in W where a compiler says how long the accelerator works.

    Idle power and the first processor's active power over that time; no operator is on the others.

    Args:
        latency_ms: by the compiler's cost model.
        target: with the accelerator first.
    """
    power = target.power
    if power is None or latency_ms.value is None:
        missing = Figure.missing(NO_POWER if power is None else latency_ms.reason or "no latency")
        return missing, missing
    drawn = power.idle_w + power.active_w[target.processors[0].name]
    spread = _spread(power)
    basis = f"idle and active power of {power.scope}"
    return (
        estimated(
            drawn * latency_ms.value,
            "mJ",
            f"{basis} over the compiler's latency; no interval: that was not compared",
        ),
        estimated(drawn, "W", f"{basis}; interval: {spread.method}", spread),
    )


def _spread(power: PowerSpec) -> Range:
    if power.spread is None:
        return UNKNOWN_SPREAD
    return Range(power.spread.low, power.spread.high, power.spread.method)


def _basis(power: PowerSpec, does: Demands) -> str:
    fitted = [own for p, q in does if (own := power.operators.get(p, {}).get(q)) is not None]
    count = sum(own.measurements for own in fitted)
    by = f" by class of operators, fitted to {count} measurements" if count else ""
    return f"idle and active power of {power.scope}{by}"


def usage(
    latency_ms: Figure,
    energy_mj: Figure,
    power: PowerSpec | None,
    *,
    per_day: float,
    battery_wh: float | None = None,
) -> Usage:
    """Average power, energy a day and battery life at a rate of inferences.

    average power = rate * energy + (1 - rate * latency) * power between inferences, which is
    `sleep_w`, or idle power where the target does not say that it sleeps. The interval is that of
    the inference's energy; power between inferences is taken as exact.

    Args:
        latency_ms: of one inference.
        energy_mj: of one inference.
        power: of the target.
        per_day: inferences a day, evenly spread.
        battery_wh: usable energy of a battery.
    """

    def missing(reason: str) -> Usage:
        none = Figure.missing(reason)
        return Usage(
            inferences_per_day=per_day,
            average_power_w=none,
            energy_per_day_j=none,
            battery_h=None if battery_wh is None else none,
            battery_wh=battery_wh,
        )

    if latency_ms.value is None or energy_mj.value is None or power is None:
        return missing(energy_mj.reason or latency_ms.reason or NO_POWER)
    rate = per_day / SECONDS_PER_DAY
    share = rate * latency_ms.value * 1e-3
    if share > 1:
        most = SECONDS_PER_DAY / (latency_ms.value * 1e-3)
        return missing(f"one after the other, no more than {most:,.0f} inferences a day are done")
    rest = power.idle_w if power.sleep_w is None else power.sleep_w
    word = "idle" if power.sleep_w is None else "sleeping"
    between = f"{rest:g} W {word} between"
    if not rest and share < 1:
        between = "nothing between, because no idle or sleep power is published: a lower bound"
    average = rate * energy_mj.value * 1e-3 + (1 - share) * rest
    span = factors(energy_mj)
    ends = (
        [average + rate * energy_mj.value * 1e-3 * (end - 1) for end in (span.low, span.high)]
        if span
        else [None, None]
    )
    method = f"{per_day:,.0f} inferences a day ({100 * share:.3g}% of the time), {between}"

    def figure(unit: str, values: Sequence[float | None]) -> Figure:
        value, low, high = values
        return Figure(
            value=value, low=low, high=high, unit=unit, origin="estimated",
            method=f"{method}; interval: that of the energy of an inference"
            if span
            else f"{method}; no interval: the energy has none",
        )  # fmt: skip

    low, high = ends
    battery = None
    if battery_wh is not None:
        lasts = [None if w is None else battery_wh / w for w in (average or None, high, low)]
        battery = (
            figure("h", lasts)
            if average
            else Figure.missing("no power between inferences is published, and there are none")
        )
    return Usage(
        inferences_per_day=per_day,
        average_power_w=figure("W", (average, low, high)),
        energy_per_day_j=figure(
            "J", [None if w is None else w * SECONDS_PER_DAY for w in (average, low, high)]
        ),
        battery_h=battery,
        battery_wh=battery_wh,
    )
