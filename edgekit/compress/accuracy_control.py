"""`fallback`: int8 with as few layers in higher precision as keep the accuracy.

As the accuracy control of NNCF, on a simulation: layers are ranked by what their quantization
alone does to the outputs, the shortest part of the ranking that is enough is searched by
bisection, and then layers are given back to int8 one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from edgekit.base.errors import PostconditionError, PreconditionError
from edgekit.compress.contract import PassContext, PassResult, run_alone
from edgekit.compress.planning import PlanArgs, Planner, Trial, untreated
from edgekit.compress.precision_graph import Choice
from edgekit.compress.sensitivity import Metric, Sensitivity, figures, scan_simulation
from edgekit.data.dataset import Dataset

if TYPE_CHECKING:
    import keras


class FallbackArgs(PlanArgs):
    """Arguments of `fallback`."""

    max_drop: float = Field(
        1.0, ge=0, description="points of accuracy; per cent of the mse where there are no classes"
    )
    to: Literal["int16x8", "fp32"] = Field(
        "int16x8", description="precision of the layers that are not int8"
    )
    metric: Metric = Field("sqnr", description="that ranks the layers: sqnr, kl or accuracy")


class Fallback(Planner[FallbackArgs]):
    """Plans int8 with the fewest layers in higher precision that keep the accuracy."""

    name = "fallback"
    Args = FallbackArgs

    def apply(self, model: keras.Model, context: PassContext) -> PassResult:
        """Simulates int8; if it loses too much, ranks, bisects and gives back."""
        assert context.dataset is not None
        checked = self.checked_calibration(model, context)
        simulation = self.simulation(model, context)
        trial = Trial(simulation, context.dataset.validation)
        lost = trial.drop({})
        raised: dict[str, Choice] = {}
        rows: list[dict[str, Any]] = []
        if lost > self.args.max_drop:
            context.tell(
                f"fallback: int8 loses {lost:.2f} points, {self.args.max_drop:g} are allowed"
            )
            found = scan_simulation(
                simulation,
                context.dataset.validation,
                candidates=("int8",),
                samples=self.args.scan_samples,
                progress=context.progress,
            )
            raised, rows = self._search(trial, self._ranked(found), found, context)
        reference = trial.reference
        report = {
            "max_drop": self.args.max_drop,
            "to": self.args.to,
            "metric": self.args.metric,
            "drop_int8": lost,
            "drop": trial.drop(raised),
            "simulated": {
                "float": reference.metric,
                "int8": figures(trial.noise({}), reference),
                "planned": figures(trial.noise(raised), reference),
            },
            "layers": rows,
            "trials": trial.runs,
            "untreated": untreated(simulation),
            **checked,
        }
        for row in rows:
            context.tell(f"fallback: {row['layer']} in {row['precision']}: {row['why']}")
        return PassResult(model, False, report, self.plan(simulation, raised))

    def ensures(self, before: keras.Model, result: PassResult, context: PassContext) -> None:
        """Checks that the simulated plan keeps the accuracy."""
        super().ensures(before, result, context)
        if result.report["drop"] > self.args.max_drop:
            raise PostconditionError("the plan loses more than was allowed")

    def _ranked(self, found: Sensitivity) -> list[str]:
        loss = {
            unit.label: found.loss(index, "int8", self.args.metric)
            for index, unit in enumerate(found.units)
            if not unit.fixed
        }
        return sorted(loss, key=lambda label: -loss[label])

    def _search(
        self, trial: Trial, ranked: Sequence[str], found: Sensitivity, context: PassContext
    ) -> tuple[dict[str, Choice], list[dict[str, Any]]]:
        """The layers that must not be int8, and a row for each that was tried."""
        limit, to = self.args.max_drop, self.args.to
        everything: dict[str, Choice] = dict.fromkeys(ranked, to)
        least = trial.drop(everything)
        if least > limit:
            raise PreconditionError(
                f"with every layer in {to} still {least:.2f} points are lost, "
                f"{limit:g} are allowed",
                hint=f"allow max_drop={_upwards(least)}"
                + (", or give to=fp32" if to != "fp32" else ""),
            )
        low, high = 0, len(ranked)  # too few, enough
        while high - low > 1:
            middle = (low + high) // 2
            context.progress(f"fallback with {middle} layers in {to}", trial.runs, None)
            enough = trial.drop(dict.fromkeys(ranked[:middle], to)) <= limit
            low, high = (low, middle) if enough else (middle, high)
        raised: dict[str, Choice] = dict.fromkeys(ranked[:high], to)
        losses = {
            unit.label: noises["int8"]
            for unit, noises in zip(found.units, found.noises, strict=True)
        }
        rows = []
        for label in reversed(ranked[:high]):
            context.progress(f"fallback: giving back {label}", trial.runs, None)
            without = {name: choice for name, choice in raised.items() if name != label}
            drop = trial.drop(without)
            back = drop <= limit
            raised = without if back else raised
            words = "int8 is enough for it" if back else "it is needed"
            rows.append(
                {
                    "layer": label,
                    "precision": "int8" if back else to,
                    "sqnr_db": losses[label].sqnr_db,
                    "drop_in_int8": drop,
                    "why": f"{words}: with it in int8 {drop:.2f} points are lost",
                }
            )
        return raised, rows[::-1]


def _upwards(points: float) -> str:
    """Rounded up to hundredths."""
    return f"{int(points * 100 + 1) / 100:.2f}"


def fallback(model: keras.Model, dataset: Dataset | None = None, **options: Any) -> PassResult:
    """Plans int8 for `model`, but for the fewest layers that keep its accuracy.

    Args:
        model: a functional or Sequential model; it stays as it is.
        dataset: its calibration split sets ranges, its labelled validation split tells accuracy.
        options: the fields of `FallbackArgs`, and those of `PassContext`.

    Returns:
        The given model, with a plan: plain int8 if that is enough.

    Raises:
        InputError: an argument that does not exist or does not fit.
        PreconditionError: data are missing, or `to` for all layers loses more than `max_drop`.
    """
    return run_alone(Fallback, model, dataset, options)
