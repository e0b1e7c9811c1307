"""`fallback`: int8 with as few layers in higher precision as keep the accuracy and the outputs.

As the accuracy control of NNCF, on a simulation: layers are ranked by what their quantization
alone does to the outputs, the shortest part of the ranking that is enough is searched by
bisection, and then layers are given back to int8 one by one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from edgekit.base.errors import PostconditionError, PreconditionError
from edgekit.compress.contract import PassContext, PassResult, run_alone
from edgekit.compress.planning import PlanArgs, Planner, Trial, untreated
from edgekit.compress.precision_graph import Choice
from edgekit.compress.sensitivity import Metric, Sensitivity, figures, scan_simulation
from edgekit.data.dataset import Dataset
from edgekit.schema.recipe import DEFAULT_LIMITS

if TYPE_CHECKING:
    import keras


class FallbackArgs(PlanArgs):
    """Arguments of `fallback`."""

    max_drop: float = Field(
        1.0, ge=0, description="points of accuracy; per cent of the mse where there are no classes"
    )
    min_snr_db: float | None = Field(
        DEFAULT_LIMITS["mixed"].min_snr_db,
        description="signal to noise ratio of the outputs, in dB; null: the accuracy alone tells",
    )
    to: Literal["int16x8", "fp32"] = Field(
        "int16x8", description="precision of the layers that are not int8"
    )
    metric: Metric = Field("sqnr", description="that ranks the layers: sqnr, kl or accuracy")


class Fallback(Planner[FallbackArgs]):
    """Plans int8 with the fewest layers in higher precision that keep accuracy and outputs."""

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
        if not self._enough(trial, {}):
            context.tell(f"fallback: int8 {self._words(trial, {})}; {self._allowed()}")
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
            "min_snr_db": self.args.min_snr_db,
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
        """Checks that the simulated plan keeps the accuracy and the outputs."""
        super().ensures(before, result, context)
        least, planned = self.args.min_snr_db, result.report["simulated"]["planned"]
        if result.report["drop"] > self.args.max_drop:
            raise PostconditionError("the plan loses more than was allowed")
        if least is not None and planned["sqnr_db"] < least:
            raise PostconditionError("the plan's outputs are noisier than was allowed")

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
        to = self.args.to
        everything: dict[str, Choice] = dict.fromkeys(ranked, to)
        if not self._enough(trial, everything):
            raise PreconditionError(
                f"every layer in {to} still {self._words(trial, everything)}; {self._allowed()}",
                hint=self._least(trial, everything) + (", or give to=fp32" if to != "fp32" else ""),
            )
        low, high = 0, len(ranked)  # too few, enough
        while high - low > 1:
            middle = (low + high) // 2
            context.progress(f"fallback with {middle} layers in {to}", trial.runs, None)
            enough = self._enough(trial, dict.fromkeys(ranked[:middle], to))
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
            back = self._enough(trial, without)
            raised = without if back else raised
            words = "int8 is enough for it" if back else "it is needed"
            rows.append(
                {
                    "layer": label,
                    "precision": "int8" if back else to,
                    "sqnr_db": losses[label].sqnr_db,
                    "drop_in_int8": trial.drop(without),
                    "why": f"{words}: with it in int8 the plan {self._words(trial, without)}",
                }
            )
        return raised, rows[::-1]

    def _enough(self, trial: Trial, assignment: dict[str, Choice]) -> bool:
        least = self.args.min_snr_db
        kept = least is None or trial.noise(assignment).sqnr_db >= least
        return kept and trial.drop(assignment) <= self.args.max_drop

    def _words(self, trial: Trial, assignment: dict[str, Choice]) -> str:
        """What an assignment loses."""
        snr = trial.noise(assignment).sqnr_db
        return f"loses {trial.drop(assignment):.2f} points, with outputs at {snr:.1f} dB"

    def _allowed(self) -> str:
        least = self.args.min_snr_db
        return f"{self.args.max_drop:g} points are allowed" + (
            "" if least is None else f", and at least {least:g} dB"
        )

    def _least(self, trial: Trial, assignment: dict[str, Choice]) -> str:
        """The limits that an assignment would meet."""
        words, lost, snr = [], trial.drop(assignment), trial.noise(assignment).sqnr_db
        if lost > self.args.max_drop:
            words.append(f"max_drop={_upwards(lost)}")
        if self.args.min_snr_db is not None and snr < self.args.min_snr_db:
            words.append(f"min_snr_db={math.floor(snr * 10) / 10:g}")
        return "allow " + " and ".join(words)


def _upwards(points: float) -> str:
    """Rounded up to hundredths."""
    return f"{int(points * 100 + 1) / 100:.2f}"


def fallback(model: keras.Model, dataset: Dataset | None = None, **options: Any) -> PassResult:
    """Plans int8 for `model`, but for the fewest layers that keep its accuracy and outputs.

    Args:
        model: a functional or Sequential model; it stays as it is.
        dataset: its calibration split sets ranges, its labelled validation split tells accuracy.
        options: the fields of `FallbackArgs`, and those of `PassContext`.

    Returns:
        The given model, with a plan: plain int8 if that is enough.

    Raises:
        InputError: an argument that does not exist or does not fit.
        PreconditionError: data are missing, or `to` for all layers loses more than is allowed.
    """
    return run_alone(Fallback, model, dataset, options)
