"""How far predicted energies are from published ones, board by board.

    python benchmarks/energy.py [NAME ...] [--tiny | --all] [--table measurements.csv]

Prints a Markdown table: for each target and precision (or, with `--tiny`, each board, runtime and
round of MLPerf Tiny; with `--all`, every board of the table with energies) the median and 90th
percentile of |predicted / measured - 1| of an inference's energy, with each model left out of the
fits of latency and of power in turn, and with each family left out; shares within 12% and coverage
of the interval; and the error of average power alone. The last line is the spread of average power
between networks on one board: what is assumed where a board's energies were never measured.

For MLPerf Tiny each benchmark is predicted from the others of the same board and round. Boards of
the same runtime help to find how the costs of latency relate to each other (`prior`), as in the
fits of the shipped targets; power is of the board's own measurements alone.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from groundtruth import CACHE, TABLE, Row, fit_data, measured, prior_data, table
from prediction import stand_in

from edgekit.base.errors import TargetError
from edgekit.profiling.fit.energy import EnergyResiduals, energy_residuals, fit_power
from edgekit.profiling.fit.residuals import (
    ROUNDS,
    coverage_pct,
    median_pct,
    p90_pct,
    within_pct,
)
from edgekit.profiling.fit.samples import Sample
from edgekit.profiling.targets import load_target, target_names
from edgekit.schema.fitting import FitSpec
from edgekit.schema.names import Precision
from edgekit.schema.power import PowerSpec
from edgekit.schema.target import Target

_FEWEST = 3
_GOAL_PCT = 12
_TINY = "mlperf_tiny"
_PRECISIONS: tuple[Precision, ...] = ("int8", "fp32", "fp16")
_KEY = ("device", "runtime", "threads", "precision", "source", "clock_mhz")
HEADER = (
    f"| {{name}} | models | LOO median | p90 | family median | p90 | within {_GOAL_PCT}% "
    "| coverage | power alone | p90 | fitted |\n| --- |" + " ---: |" * 9 + " --- |"
)


@dataclass(frozen=True)
class Found:
    """The residuals of one board and precision."""

    name: str
    left: EnergyResiduals
    fitted: str

    def row(self) -> str:
        """A line of the table."""
        energy, family, power = self.left.energy, self.left.family, self.left.power
        few = len({r.family for r in family}) == len({r.model for r in energy})
        cells = [self.name, str(len({r.model for r in energy}))]
        cells += [f"{median_pct(energy):.1f}%", f"{p90_pct(energy):.1f}%"]
        cells += ["", ""] if few else [f"{median_pct(family):.1f}%", f"{p90_pct(family):.1f}%"]
        cells += [
            f"{within_pct(energy, _GOAL_PCT):.0f}%",
            f"{coverage_pct(energy, rounds=ROUNDS):.0f}%",
        ]
        cells += [f"{median_pct(power):.1f}%", f"{p90_pct(power):.1f}%", self.fitted]
        return "| " + " | ".join(cells) + " |"


def found(
    name: str, samples: Sequence[Sample], target: Target, spec: FitSpec,
    prior: Sequence[Sequence[Sample]],
) -> Found | None:  # fmt: skip
    """The residuals of one fit; None if too few models have energies."""
    if len({s.model for s in samples if s.energy_j}) < _FEWEST:
        return None
    left = energy_residuals(samples, target, spec, prior=prior)
    if len({r.model for r in left.energy}) < _FEWEST:
        return None
    return Found(name, left, words(fit_power(samples, target), spec))


def words(target: Target, spec: FitSpec) -> str:
    """The fitted power, in words."""
    own = target.power.operators[spec.processor][spec.precision] if target.power else None
    if own is None:
        return ""
    alike = len(set(own.w.values())) == 1
    text = (
        f"{own.w['other']:.3g} W"
        if alike
        else ", ".join(f"{k} {v:.3g} W" for k, v in own.w.items())
    )
    for value, unit in ((own.pj_per_mac, "pJ/MAC"), (own.pj_per_byte, "pJ/byte"),
                        (own.mj_per_inference, "mJ/inference")):  # fmt: skip
        text += f", {value:.3g} {unit}" if value else ""
    return text


def of_targets(names: Sequence[str], rows: Sequence[Row], folder: Path) -> Iterable[Found]:
    """Each fit of the shipped targets."""
    for name in names:
        target = load_target(name)
        for spec in target.fit:
            data = fit_data(rows, target, spec, folder)
            prior = prior_data(rows, target, spec, folder)
            one = found(f"{name} {spec.precision}", data.samples, target, spec, prior)
            if one:
                yield one


def groups_of(rows: Sequence[Row], group: str | None) -> Mapping[tuple[str, ...], list[Row]]:
    """Measurements with energies by board, runtime, precision, round, clock and configuration."""
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if row["energy_uj"] and row["precision"] in _PRECISIONS and group in (None, row["group"]):
            # Submitters say in the notes which of their systems it was.
            system = next((w for w in row["notes"].split() if w.startswith("system=")), "")
            groups[(*(row[key] for key in _KEY), system.rstrip(";"))].append(row)
    return groups


def software(key: tuple[str, ...]) -> str:
    """What kernels a group ran: its runtime without version, else its submitters and round."""
    runtime = key[1].split()[0] if key[1] else "N/A"
    return key[4] if runtime == "N/A" else runtime


def of_groups(rows: Sequence[Row], folder: Path, group: str | None) -> Iterable[Found]:
    """Each board and round as a target of its own; idle power is within the active one."""
    groups = groups_of(rows, group)
    samples: dict[tuple[str, ...], tuple[Sample, ...]] = {}
    for key, own in groups.items():
        precision = next(p for p in _PRECISIONS if p == key[3])
        kind = own[0]["device_class"]
        target, spec = stand_in("mcu" if own[0]["group"] == _TINY else kind, key[1], precision)
        power = PowerSpec(scope="as measured", idle_w=0.0, active_w={"cpu": 0.0})
        target = target.model_copy(update={"power": power})
        if key not in samples:
            samples[key] = measured(own, target, precision, folder=folder).samples
        tiny = own[0]["group"] == _TINY
        prior = []
        for other, others in groups.items() if tiny else ():
            if other[0] != key[0] and software(other) == software(key):
                prior.append(measured(others, target, precision, folder=folder).samples)
        one = None
        name = title(key, own[0])
        try:
            one = found(name, samples[key], target, spec, [p for p in prior if p])
        except TargetError as error:  # an operator that the stand-in does not take
            print(f"{name}: {error}", file=sys.stderr)
        if one:
            yield one


def title(key: tuple[str, ...], row: Row) -> str:
    """A group, in words."""
    device, runtime, threads, precision, source, clock, system = key
    system = system.rpartition("/")[2].removeprefix("system=") if row["group"] == _TINY else ""
    parts = [device[:32], runtime[:20], f"{threads} threads" if threads else "", precision]
    parts += [source[7:40], f"{clock} MHz" if clock else "", system[:28]]
    return ", ".join(filter(None, parts))


def spread(rows: Sequence[Row]) -> str:
    """Average power of networks over the median of their board, 10th and 90th percentile."""
    ratios: list[float] = []
    groups = [g for g in groups_of(rows, None).values() if len({r["model_name"] for r in g}) >= 4]
    for own in groups:
        power = np.array([float(r["energy_uj"]) / float(r["latency_ms"]) for r in own])
        ratios += (power / np.median(power)).tolist()
    low, high = np.percentile(ratios, [10, 90])
    return (
        f"Average power over the median of its board: 10th percentile {low:.3f}, 90th {high:.3f} "
        f"({len(ratios)} measurements, {len(groups)} boards and rounds)"
    )


def main(arguments: Sequence[str]) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="targets; all with a fit if none is given")
    parser.add_argument("--tiny", action="store_true", help="boards of MLPerf Tiny, not targets")
    parser.add_argument("--all", action="store_true", help="all boards, not targets")
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--cache", type=Path, default=CACHE, help="structures made by Keras")
    options = parser.parse_args(arguments)
    rows = table(options.table)
    if options.tiny or options.all:
        results = list(of_groups(rows, options.cache, None if options.all else _TINY))
    else:
        results = list(of_targets(options.names or target_names(), rows, options.cache))
    print(HEADER.format(name="board" if options.tiny or options.all else "target"))
    for one in results:
        print(one.row(), flush=True)
    pooled = [r for one in results for r in one.left.energy]
    if pooled:
        print(f"\nAll together: median {median_pct(pooled):.1f}%, 90th percentile "
              f"{p90_pct(pooled):.1f}%, {len(pooled)} measurements")  # fmt: skip
    print(spread(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
