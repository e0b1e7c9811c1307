"""How far predictions of latency and energy are from published measurements.

    python benchmarks/prediction.py [NAME ...] [--all] [--energy] [--readme]
        [--table measurements.csv]

Prints a Markdown table a target and precision, then one a device class. Columns: median and 90th
percentile of |predicted / measured - 1| with each model left out of the fit in turn, with each
family left out, and for measurements of another round or source that no fit sees; shares within
10% and 20% and coverage of the 10th to 90th percentile interval, both with models left out, and
that of measurements that no fit sees; where other boards join the fit, errors for models left out
of this board alone; and the median and 90th percentile of a straight line in multiply-accumulates,
fitted in the same way.

`--all` evaluates every device, runtime, thread count, precision and source of the table that has
enough models, as targets that are still to be written would be. The measurements lie in the shared
folder (EDGEKIT_SHARED). Structures that only Keras can build are kept in `--cache`, so that a
second run takes seconds. `--readme` writes README.md (the classes) and docs/prediction.md (all).
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from groundtruth import (
    CACHE,
    TABLE,
    Row,
    alone,
    fit_data,
    matching,
    measured,
    prior_data,
    table,
)
from markdown import DOCS, README, put_between

from edgekit.base.files import write_text
from edgekit.profiling.fit.costs import CostFit, fit_costs
from edgekit.profiling.fit.energy import energy_residuals
from edgekit.profiling.fit.least_squares import non_negative
from edgekit.profiling.fit.residuals import (
    ROUNDS,
    Residual,
    coverage_pct,
    interval,
    median_pct,
    p90_pct,
    within_pct,
)
from edgekit.profiling.fit.samples import Sample, predict
from edgekit.profiling.targets import load_target, target_names
from edgekit.schema.fitting import FitSpec
from edgekit.schema.names import Precision
from edgekit.schema.target import KernelCosts, MemorySpec, Processor, Target

_FEWEST = 4
_ENOUGH = 12  # models of a group of `--all`
_PRECISIONS: tuple[Precision, ...] = ("fp32", "int8", "fp16")
HEAD = """# Predicted latency against published measurements

Made by `python benchmarks/prediction.py --readme`. |predicted / measured - 1| with each model left
out of the fit in turn (LOO), with each family of models left out, and for another round or source
of measurements that no fit saw; the shares within 10% and 20% and the coverage of the 10th to 90th
percentile interval are with models left out, the coverage "of unseen" is for those rounds and
sources. "Known elsewhere": left out of this board, but measured on other boards of the same
runtime, which the fit knows. Last, a straight line in multiply-accumulates, fitted and judged in
the same way. Which terms a fit has was chosen on the same data, and how much rounds of measurement
widen the interval is their own median offset."""
HEADER = (
    "| {name} | models | rows | LOO median | p90 | family median | p90 | unseen median | p90 | "
    "within 10% | 20% | coverage | of unseen | known elsewhere | p90 | line in MACs | p90 |\n"
    "| --- | " + " | ".join(["---:"] * 16) + " |"
)


@dataclass(frozen=True)
class Evaluation:
    """The residuals of one processor and precision of a target."""

    name: str
    device_class: str
    by_model: tuple[Residual, ...]
    by_family: tuple[Residual, ...]
    unseen: tuple[Residual, ...]
    line: tuple[Residual, ...]
    covered: float  # rows within an interval made without them
    elsewhere: tuple[Residual, ...] = ()  # left out here, known from other boards
    unseen_covered: int = 0  # of `unseen`, within the interval

    def row(self) -> str:
        """As a line of the table."""
        models = len({r.model for r in self.by_model})
        cells = [self.name, str(models), str(len(self.by_model)), *errors(self.by_model),
                 *errors(self.by_family), *errors(self.unseen)]  # fmt: skip
        shares = [within_pct(self.by_model, 10), within_pct(self.by_model, 20)]
        cells += [f"{share:.0f}%" for share in shares]
        cells += [f"{100 * self.covered / len(self.by_model):.0f}%"]
        cells += [f"{100 * self.unseen_covered / len(self.unseen):.0f}%" if self.unseen else ""]
        cells += [*errors(self.elsewhere), *errors(self.line)]
        return "| " + " | ".join(cells) + " |"


def errors(residuals: Sequence[Residual]) -> tuple[str, str]:
    """Median and 90th percentile, or nothing."""
    if not residuals:
        return "", ""
    return f"{median_pct(residuals):.1f}%", f"{p90_pct(residuals):.1f}%"


def evaluation(
    name: str, device_class: str, samples: Sequence[Sample], fit: CostFit, unseen: Sequence[Sample]
) -> Evaluation | None:
    """The residuals of a fit; None if there are too few models to leave one out."""
    if len({r.model for r in fit.residuals}) < _FEWEST:
        return None
    other = tuple(
        Residual(s.model, s.family, s.latency_s / predict(s, fit.target).seconds) for s in unseen
    )
    low, high = interval([r.ratio for r in fit.residuals], rounds=ROUNDS)
    return Evaluation(
        name, device_class, fit.residuals, fit.family_residuals, other,
        tuple(line_residuals(samples)),
        coverage_pct(fit.residuals, rounds=ROUNDS) / 100 * len(fit.residuals), fit.elsewhere,
        sum(low <= r.ratio <= high for r in other),
    )  # fmt: skip


def line_residuals(samples: Sequence[Sample]) -> Iterable[Residual]:
    """The baseline: latency as a straight line in multiply-accumulates, each model left out."""
    macs = np.array([float(s.view.graph.macs) for s in samples])
    latency = np.array([s.latency_s for s in samples])
    models = np.array([s.model for s in samples])
    design = np.stack([macs, np.ones(len(macs))], axis=1) / latency[:, None]
    for model in dict.fromkeys(models.tolist()):
        held = models == model
        line = non_negative(design[~held], np.ones(int((~held).sum())))
        for index in np.flatnonzero(held).tolist():
            ratio = 1 / max(float(design[index] @ line), 1e-12)
            yield Residual(model, samples[index].family, ratio)


def of_target(
    target: Target, rows: Sequence[Row], folder: Path, *, energy: bool
) -> Iterable[Evaluation]:
    """Evaluates each fit of a target."""
    for spec in target.fit:
        data = fit_data(rows, target, spec, folder)
        prior = prior_data(rows, target, spec, folder)
        fit = fit_costs(data.samples, target, spec, prior=prior)
        target = fit.target
        other = [r for r in target.unseen if r.precision == spec.precision]
        only = alone(target, spec, measured_alone=False)
        unseen = measured(
            matching(rows, other), target, spec.precision, processor=only, folder=folder
        ).samples
        label = f"{target.name} {spec.processor} {spec.precision}"
        if energy:
            left = energy_residuals(data.samples, target, spec, prior=prior)
            if len({r.model for r in left.energy}) >= _FEWEST:
                covered = coverage_pct(left.energy, rounds=ROUNDS) / 100 * len(left.energy)
                yield Evaluation(
                    label, target.device_class, left.energy, left.family, (), (), covered
                )
            continue
        found = evaluation(label, target.device_class, data.samples, fit, unseen)
        if found:
            yield found


def of_groups(rows: Sequence[Row], folder: Path, fewest: int) -> Iterable[Evaluation]:
    """Evaluates every group of the table as a target of its own."""
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if row["precision"] in _PRECISIONS and row["latency_kind"] == "single":
            key = tuple(row[k] for k in ("device", "runtime", "threads", "precision", "source"))
            # ncnn says in the notes on which of the cores it ran.
            cores = "".join(re.findall(r"powersave=\d", row["notes"])[:1])
            groups[*key, cores].append(row)
    for key, own in groups.items():
        device, runtime, threads, word, source, cores = key
        precision = next(p for p in _PRECISIONS if p == word)
        kind = own[0]["device_class"]
        base, spec = stand_in(kind, runtime, precision)
        only = spec.processor if kind != "edgetpu" else None
        samples = measured(own, base, precision, processor=only, folder=folder).samples
        if len({s.model for s in samples}) < fewest:
            continue
        others = [
            row
            for other, found in groups.items()
            if (*other[:4], other[5]) == (*key[:4], cores) and other != key
            for row in found
        ]
        unseen = measured(others, base, precision, processor=only, folder=folder).samples
        name = ", ".join(filter(None, (device[:40], runtime[:30], threads and f"{threads} threads",
                                       precision, source[:40], cores)))  # fmt: skip
        prior = [
            measured(other, base, precision, processor=only, folder=folder).samples
            for (board, *software), other in groups.items()
            if kind == "mcu" and board != device and library(software[0]) == library(runtime)
            and software[2] == word and library(runtime)
        ]  # fmt: skip
        fit = fit_costs(samples, base, spec, prior=[board for board in prior if len(board) > 2])
        found = evaluation(name, kind, samples, fit, unseen)
        if found:
            yield found


def library(runtime: str) -> str:
    """A runtime without its version, but for the major one: kernels change between those."""
    return re.sub(r"(\d)[.\d]*", r"\1", runtime)


def stand_in(kind: str, runtime: str, precision: Precision) -> tuple[Target, FitSpec]:
    """A target for measurements of hardware that has none: everything runs on one processor."""
    if kind == "edgetpu":
        target = load_target("coral-usb")
        return target, next(s for s in target.fit if s.processor == "edgetpu")
    model = load_target("raspberry-pi-4")
    parameters = "cpu-int8" if precision == "int8" else "cpu"
    if kind == "mcu":
        parameters = "mcu"
    elif "Vulkan" in runtime:
        parameters = "gpu"
    elif "ncnn" in runtime:
        parameters = "cpu-winograd"
    spec = model.fit[0].model_copy(update={"precision": precision, "parameters": parameters})
    costs = {precision: KernelCosts(origin="assumed")}
    processor = Processor(name="cpu", kind="cpu", rules="litert-cpu", costs=costs)
    precisions: dict[Precision, Precision] = dict.fromkeys(_PRECISIONS, precision)
    memory = MemorySpec(ram_bytes=1 << 40, bandwidth_gb_s=1e6)
    update = {"processors": (processor,), "precisions": precisions, "memory": memory}
    return model.model_copy(update=update), spec


def by_class(found: Sequence[Evaluation]) -> Iterable[Evaluation]:
    """All residuals of each device class together."""
    for kind in sorted({e.device_class for e in found}):
        own = [e for e in found if e.device_class == kind]
        yield Evaluation(
            f"{kind} ({len(own)})", kind,
            tuple(r for e in own for r in e.by_model), tuple(r for e in own for r in e.by_family),
            tuple(r for e in own for r in e.unseen), tuple(r for e in own for r in e.line),
            sum(e.covered for e in own), tuple(r for e in own for r in e.elsewhere),
            sum(e.unseen_covered for e in own),
        )  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="targets; all with a fit if none is given")
    parser.add_argument("--all", action="store_true", help="groups of the table, not targets")
    parser.add_argument("--models", type=int, default=_ENOUGH, help="fewest of a group")
    parser.add_argument("--energy", action="store_true", help="energy in place of latency")
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--cache", type=Path, default=CACHE, help="structures made by Keras")
    parser.add_argument("--readme", action="store_true", help="write README.md and docs/")
    options = parser.parse_args(arguments)
    rows = table(options.table)
    if options.all:
        found = list(of_groups(rows, options.cache, options.models))
    else:
        targets = [load_target(name) for name in options.names or target_names()]
        found = [e for t in targets for e in of_target(t, rows, options.cache,
                                                       energy=options.energy)]  # fmt: skip
    targets_text, classes = (
        "\n".join((HEADER.format(name=name), *(line.row() for line in lines)))
        for name, lines in (("target", found), ("device class", by_class(found)))
    )
    parts = [targets_text, classes]
    if found:
        parts.append(f"Medians over the rows of the first table: {medians(found)}")
    print("\n\n".join(parts))
    if options.readme:
        put_between(README, "prediction", classes)
        write_text(DOCS / "prediction.md", "\n\n".join((HEAD, *parts)) + "\n")


def medians(found: Sequence[Evaluation]) -> str:
    """Of the errors of all targets alike, however many models each has."""
    parts = []
    for name, pick in (("leave one model out", "by_model"), ("leave one family out", "by_family"),
                       ("unseen source", "unseen")):  # fmt: skip
        lists = [getattr(e, pick) for e in found if getattr(e, pick)]
        if lists:
            parts.append(f"{name} {np.median([median_pct(r) for r in lists]):.1f}% (p90 "
                         f"{np.median([p90_pct(r) for r in lists]):.1f}%)")  # fmt: skip
    return ", ".join(parts)


if __name__ == "__main__":
    main(sys.argv[1:])
