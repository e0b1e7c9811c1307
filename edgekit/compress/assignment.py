"""`mixed_precision`: the precision of each layer that costs least accuracy within a budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from pydantic import Field, model_validator

from edgekit.base.errors import PreconditionError
from edgekit.compress.contract import PassContext, PassResult, run_alone
from edgekit.compress.integer_program import Table, choose
from edgekit.compress.layer_costs import Costs, latencies, latency, moved_bytes, weight_bytes
from edgekit.compress.planning import PlanArgs, Planner, Trial, untreated
from edgekit.compress.precision_graph import CHOICES, Choice
from edgekit.compress.sensitivity import Metric, Sensitivity, figures, measure, scan_simulation
from edgekit.compress.simulation import Simulation
from edgekit.data.dataset import Dataset, Split
from edgekit.profiling.targets import load_target
from edgekit.schema.target import Target

if TYPE_CHECKING:
    import keras

_BUDGETS = ("max_bytes", "size_ratio", "max_latency_ms", "max_drop")
# A layer is worth a higher precision if it wins back more than this share of all that is lost.
_WORTH = 1e-3
_HALVINGS = 12
_FP32_BYTES = 4


class MixedPrecisionArgs(PlanArgs):
    """Arguments of `mixed_precision`."""

    candidates: tuple[Choice, ...] = Field(CHOICES, min_length=2)
    metric: Metric = Field("sqnr", description="what is lost of: sqnr, kl or accuracy")
    max_bytes: int | None = Field(None, gt=0, description="of all weights")
    size_ratio: float | None = Field(
        None, gt=0, le=1, description="of the weights to those of the fp32 model"
    )
    max_latency_ms: float | None = Field(None, gt=0, description="on `target`, as estimated")
    max_drop: float | None = Field(
        None, ge=0, description="points of accuracy; per cent of the mse where there are no classes"
    )
    target: str | None = Field(
        None, description="name or file; by default the first one that the model is made for"
    )

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        given = [name for name in _BUDGETS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of {', '.join(_BUDGETS)}")
        if len(set(self.candidates)) != len(self.candidates):
            raise ValueError("candidates: each precision once")
        return self


@dataclass(frozen=True)
class _Problem:
    """Tables of shape (units, candidates)."""

    units: tuple[str, ...]
    candidates: tuple[Choice, ...]
    loss: Table
    costs: Costs

    def within(self, budget: float) -> dict[str, Choice] | None:
        """The least loss at no more than this cost."""
        # Each step up in precision has its price, so that idle ones are not taken.
        price = max(_WORTH * self._worst() / max(len(self.units), 1), np.finfo(float).tiny)
        ranks = np.array([CHOICES.index(choice) for choice in self.candidates], np.float64)
        picked = choose(self.loss + price * ranks, self.costs.table, budget - self.costs.rest)
        return None if picked is None else self._named(picked)

    def cheapest(self, bound: float) -> dict[str, Choice] | None:
        """The least cost at no more than this loss."""
        picked = choose(self.costs.table, self.loss, bound)
        return None if picked is None else self._named(picked)

    def cost(self, assignment: dict[str, Choice]) -> float:
        """Of the network in these precisions."""
        columns = [self.candidates.index(assignment[unit]) for unit in self.units]
        return float(self.costs.table[np.arange(len(columns)), columns].sum()) + self.costs.rest

    def uniform_costs(self, fixed: float) -> dict[str, float]:
        """The cost with all layers in one precision, for each that they all can have."""
        totals = self.costs.table.sum(axis=0) + self.costs.rest + fixed
        named = zip(self.candidates, totals, strict=True)
        return {choice: float(total) for choice, total in named if np.isfinite(total)}

    def least(self) -> float:
        """The least cost that there is."""
        return float(self.costs.table.min(axis=1).sum()) + self.costs.rest

    def _worst(self) -> float:
        return float(self.loss.max(axis=1).sum())

    def bounds(self) -> tuple[float, float]:
        """The least and the largest sum of losses."""
        return float(self.loss.min(axis=1).sum()), self._worst()

    def _named(self, picked: list[int]) -> dict[str, Choice]:
        return {
            unit: self.candidates[column] for unit, column in zip(self.units, picked, strict=True)
        }


class MixedPrecision(Planner[MixedPrecisionArgs]):
    """Plans a precision for each layer, by an integer program over simulated sensitivities."""

    name = "mixed_precision"
    Args = MixedPrecisionArgs

    def apply(self, model: keras.Model, context: PassContext) -> PassResult:
        """Scans, assigns, and simulates what was assigned."""
        assert context.dataset is not None
        args = self.args
        checked = self.checked_calibration(model, context)
        simulation = self.simulation(model, context)
        split = _samples(context.dataset)
        trial = Trial(simulation, split) if args.max_drop is not None else None
        target = self._target(context)
        found = scan_simulation(
            simulation,
            split,
            candidates=args.candidates,
            samples=args.scan_samples,
            progress=context.progress,
        )
        problem, fixed = self._problem(model, simulation, found, target)
        for line in problem.costs.warnings:
            context.tell(f"mixed_precision: {line}")
        if trial is not None:
            chosen = self._keeping(problem, trial, context)
        elif args.max_latency_ms is not None and target is not None:
            chosen = self._fast(problem, model, simulation, target, fixed)
        else:
            chosen = self._within(problem, self._budget(simulation), fixed)
        plan = self.plan(simulation, chosen)
        int8, planned, exact = measure(simulation, split, [{}, chosen])
        report: dict[str, Any] = {
            "budget": {
                name: getattr(args, name) for name in _BUDGETS if getattr(args, name) is not None
            },
            "metric": args.metric,
            "plan": plan.precision,
            "layers": _rows(problem, found, chosen),
            "cost": {
                "unit": problem.costs.unit,
                "planned": problem.cost(chosen) + fixed,
                **problem.uniform_costs(fixed),
            },
            "simulated": {
                "float": exact.metric,
                "int8": figures(int8, exact),
                "planned": figures(planned, exact),
            },
            "untreated": untreated(simulation),
            **checked,
        }
        report["warnings"] = [*checked["warnings"], *problem.costs.warnings]
        return PassResult(model, False, report, plan)

    def _target(self, context: PassContext) -> Target | None:
        if self.args.target is not None:
            return load_target(self.args.target)
        if self.args.max_latency_ms is None:
            return None
        if not context.targets:
            raise PreconditionError(
                "'max_latency_ms' needs a target", hint="give target, a name or a file"
            )
        return context.targets[0]

    def _problem(
        self,
        model: keras.Model,
        simulation: Simulation,
        found: Sensitivity,
        target: Target | None,
    ) -> tuple[_Problem, float]:
        """The tables of the layers that can be chosen for, and the cost of those that cannot."""
        candidates = self.args.candidates
        units = simulation.units
        if target is not None:
            costs = latencies(model, units, candidates, target)
        elif self.args.max_drop is not None:
            costs = moved_bytes(units, candidates)
        else:
            costs = weight_bytes(units, candidates)
        free = [index for index, unit in enumerate(units) if not unit.fixed]
        held = [index for index, unit in enumerate(units) if unit.fixed]
        stays = candidates.index("int8") if "int8" in candidates else 0
        fixed = float(costs.table[held, stays].sum()) if held else 0.0
        loss = np.array(
            [[found.loss(i, choice, self.args.metric) for choice in candidates] for i in free],
            np.float64,
        ).reshape(len(free), len(candidates))
        kept = Costs(costs.unit, costs.table[free], costs.rest, costs.warnings)
        names = tuple(units[index].label for index in free)
        return _Problem(names, candidates, loss, kept), fixed

    def _budget(self, simulation: Simulation) -> float:
        if self.args.max_bytes is not None:
            return float(self.args.max_bytes)
        whole = sum(unit.matrices + unit.vectors for unit in simulation.units) * _FP32_BYTES
        return float(self.args.size_ratio or 1.0) * whole

    def _within(self, problem: _Problem, budget: float, fixed: float) -> dict[str, Choice]:
        chosen = problem.within(budget - fixed)
        if chosen is None:
            least = problem.least() + fixed
            unit = problem.costs.unit
            raise PreconditionError(
                f"the least that {', '.join(problem.candidates)} can cost is {least:.6g} {unit}, "
                f"more than the budget of {budget:.6g} {unit}",
                hint=f"the nearest budget that can be met is {_rounded_up(least, unit)} {unit}",
            )
        return chosen

    def _fast(
        self,
        problem: _Problem,
        model: keras.Model,
        simulation: Simulation,
        target: Target,
        fixed: float,
    ) -> dict[str, Choice]:
        """Within the latency, changes of precision between layers included."""
        wanted = float(self.args.max_latency_ms or 0.0)
        chosen: dict[str, Choice] | None = self._within(problem, wanted, fixed)
        fastest, budget = np.inf, wanted
        for _ in range(_HALVINGS):
            if chosen is None:
                break
            whole = latency(model, simulation.precisions.layers(chosen), target)
            if whole is None or whole <= wanted:
                return chosen
            fastest = min(fastest, whole)
            budget = min(budget - (whole - wanted), (problem.cost(chosen) + fixed) * (1 - 1e-9))
            chosen = problem.within(budget - fixed)
        raise PreconditionError(
            f"with what changes of precision between layers cost, no assignment was found that "
            f"keeps to {wanted:g} ms on {target.name}",
            hint=f"the nearest budget that was met is {_rounded_up(fastest, 'ms')} ms",
        )

    def _keeping(self, problem: _Problem, trial: Trial, context: PassContext) -> dict[str, Choice]:
        """The cheapest assignment that the whole simulated network keeps the accuracy with."""
        limit = float(self.args.max_drop or 0.0)
        low, high = problem.bounds()

        def attempt(bound: float) -> tuple[dict[str, Choice], bool]:
            context.progress("mixed_precision: trying an assignment", trial.runs, None)
            chosen = problem.cheapest(bound) or {}
            return chosen, trial.drop(chosen) <= limit

        best, kept = attempt(high * (1 + 1e-9))
        if kept:
            return best
        best, kept = attempt(low * (1 + 1e-9))
        if not kept:
            least = trial.drop(best)
            raise PreconditionError(
                f"even the finest precisions of {', '.join(problem.candidates)} lose "
                f"{least:.2f} points, {limit:g} are allowed",
                hint=f"the nearest budget that can be met is max_drop={_rounded_up(least, '')}",
            )
        for _ in range(_HALVINGS):
            # Losses span decades: halve between their logarithms, once they are above nothing.
            middle = np.sqrt(max(low, high * 1e-6) * high)
            chosen, kept = attempt(float(middle))
            if kept:
                low = float(middle)
                best = chosen if problem.cost(chosen) <= problem.cost(best) else best
            else:
                high = float(middle)
        return best


def _samples(dataset: Dataset) -> Split:
    return dataset.validation if len(dataset.validation) else dataset.calibration


def _rounded_up(value: float, unit: str) -> str:
    return str(int(np.ceil(value))) if unit == "bytes" else f"{np.ceil(value * 1e3) / 1e3:g}"


def _rows(problem: _Problem, found: Sensitivity, chosen: dict[str, Choice]) -> list[dict[str, Any]]:
    """A row a layer, in the order in which they run."""
    index = {unit.label: number for number, unit in enumerate(found.units)}
    rows = []
    for row, label in enumerate(problem.units):
        unit, noises = found.units[index[label]], found.noises[index[label]]
        costs = zip(problem.candidates, problem.costs.table[row], strict=True)
        rows.append(
            {
                "layer": label,
                "kind": unit.kind,
                "precision": chosen[label],
                "sensitivity": {c: figures(n, found.reference) for c, n in noises.items()},
                "cost": {choice: float(cost) for choice, cost in costs if np.isfinite(cost)},
            }
        )
    return rows


def mixed_precision(
    model: keras.Model, dataset: Dataset | None = None, **options: Any
) -> PassResult:
    """Plans the precision of each layer of `model`, within one budget.

    Args:
        model: a functional or Sequential model; it stays as it is.
        dataset: its calibration split sets ranges, its validation split tells what is lost.
        options: the fields of `MixedPrecisionArgs`, and those of `PassContext`.

    Returns:
        The given model, with a plan; a plain one if all layers have the same precision.

    Raises:
        InputError: an argument that does not exist or does not fit.
        PreconditionError: data are missing, or the budget cannot be met: the nearest that can is
            in the hint.
    """
    return run_alone(MixedPrecision, model, dataset, options)
