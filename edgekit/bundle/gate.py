"""The gate: does a run keep its budgets? What is not known does not pass."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePath
from typing import get_args

from edgekit.base.errors import InputError, did_you_mean
from edgekit.bundle.load import load_report, open_bundle
from edgekit.schema.base import Document
from edgekit.schema.manifest import RECIPE
from edgekit.schema.recipe import Budget, Metric, Recipe, load_recipe
from edgekit.schema.results import (
    ArtifactResult,
    BudgetResult,
    GateReport,
    RunReport,
    VerifyResult,
)
from edgekit.schema.yamlfile import YamlSource, parse_yaml, read_yaml, validate

_METRICS: tuple[str, ...] = get_args(Metric)
_BUDGET = re.compile(
    r"(?P<metric>\w+)(@(?P<target>[^:<>=]+))?(:(?P<artifact>[^<>=]+))?(?P<sign><=|>=)(?P<limit>.+)"
)
_GRAMMAR = "METRIC[@TARGET][:ARTIFACT]<=NUMBER (or >=), such as latency_ms@host:*int8*<=0.5"

Value = tuple[float | None, str | None]  # a value, or None and why there is none


class Budgets(Document):
    """A file that holds budgets and nothing else."""

    budgets: tuple[Budget, ...]


def gate(report: RunReport, budgets: Sequence[Budget]) -> GateReport:
    """Holds each budget against each artifact that it names.

    `accuracy_drop` is in percentage points against the trained float model. Latency, energy and
    memory are compared by their central value, on the budget's target ("host" is the measurement
    on the machine of the run), or on every device and target of the run if it names none. A
    budget that matches no artifact fails, and so does one whose value is not known.
    """
    results = tuple(result for budget in budgets for result in _judge(report, budget))
    return GateReport(passed=all(result.passed for result in results), results=results)


def gate_path(
    path: Path, *, budgets_file: Path | None = None, budgets: Sequence[str] = ()
) -> GateReport:
    """Gates a run directory, a `run.json` or a bundle.

    Args:
        path: what to judge.
        budgets_file: a recipe, or a YAML file with `budgets:`; by default, where `budgets` is
            empty too, the recipe that the run or the bundle was made from.
        budgets: further budgets in the short form, see `parse_budget`.

    Raises:
        InputError: a file is missing or not valid, or there is no budget at all.
    """
    report = load_report(path)
    wanted = [parse_budget(text) for text in budgets]
    if budgets_file is not None:
        wanted += _read_budgets(budgets_file)
    elif not wanted:
        wanted += _own_budgets(path)
    if not wanted:
        raise InputError(
            "there is no budget to check",
            where=str(path),
            hint="give --budgets FILE or --budget 'accuracy_drop<=1.0'",
        )
    return gate(report, wanted)


def parse_budget(text: str) -> Budget:
    """A budget from its short form `METRIC[@TARGET][:ARTIFACT]<=NUMBER`.

    Example:
        >>> parse_budget("latency_ms@host:*int8*<=0.5").max
        0.5

    Raises:
        InputError: it is not of this form, or there is no such metric.
    """
    where = f"--budget {text}"
    match = _BUDGET.fullmatch(text.replace(" ", ""))
    if match is None:
        raise InputError("is not a budget", where=where, hint=f"write {_GRAMMAR}")
    if match["metric"] not in _METRICS:
        raise InputError(
            f"unknown metric '{match['metric']}'",
            where=where,
            hint=did_you_mean(match["metric"], _METRICS),
        )
    side = "max" if match["sign"] == "<=" else "min"
    fields = {"metric": match["metric"], side: match["limit"], "target": match["target"]}
    fields["artifact"] = match["artifact"] or "*"
    return validate(Budget, YamlSource(where, fields))


def _read_budgets(path: Path) -> tuple[Budget, ...]:
    source = read_yaml(path)
    if isinstance(source.data, dict) and "name" in source.data:
        return load_recipe(path)[0].budgets
    return validate(Budgets, source).budgets


def _own_budgets(path: Path) -> tuple[Budget, ...]:
    if path.is_file() and path.suffix == ".zip":
        bundle = open_bundle(path)
        if RECIPE not in bundle.manifest.members:
            return ()
        text = bundle.read(RECIPE).decode(errors="replace")
        return validate(Recipe, parse_yaml(text, f"{path}:{RECIPE}")).budgets
    lock = (path if path.is_dir() else path.parent) / RECIPE
    return load_recipe(lock)[0].budgets if lock.is_file() else ()


def _judge(report: RunReport, budget: Budget) -> Iterator[BudgetResult]:
    matching = [
        artifact
        for artifact in report.artifacts
        if fnmatchcase(PurePath(artifact.path).name, budget.artifact)
    ]
    if not matching:
        have = ", ".join(PurePath(artifact.path).name for artifact in report.artifacts) or "none"
        reason = f"no artifact matches '{budget.artifact}' (there are: {have})"
        yield _result(budget, budget.artifact, budget.target, (None, reason))
    for artifact in matching:
        name = PurePath(artifact.path).name
        if budget.metric in ("latency_ms", "energy_mj", "peak_memory_bytes"):
            for place, value in _figures(report, artifact, budget):
                yield _result(budget, name, place, value)
        else:
            yield _result(budget, name, None, _value(report, artifact, budget.metric))


def _result(budget: Budget, artifact: str, place: str | None, value: Value) -> BudgetResult:
    number, reason = value
    limit = f"<= {budget.max:g}" if budget.max is not None else f">= {budget.min:g}"
    # A missing value with no reason is an infinite one: no difference from the reference at all.
    if number is None:
        passed = reason is None and budget.min is not None
        reason = reason or "identical to the reference"
    else:
        passed = number <= budget.max if budget.max is not None else number >= (budget.min or 0.0)
    name = f"{budget.metric} on {place}" if place else budget.metric
    return BudgetResult(
        budget=name, artifact=artifact, value=number, limit=limit, passed=passed, reason=reason
    )


def _value(report: RunReport, artifact: ArtifactResult, metric: str) -> Value:
    if metric == "bytes":
        return float(artifact.bytes), None
    if metric in ("accuracy", "accuracy_drop"):
        accuracy = artifact.metrics.get("accuracy")
        reference = report.reference_metrics.get("accuracy")
        if accuracy is None:
            return None, "its accuracy was not measured"
        if metric == "accuracy":
            return accuracy, None
        if reference is None:
            return None, "the accuracy of the float model is not known"
        # Rounded, so that 98.1% - 97.5% is not a hair above 0.6.
        return round(100 * (reference - accuracy), 9), None
    steps = metric == "max_step_diff" and artifact.master_parity is not None
    parity = artifact.master_parity if steps else artifact.parity
    if parity is None:
        return None, "its parity was not checked"
    return _parity_value(parity, metric)


def _parity_value(parity: VerifyResult, metric: str) -> Value:
    value = getattr(parity, metric)
    if value is not None:
        return float(value), None
    if metric == "snr_db" and parity.max_abs_diff == 0:
        return None, None
    return None, {
        "snr_db": "the reference is zero everywhere",
        "top1_agreement": "it is not a classifier",
        "max_step_diff": "its output is not quantized",
    }[metric]


def _figures(
    report: RunReport, artifact: ArtifactResult, budget: Budget
) -> Iterator[tuple[str | None, Value]]:
    name = PurePath(artifact.path).name
    profiles = [one for one in report.profiles if PurePath(one.artifact).name == name]
    if budget.target is not None:
        profiles = [one for one in profiles if one.place == budget.target]
    if not profiles:
        on = f"on '{budget.target}'" if budget.target else "at all"
        yield budget.target, (None, f"it was not profiled {on}")
    for profile in profiles:
        figure = getattr(profile, budget.metric)
        reason = None if figure.value is not None else figure.reason or "not known"
        yield profile.place, (figure.value, reason)
