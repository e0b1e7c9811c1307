"""What the passes share that decide the precision of each layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import Field

from edgekit.base.errors import PreconditionError
from edgekit.compress.contract import Pass, PassContext
from edgekit.compress.output_noise import Noise, points_lost
from edgekit.compress.precision_graph import Assignment, Choice
from edgekit.compress.quantization import Quantize, QuantizeArgs
from edgekit.compress.sensitivity import SAMPLES, measure
from edgekit.compress.simulation import Simulation
from edgekit.data.dataset import Split
from edgekit.schema.base import Document
from edgekit.schema.plan import QuantizationPlan

if TYPE_CHECKING:
    import keras


_PARTLY = "its weights and its result are simulated as quantized, what is between them is not"


class PlanArgs(Document):
    """Arguments of the passes that decide the precision of each layer."""

    samples: int | None = Field(
        None, ge=1, description="of the calibration split, for the ranges; by default all"
    )
    scan_samples: int = Field(
        SAMPLES, ge=1, description="of the validation split, to rank the layers by"
    )
    strict: bool = Field(False, description="a layer that cannot be treated is an error")


A = TypeVar("A", bound=PlanArgs)


class Planner(Pass[A]):
    """A pass that plans a precision for each layer; the model stays as it is."""

    changes_weights = False

    def plans(self) -> QuantizationPlan:
        """The plan, as far as the arguments tell."""
        return QuantizationPlan(precision="mixed", calibration_samples=self.args.samples)

    def requires(self, model: keras.Model, context: PassContext) -> None:
        """Checks as `quantize` does, and that the model brings no ranges."""
        super().requires(model, context)
        self._int8().requires(model, context)
        from edgekit.models.fakequant import fake_quant_layers

        if fake_quant_layers(model):
            raise PreconditionError(
                "the model is quantized already, as 'qat' leaves it",
                hint=f"run '{self.name}' on the float model",
            )

    def simulation(self, model: keras.Model, context: PassContext) -> Simulation:
        """The model in simulation.

        Raises:
            PreconditionError: `strict` is set, and a layer cannot be treated.
        """
        assert context.dataset is not None
        calibration = context.dataset.calibration
        made = Simulation(model, calibration.take(self.args.samples or len(calibration)))
        rows = untreated(made)
        if self.args.strict and rows:
            listed = "; ".join(f"{row['layer']}: {row['reason']}" for row in rows)
            raise PreconditionError(f"layers that cannot be treated: {listed}")
        return made

    def checked_calibration(self, model: keras.Model, context: PassContext) -> dict[str, Any]:
        """`calibration` and `warnings` of the report, as of `quantize`."""
        report = self._int8().apply(model, context).report
        return {name: report[name] for name in ("calibration", "warnings")}

    def plan(self, simulation: Simulation, assignment: Assignment) -> QuantizationPlan:
        """The plan of an assignment; a plain one if all layers have one precision."""
        chosen = {assignment.get(unit.label, "int8") for unit in simulation.units}
        samples = self.args.samples
        if len(chosen) == 1:
            return QuantizationPlan(precision=chosen.pop(), calibration_samples=samples)
        return QuantizationPlan(
            precision="mixed",
            calibration_samples=samples,
            layers={**simulation.precisions.layers(assignment)},
        )

    def _int8(self) -> Quantize:
        return Quantize(QuantizeArgs(precision="int8", samples=self.args.samples))


def untreated(simulation: Simulation) -> list[dict[str, str]]:
    """The layers that keep int8, or are simulated in part only, and why."""
    return [
        {"layer": unit.label, "kind": unit.kind, "reason": unit.fixed or _PARTLY}
        for unit in simulation.units
        if unit.fixed or unit.partly
    ]


class Trial:
    """What assignments lose on labelled samples, each measured once.

    Args:
        simulation: of the model.
        split: labelled samples.

    Raises:
        PreconditionError: they have no labels that fit the first output.
    """

    def __init__(self, simulation: Simulation, split: Split) -> None:
        self._simulation, self._split = simulation, split
        self._found: dict[tuple[tuple[str, Choice], ...], Noise] = {}
        reference = measure(simulation, split, [])[0] if len(split) else None
        if reference is None or reference.metric is None:
            raise PreconditionError(
                "'max_drop' needs a validation split with labels of the first output",
                hint="give labelled data, or another budget",
            )
        self.reference = reference

    @property
    def runs(self) -> int:
        """How many assignments were measured."""
        return len(self._found)

    def noise(self, assignment: Assignment) -> Noise:
        """Of the whole network."""
        key = tuple(sorted((u, c) for u, c in assignment.items() if c != "int8"))
        if key not in self._found:
            self._found[key] = measure(self._simulation, self._split, [assignment])[0]
        return self._found[key]

    def drop(self, assignment: Assignment) -> float:
        """Points of accuracy lost, or per cent by which the mse is larger."""
        return points_lost(self.noise(assignment), self.reference)
