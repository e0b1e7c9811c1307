"""Fits the parameters of the shipped targets to published measurements.

    python benchmarks/fit_targets.py [NAME ...] [--write] [--table measurements.csv] [--cache DIR]

A target's own file says what it is fitted to and how: each entry of its `fit` names a processor, a
precision and a parameter set, and takes the rows of the measurement table that `reference` names.
Each network's structure is read from its file or rebuilt by name. The figures are printed, and with
`--write` put into the target's file: `costs`, `link`, `power`, `error`, `energy_error`,
`measurements`. Costs and errors that a target's `derived` takes from others are written last.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from groundtruth import (
    CACHE,
    TABLE,
    Measured,
    Row,
    alone,
    fit_data,
    matching,
    measured,
    prior_data,
    source_id,
    table,
)

from edgekit.base.files import write_text
from edgekit.profiling.fit.costs import CostFit, fit_costs
from edgekit.profiling.fit.energy import energy_residuals, fit_power, power_spread
from edgekit.profiling.fit.fitted import rounded
from edgekit.profiling.fit.residuals import Residual, median_pct, p90_pct
from edgekit.profiling.fit.samples import predict
from edgekit.profiling.targets import load_target, target_names
from edgekit.schema.fitting import FitSpec
from edgekit.schema.names import Precision
from edgekit.schema.shipped import shipped_dir
from edgekit.schema.target import PredictionError, Target, parse_target


def main(arguments: Sequence[str]) -> None:
    """Fits and prints; writes if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="targets; all with a fit if none is given")
    parser.add_argument("--write", action="store_true", help="put the figures into the files")
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--cache", type=Path, default=CACHE, help="structures made by Keras")
    options = parser.parse_args(arguments)
    rows = table(options.table)
    for name in options.names or target_names():
        path = shipped_dir("targets") / f"{name}.yaml"
        text = path.read_text(encoding="utf-8")
        target = parse_target(text, str(path))
        if not target.fit:
            continue
        document = fitted_document(target, text, rows, options.cache)
        if options.write:
            parse_target(document, str(path))
            write_text(path, document)
    if options.write:
        for name in target_names():
            derive(shipped_dir("targets") / f"{name}.yaml")


def derive(path: Path) -> None:
    """Writes the costs and errors that a target takes from others."""
    text = path.read_text(encoding="utf-8")
    target = parse_target(text, str(path))
    errors = dict(target.error or {})
    for spec in target.derived:
        source = load_target(spec.base)
        base = next(p for p in source.processors if p.name == spec.base_processor)
        index = next(i for i, p in enumerate(target.processors) if p.name == spec.processor)
        own, other = target.processors[index].costs[spec.precision], base.costs[spec.precision]
        terms = {term: value for term, value in other.ns.items() if term not in spec.without}
        ns = {term: rounded(value * spec.times) for term, value in terms.items()}
        kept = {"origin": own.origin, "source": own.source, "ns": ns}
        costs = other.model_copy(update=kept).model_dump()
        text = put(text, ["processors", index, "costs", spec.precision], flow(costs))
        if spec.error and source.error:
            errors[spec.precision] = source.error[spec.precision]
    if any(spec.error for spec in target.derived):
        text = put(text, ["error"], by_precision(errors))
    if target.derived:
        parse_target(text, str(path))
        write_text(path, text)


def fitted_document(target: Target, text: str, rows: Sequence[Row], cache: Path) -> str:
    """The text of a target file with the fitted figures in place."""
    errors: dict[Precision, PredictionError] = {}
    fits: list[tuple[FitSpec, Measured]] = []
    for spec in target.fit:
        data = fit_data(rows, target, spec, cache)
        prior = prior_data(rows, target, spec, cache)
        result = fit_costs(data.samples, target, spec, prior=prior)
        target = result.target
        report(target.name, spec, data, result)
        if result.error and not spec.reference:
            unseen = unseen_errors(rows, target, spec, cache)
            errors[spec.precision] = result.error.model_copy(update=unseen)
        fits.append((spec, data))
    own = [(spec, data) for spec, data in fits if not spec.reference]
    target = fit_power([s for _, data in own for s in data.samples], target)
    left = {
        spec.precision: energy_residuals(
            data.samples, target, spec, prior=prior_data(rows, target, spec, cache)
        )
        for spec, data in own
    }
    energies = {precision: one.error for precision, one in left.items() if one.error}
    spread = power_spread([r for one in left.values() if one.error for r in one.power])
    if spread and target.power:
        power = target.power.model_copy(update={"spread": spread})
        target = target.model_copy(update={"power": power})
    for precision, error in energies.items():
        print(f"{target.name} {precision} energy: median {error.median_pct:.1f}%, "
              f"90th percentile {error.p90_pct:.1f}%")  # fmt: skip
    return document(target, text, errors, energies, own)


def unseen_errors(
    rows: Sequence[Row], target: Target, spec: FitSpec, cache: Path
) -> dict[str, float]:
    """Errors on other sources' measurements of the target, which no fit sees; empty without any."""
    others = [r for r in target.unseen if r.precision == spec.precision]
    only = alone(target, spec, measured_alone=False)
    samples = measured(
        matching(rows, others), target, spec.precision, processor=only, folder=cache
    ).samples
    found = [Residual(s.model, s.family, s.latency_s / predict(s, target).seconds) for s in samples]
    if not found:
        return {}
    print(
        f"  unseen source: median {median_pct(found):.1f}%, 90th percentile {p90_pct(found):.1f}%"
    )
    return {
        "source_median_pct": rounded(median_pct(found)),
        "source_p90_pct": rounded(p90_pct(found)),
    }


def report(name: str, spec: FitSpec, data: Measured, result: CostFit) -> None:
    """Prints one fit."""
    error = result.error
    models = len({sample.model for sample in data.samples})
    print(f"{name} {spec.processor} {spec.precision}: {len(data.samples)} measurements of "
          f"{models} models, {data.unknown} of unknown structure; "
          f"{result.parameters.size} parameters")  # fmt: skip
    if error:
        print(f"  leave one model out: median {error.median_pct:.1f}%, 90th percentile "
              f"{error.p90_pct:.1f}%, measured/predicted {error.low:.2f} to {error.high:.2f}, "
              f"coverage {error.coverage_pct:.0f}%")  # fmt: skip
    if error and error.family_median_pct is not None:
        print(f"  leave one family out: median {error.family_median_pct:.1f}%, 90th percentile "
              f"{error.family_p90_pct:.1f}%, measured/predicted {error.unseen_low:.2f} to "
              f"{error.unseen_high:.2f}")  # fmt: skip
    if not error:
        print("  too few models for an error")


def document(
    target: Target, text: str, errors: dict[Precision, PredictionError],
    energies: dict[Precision, PredictionError], own: Sequence[tuple[FitSpec, Measured]],
) -> str:  # fmt: skip
    """Puts the figures of a fitted target into the text of its file."""
    for spec in target.fit:
        index = next(i for i, p in enumerate(target.processors) if p.name == spec.processor)
        processor = target.processors[index]
        costs = processor.costs[spec.precision].model_dump()
        text = put(text, ["processors", index, "costs", spec.precision], flow(costs))
        if processor.link:
            text = put(text, ["processors", index, "link"], flow(processor.link.model_dump()))
    text = put(text, ["error"], by_precision(errors))
    if target.power and target.power.operators:
        fitted = target.power.model_dump(exclude_none=True)
        text = put(text, ["power", "active_w"], flow(target.power.active_w))
        for key in ("pj_per_mac", "operators", "spread"):
            if fitted.get(key) or f"\n  {key}:" in text:
                text = put_key(text, "power", key, scalar_or_flow(fitted.get(key)))
    if energies:
        text = put_after(text, "error", "energy_error", by_precision(energies))
    lines = [
        flow({
            "model": row["model_name"], "precision": spec.precision, "threads": threads(row),
            "latency_ms": rounded(sample.latency_s * 1e3),
            "energy_mj": rounded(sample.energy_j * 1e3) if sample.energy_j else None,
            "source": source_id(row["source"], target),
        })
        for spec, data in own
        for sample, row in zip(data.samples, data.rows, strict=True)
    ]  # fmt: skip
    return put_measurements(text, lines)


def threads(row: Row) -> int | None:
    """Of a measurement, where the table says it."""
    return int(row["threads"]) if row["threads"] else None


def by_precision(errors: dict[Precision, PredictionError]) -> str:
    """Errors as one line of YAML."""
    parts = [f"{key}: {flow(value.model_dump())}" for key, value in errors.items()]
    return "{" + ", ".join(parts) + "}" if parts else "null"


def flow(value: dict[Any, Any]) -> str:
    """A mapping as one line of YAML, without what is not set."""
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in value.items() if v is not None}
    return str(yaml.safe_dump(plain, default_flow_style=True, sort_keys=False, width=10**6)).strip()


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


def scalar_or_flow(value: object) -> str:
    """A value as one line of YAML."""
    return flow(value) if isinstance(value, dict) else "null" if value is None else str(value)


def put_key(text: str, parent: str, key: str, value: str) -> str:
    """Sets a key in a block mapping at the top level, as a new line if it is not there."""
    document: Any = yaml.compose(text)
    node = next(v for k, v in document.value if k.value == parent)
    if any(k.value == key for k, _ in node.value):
        return put(text, [parent, key], value)
    start = node.start_mark.index
    return put(f"{text[:start]}{key}: null\n  {text[start:]}", [parent, key], value)


def put_after(text: str, before: str, key: str, value: str) -> str:
    """Sets a key at the top level, after the key `before` if it is not there."""
    document: Any = yaml.compose(text)
    if not any(k.value == key for k, _ in document.value):
        node = next(v for k, v in document.value if k.value == before)
        end = node.end_mark.index
        text = f"{text[:end]}\n{key}: null{text[end:]}"
    return put(text, [key], value)


def put_measurements(text: str, lines: Sequence[str]) -> str:
    """Replaces `measurements`, the last key of the file."""
    head = text[: text.index("\nmeasurements:")]
    return head + "\nmeasurements:\n" + "".join(f"  - {line}\n" for line in lines)


if __name__ == "__main__":
    main(sys.argv[1:])
