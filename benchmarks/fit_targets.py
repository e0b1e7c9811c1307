"""Fits the parameters of the shipped targets to published measurements.

    python benchmarks/fit_targets.py [NAME ...] [--write] [--table measurements.csv]

For each target and precision it takes the rows of the measurement table that the target's
`reference` names, without those marked suspect or measured otherwise than one inference at a time;
takes each model's structure from its file or rebuilds it by name; and finds the non-negative
parameters with the least relative error. It prints them with the error of predicting each model
from a fit without that model, and with `--write` puts them into the target's file.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import statistics
import sys
import textwrap
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from scipy.optimize import nnls
from structures import structure

from edgekit.base.files import write_text
from edgekit.graph.read import read_graph
from edgekit.graph.types import Graph
from edgekit.profiling.cost import kernel_terms
from edgekit.profiling.estimate import Estimate, crossing_bytes, estimate
from edgekit.profiling.placement import OpPlacement, place
from edgekit.profiling.view import GraphView
from edgekit.profiling.work import Work, works
from edgekit.schema.names import Precision
from edgekit.schema.shipped import shipped_dir
from edgekit.schema.target import KernelCosts, PredictionError, Source, Target, parse_target

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("EDGEKIT_SHARED", ROOT.parent / "shared"))

# Parameters of the fit: name to the terms that share it.
CPU = {
    "mac.conv": ("mac.conv",),
    "mac.pointwise": ("mac.pointwise", "mac.dense"),
    "mac.depthwise": ("mac.depthwise",),
    "activation_byte": ("activation_byte",),
    "weight_byte": ("weight_byte",),
    "op": ("op",),
    "inference": ("inference",),
}
FEW_ROWS = {  # four MLPerf Tiny networks: more parameters would fit them, and nothing else
    "mac": ("mac.conv", "mac.pointwise", "mac.dense", "mac.depthwise"),
    "weight_byte": ("weight_byte",),
}
TWO_ROWS = {
    "mac.conv": ("mac.conv", "mac.pointwise", "mac.dense"),
    "mac.depthwise": ("mac.depthwise",),
}
EDGETPU = {
    "mac": ("mac.conv", "mac.pointwise", "mac.dense", "mac.depthwise"),
    "activation_byte": ("activation_byte",),
    "link": ("link",),
    "inference": ("inference",),
}

MODEL_FILES = {
    "MLPerf Tiny AD FC-AutoEncoder": "mlperf_tiny_ad_int8.tflite",
    "MLPerf Tiny IC ResNet-8": "mlperf_tiny_ic_int8.tflite",
    "MLPerf Tiny KWS DS-CNN": "mlperf_tiny_kws_int8.tflite",
    "MLPerf Tiny VWW MobileNetV1-0.25-96": "mlperf_tiny_vww_int8.tflite",
    "MobileNet v2 DeepLab v3 dm0.5": "coral_deeplabv3_mnv2_dm05_pascal_quant.tflite",
}


@dataclass(frozen=True)
class Fit:
    """One processor and precision of a target, and what to fit it to."""

    target: str
    processor: str
    precision: Precision
    source: str
    parameters: Mapping[str, tuple[str, ...]]
    rows: Mapping[str, str] = field(default_factory=dict)  # in place of the target's reference
    robust: bool = False  # least absolute instead of least squared errors


FITS = (
    Fit("raspberry-pi-4", "cpu", "int8", "mlperf-v2.1", CPU),
    Fit("raspberry-pi-4", "cpu", "fp32", "mlperf-v2.1", CPU),
    Fit("drone-x500-cm4", "cpu", "int8", "mlperf-v2.1", CPU),
    Fit("drone-x500-cm4", "cpu", "fp32", "mlperf-v2.1", CPU),
    Fit("pixel-3", "cpu", "int8", "hosted", CPU),
    Fit("pixel-3", "cpu", "fp32", "hosted", CPU),
    Fit("coral-usb", "cpu", "int8", "coral-benchmarks", CPU,
        {"device": "Desktop CPU (Coral benchmark footnote 1)"}),
    Fit("coral-usb", "edgetpu", "int8", "coral-benchmarks", EDGETPU, robust=True),
    Fit("stm32-h7a3-cubeai", "cpu", "int8", "mlperf-tiny-v1.2", FEW_ROWS),
    Fit("stm32-l4r5-tflm", "cpu", "int8", "mlperf-tiny-v0.5", TWO_ROWS),
)  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """A measured network: its structure placed on the target, and the measurement."""

    model: str
    graph: Graph
    view: GraphView
    loads: list[Work]
    placed: list[OpPlacement]
    latency_s: float
    energy_j: float | None
    source: str


def table(path: Path) -> list[dict[str, str]]:
    """Rows that may be fitted: not suspect, one inference at a time."""
    with path.open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    return [row for row in rows if not row["suspect"] and row["latency_kind"] == "single"]


def matching(rows: Sequence[dict[str, str]], fit: Fit, target: Target) -> list[dict[str, str]]:
    """The rows that the fit is for."""
    wanted = (
        [dict(fit.rows, precision=fit.precision)]
        if fit.rows
        else [
            {"device": r.device, "runtime": r.runtime, "precision": r.precision}
            | ({"threads": str(r.threads)} if r.threads else {})
            for r in target.reference
            if r.precision == fit.precision
        ]
    )
    return [r for r in rows if any(all(r[k] == v for k, v in want.items()) for want in wanted)]


def load_graph(name: str, precision: Precision) -> Graph | None:
    """The structure of a network of the table, from its file or by name."""
    if name in MODEL_FILES:
        return read_graph(SHARED / "models" / MODEL_FILES[name])
    return structure(name, precision)


def samples(rows: Sequence[dict[str, str]], fit: Fit, target: Target) -> list[Sample]:
    """The measured networks whose structure is known."""
    found = []
    for row in rows:
        graph = load_graph(row["model_name"], fit.precision)
        if graph is None:
            continue
        view = GraphView(graph)
        energy = float(row["energy_uj"]) * 1e-6 if row["energy_uj"] else None
        placed = place(view, target)
        if fit.processor == "cpu" and len(target.processors) > 1:  # the host alone
            placed = [OpPlacement("cpu") for _ in placed]
        latency = float(row["latency_ms"]) * 1e-3
        found.append(
            Sample(
                row["model_name"],
                graph,
                view,
                list(works(view)),
                placed,
                latency,
                energy,
                source_id(row["source"], target),
            )
        )
    return found


def source_id(title: str, target: Target) -> str:
    """The target's source whose title begins most like the one in the table."""

    def common(source: Source) -> int:
        pairs = zip(source.title, title, strict=False)
        return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))

    return max(target.sources, key=common).id


def terms(sample: Sample, fit: Fit, target: Target) -> dict[str, float]:
    """Amounts of each cost term in one inference of a sample."""
    totals: dict[str, float] = defaultdict(float, {"inference": 1.0})
    for work, where in zip(sample.loads, sample.placed, strict=True):
        if where.where == fit.processor:
            for name, amount in kernel_terms(work).items():
                totals[name] += amount
    processor = next(p for p in target.processors if p.name == fit.processor)
    if processor.link:
        held = sum(
            work.weight_bytes
            for work, where in zip(sample.loads, sample.placed, strict=True)
            if where.where == fit.processor
        )
        streamed = max(0, held - (processor.parameter_cache_bytes or 0))
        totals["link"] = streamed + crossing_bytes(sample.graph, sample.placed, fit.processor)
    return totals


def solve(data: Sequence[Sample], fit: Fit, target: Target) -> dict[str, float]:
    """Non-negative parameters, in seconds per unit, with the least relative error."""
    others = target_with(target, fit, dict.fromkeys(fit.parameters, 0.0), link=False)
    matrix, ones = [], []
    for sample in data:
        amounts = terms(sample, fit, target)
        rest = elsewhere(sample, others, fit)
        known = sample.latency_s - rest
        matrix.append([
            sum(amounts.get(name, 0.0) for name in group) / sample.latency_s
            for group in fit.parameters.values()
        ])  # fmt: skip
        ones.append(known / sample.latency_s)
    solution = non_negative(np.array(matrix), np.array(ones), rounds=15 if fit.robust else 1)
    return dict(zip(fit.parameters, map(float, solution), strict=True))


def non_negative(
    design: NDArray[np.float64], wanted: NDArray[np.float64], *, rounds: int
) -> NDArray[np.float64]:
    """Non-negative coefficients with the least squared error in one round.

    More rounds reweight towards the least absolute error (errors under 2% counted as equal), so
    that rows which no model of the others explains do not bend the fit.
    """
    scale = np.maximum(design.max(axis=0), 1e-300)
    weights = np.ones(len(wanted))
    solution = np.zeros(design.shape[1])
    for _ in range(rounds):
        solution = nnls(design / scale * weights[:, None], wanted * weights)[0]
        errors = np.abs(design / scale @ solution - wanted)
        weights = 1 / np.sqrt(np.maximum(errors, 0.02))
    return np.asarray(solution / scale)


def elsewhere(sample: Sample, target: Target, fit: Fit) -> float:
    """Seconds that the sample spends on the target's other processors."""
    result = estimate(sample.view, sample.loads, sample.placed, target)
    if isinstance(result, str):
        raise SystemExit(f"{sample.model}: {result}")
    return sum(
        time.seconds
        for time, where in zip(result.ops, sample.placed, strict=True)
        if where.where != fit.processor
    )


def target_with(
    target: Target, fit: Fit, solution: Mapping[str, float], *, link: bool = True
) -> Target:
    """The target with the fitted parameters."""
    by_term = {t: solution[name] for name, group in fit.parameters.items() for t in group}
    costs = KernelCosts(
        origin="fitted",
        source=fit.source,
        ps_per_mac={
            t.removeprefix("mac."): _round(v * 1e12)
            for t, v in by_term.items()
            if t.startswith("mac.")
        },
        ps_per_activation_byte=_round(by_term.get("activation_byte", 0.0) * 1e12),
        ps_per_weight_byte=_round(by_term.get("weight_byte", 0.0) * 1e12),
        us_per_op=_round(by_term.get("op", 0.0) * 1e6),
        us_per_inference=_round(by_term.get("inference", 0.0) * 1e6),
    )
    processors = []
    for processor in target.processors:
        if processor.name == fit.processor:
            update: dict[str, Any] = {"costs": {**processor.costs, fit.precision: costs}}
            if link and processor.link and by_term.get("link"):
                speed = _round(1e-9 / by_term["link"])
                update["link"] = processor.link.model_copy(
                    update={"gb_per_s": speed, "source": fit.source}
                )
            processors.append(processor.model_copy(update=update))
        else:
            processors.append(processor)
    return target.model_copy(update={"processors": tuple(processors)})


def _round(value: float) -> float:
    return float(f"{value:.4g}")


def predict(sample: Sample, target: Target) -> Estimate:
    """The target's estimate of a sample."""
    result = estimate(sample.view, sample.loads, sample.placed, target)
    if isinstance(result, str):
        raise SystemExit(f"{sample.model}: {result}")
    return result


def leave_one_out(data: Sequence[Sample], fit: Fit, target: Target) -> PredictionError | None:
    """Error on models that the fit did not see; None with too few models to tell."""
    models = sorted({sample.model for sample in data})
    if len(models) < len(fit.parameters) or len(models) < 4:
        return None
    ratios = []
    for model in models:
        seen = [sample for sample in data if sample.model != model]
        fitted = target_with(target, fit, solve(seen, fit, target))
        ratios += [s.latency_s / predict(s, fitted).seconds for s in data if s.model == model]
    errors = [abs(1 / ratio - 1) * 100 for ratio in ratios]
    return PredictionError(
        median_pct=_round(statistics.median(errors)),
        p90_pct=_round(float(np.percentile(errors, 90))),
        low=_round(float(np.percentile(ratios, 10))),
        high=_round(float(np.percentile(ratios, 90))),
        models=len(models),
        method="measured over predicted, each model left out of the fit in turn",
    )


def power(data: Sequence[Sample], target: Target, processor: str) -> dict[str, float]:
    """Active power above idle and energy per multiply-accumulate, from measured energies."""
    measured = [sample for sample in data if sample.energy_j]
    if not measured or target.power is None:
        return {}
    rows, rest = [], []
    for sample in measured:
        energy = sample.energy_j or 0.0
        macs = sum(work.macs for work in sample.loads)
        rows.append([sample.latency_s / energy, macs / energy])
        rest.append(1 - target.power.idle_w * sample.latency_s / energy)
    solution = nnls(np.array(rows), np.array(rest))[0]
    error = np.abs(np.array(rows) @ solution - np.array(rest)) * 100
    print(f"  energy: {len(measured)} rows, median error {np.median(error):.1f}% at known latency")
    return {processor: _round(solution[0]), "pj_per_mac": _round(solution[1] * 1e12)}


def main(arguments: Sequence[str]) -> None:
    """Fits and prints; writes if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="targets; all if none is given")
    parser.add_argument("--write", action="store_true", help="put the figures into the files")
    parser.add_argument("--table", type=Path, default=SHARED / "groundtruth" / "measurements.csv")
    options = parser.parse_args(arguments)
    rows = table(options.table)
    names = options.names or list(dict.fromkeys(fit.target for fit in FITS))
    for name in names:
        path = shipped_dir("targets") / f"{name}.yaml"
        document = fitted_document(name, path.read_text(encoding="utf-8"), rows)
        if options.write:
            write_text(path, document)


def fitted_document(name: str, text: str, rows: Sequence[dict[str, str]]) -> str:
    """The text of a target file with the fitted figures in place."""
    target = parse_target(text, name)
    errors: dict[str, PredictionError] = {}
    powered: list[Sample] = []
    published = []
    document = text
    for fit in (fit for fit in FITS if fit.target == name):
        chosen = matching(rows, fit, target)
        data = samples(chosen, fit, target)
        if not data:
            raise SystemExit(f"{name}: no row of the table has a known structure")
        solution = solve(data, fit, target)
        error = leave_one_out(data, fit, target)
        target = target_with(target, fit, solution)
        report(fit, data, chosen, solution, error)
        document = put_costs(document, fit, target, data)
        if not fit.rows:
            powered += data
            if error:
                errors[fit.precision] = error
            published += [published_row(sample, fit) for sample in data]
    document = put(document, ["error"], "{" + ", ".join(
        f"{key}: {flow(value.model_dump())}" for key, value in errors.items()) + "}"
        if errors else "null")  # fmt: skip
    watts = power(powered, target, target.processors[0].name)
    if watts:
        known = target.power.active_w if target.power else {}
        first = target.processors[0].name
        document = put(document, ["power", "active_w"], flow({**known, first: watts[first]}))
        document = put_key(document, "power", "pj_per_mac", watts["pj_per_mac"])
    return put_measurements(document, published)


def report(
    fit: Fit, data: Sequence[Sample], chosen: Sequence[dict[str, str]],
    solution: Mapping[str, float], error: PredictionError | None,
) -> None:  # fmt: skip
    """Prints one fit."""
    models = len({sample.model for sample in data})
    print(f"{fit.target} {fit.processor} {fit.precision}: {len(data)} of {len(chosen)} rows, "
          f"{models} models")  # fmt: skip
    print("  " + ", ".join(f"{key} {value:.4g} s" for key, value in solution.items()))
    if error:
        print(f"  leave one model out: median {error.median_pct:.1f}%, 90th percentile "
              f"{error.p90_pct:.1f}%, measured/predicted {error.low:.2f} to "
              f"{error.high:.2f}")  # fmt: skip
    else:
        print("  too few models for an error")


def put_costs(text: str, fit: Fit, target: Target, data: Sequence[Sample]) -> str:
    """Writes the costs of one processor and precision, and the speed of its link."""
    index = next(i for i, p in enumerate(target.processors) if p.name == fit.processor)
    processor = target.processors[index]
    seen = sorted({
        work.kind
        for sample in data
        for work, where in zip(sample.loads, sample.placed, strict=True)
        if where.where == fit.processor and not work.free
    })  # fmt: skip
    costs = processor.costs[fit.precision].model_dump()
    sizes = [sample.graph.macs for sample in data]
    costs |= {"measurements": len(data), "seen": seen, "seen_macs": [min(sizes), max(sizes)]}
    costs["origin"] = "derived" if fit.target.startswith("drone-") else "fitted"
    text = put(text, ["processors", index, "costs", fit.precision], flow(costs))
    if processor.link:
        text = put(text, ["processors", index, "link"], flow(processor.link.model_dump()))
    return text


def published_row(sample: Sample, fit: Fit) -> str:
    """A measurement as a line of the target file."""
    row: dict[str, Any] = {"model": sample.model, "precision": fit.precision,
                           "latency_ms": _round(sample.latency_s * 1e3)}  # fmt: skip
    if sample.energy_j:
        row["energy_mj"] = _round(sample.energy_j * 1e3)
    return flow({**row, "source": sample.source})


def flow(value: Any) -> str:
    """A value as one line of YAML."""
    plain = yaml.safe_dump(
        value if not isinstance(value, dict) else {k: _plain(v) for k, v in value.items()},
        default_flow_style=True, sort_keys=False, width=10**6,
    )  # fmt: skip
    return plain.strip()


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def put(text: str, path: Sequence[str | int], value: str) -> str:
    """Replaces the value at `path` in YAML text; everything else stays as it is."""
    node: Any = yaml.compose(text)
    for step in path:
        node = (
            node.value[step]
            if isinstance(step, int)
            else next(v for k, v in node.value if k.value == step)
        )
    indent = " " * (len(path) * 2)
    wrapped = textwrap.fill(value, 98, break_long_words=False, break_on_hyphens=False)
    value = wrapped.replace("\n", f"\n{indent}  ")
    return text[: node.start_mark.index] + value + text[node.end_mark.index :]


def put_key(text: str, parent: str, key: str, value: float) -> str:
    """Sets a scalar in a block mapping at the top level, as a new line if it is not there."""
    document: Any = yaml.compose(text)
    node = next(v for k, v in document.value if k.value == parent)
    if any(k.value == key for k, _ in node.value):
        return put(text, [parent, key], str(value))
    start = node.start_mark.index
    return f"{text[:start]}{key}: {value}\n  {text[start:]}"


def put_measurements(text: str, lines: Sequence[str]) -> str:
    """Replaces `measurements`, the last key of the file."""
    head = text[: text.index("\nmeasurements:")]
    return head + "\nmeasurements:\n" + "".join(f"  - {line}\n" for line in lines)


if __name__ == "__main__":
    main(sys.argv[1:])
