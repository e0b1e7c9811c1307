"""What a shrunk model may cost at most, and the cost that tells whether it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from edgekit.base.errors import PreconditionError
from edgekit.compress.contract import PassContext
from edgekit.compress.cost import MEASURES, Cost, CostModel, costs
from edgekit.compress.latency import LatencyModel, predicted, usual_precision
from edgekit.compress.network import Network
from edgekit.schema.base import Document
from edgekit.schema.names import Precision
from edgekit.schema.target import Target

if TYPE_CHECKING:
    import keras

_LATENCY = ("latency_ms", "latency_ratio")


class ShrinkBudget(Document):
    """What the model may cost at most.

    `macs`, `parameters` and `bytes` are a share of what the model costs, if at most 1, else a
    number. Latency is predicted by the target's cost model.
    """

    macs: float | None = Field(None, gt=0, description="multiply-accumulates for one sample")
    parameters: float | None = Field(None, gt=0, description="weights")
    bytes: float | None = Field(None, gt=0, description="of the weights, as Keras stores them")
    latency_ms: float | None = Field(None, gt=0, description="on the target, in milliseconds")
    latency_ratio: float | None = Field(
        None, gt=0, le=1, description="on the target, as a share of what the model takes"
    )
    target: str | None = Field(
        None, description="name or file; for latency; by default the only target of the run"
    )
    precision: Precision | None = Field(
        None, description="of the file on the target; by default the first that it takes"
    )

    @model_validator(mode="after")
    def _one(self) -> ShrinkBudget:
        given = [name for name in (*MEASURES, *_LATENCY) if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"name one of {', '.join((*MEASURES, *_LATENCY))}")
        if given[0] not in _LATENCY and self.model_fields_set & {"target", "precision"}:
            raise ValueError(f"'target' and 'precision' are for latency, not for {given[0]}")
        return self


@dataclass(frozen=True)
class Aim:
    """A budget for one model.

    Attributes:
        name: of the cost, with its unit.
        most: that the model may cost.
        target: whose latency it is, and for which precision; None for other costs.
    """

    name: str
    start: float
    most: float
    target: tuple[Target, Precision] | None

    def model(self, model: keras.Model, network: Network) -> Cost:
        """The cost of a model by the channels that go."""
        if self.target is not None:
            return LatencyModel(model, network, *self.target)
        return CostModel(model, network, next(one for one in MEASURES if one == self.name))

    def cost(self, model: keras.Model) -> float:
        """What a model costs."""
        if self.target is not None:
            return predicted(model, *self.target)
        return costs(model)[next(one for one in MEASURES if one == self.name)]

    def after(self, part: float) -> float:
        """What the model may cost when that part of the way is gone."""
        return self.start + (self.most - self.start) * part


def aim_of(budget: ShrinkBudget, model: keras.Model, context: PassContext) -> Aim:
    """The budget in numbers.

    Raises:
        PreconditionError: no target is named, or it cannot predict the latency of this model.
        TargetError: the target does not exist, or its file cannot be used.
    """
    for measure in MEASURES:
        goal: float | None = getattr(budget, measure)
        if goal is not None:
            start = float(costs(model)[measure])
            return Aim(measure, start, goal * start if goal <= 1 else goal, None)
    target = target_of(budget, context)
    precision = budget.precision or usual_precision(target)
    start = predicted(model, target, precision)
    most = budget.latency_ms or start * (budget.latency_ratio or 1.0)
    return Aim(f"ms on {target.name} in {precision}", start, most, (target, precision))


def target_of(budget: ShrinkBudget, context: PassContext) -> Target:
    """The target whose latency a budget is about; see `aim_of`."""
    from edgekit.profiling.targets import load_target

    if budget.target is not None:
        named = context.root / budget.target
        is_file = budget.target.endswith((".yaml", ".yml"))
        return load_target(str(named) if is_file else budget.target)
    if len(context.targets) != 1:
        raise PreconditionError(
            f"a budget of latency needs one target, not {len(context.targets)}",
            hint="budget: {latency_ratio: 0.5, target: raspberry-pi-4}",
        )
    return context.targets[0]


def says(amount: float) -> str:
    """A cost for people: whole, or with three digits if it is small."""
    return f"{amount:,.0f}" if amount >= 1000 else f"{amount:.3g}"


def prediction(
    before: keras.Model, after: keras.Model, target: Target, precision: Precision
) -> dict[str, Any]:
    """The predicted latency of two models for a report, with the stated error of the target."""
    from edgekit.models.graph import model_graph
    from edgekit.profiling.dense_scales import refusing_dense_scales
    from edgekit.profiling.profile import profile_graph

    simple = bool(refusing_dense_scales([target]))

    def figure(model: keras.Model) -> dict[str, Any]:
        graph = model_graph(model, precision=precision, dense_one_scale=simple)
        latency = profile_graph(graph, target, model.name).latency_ms
        return latency.model_dump(exclude_none=True)

    charged = target.precisions.get(precision)
    error = (target.error or {}).get(charged) if charged else None
    return {
        "target": target.name,
        "precision": precision,
        "origin": "predicted",
        "before": figure(before),
        "after": figure(after),
        "error": None if error is None else error.model_dump(),
    }
