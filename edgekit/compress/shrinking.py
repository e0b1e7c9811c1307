"""`shrink`: structured pruning, which removes whole channels and leaves a plain smaller model."""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from edgekit.base.errors import PostconditionError, PreconditionError
from edgekit.compress.budget import Aim, ShrinkBudget, aim_of, prediction, says
from edgekit.compress.constraints import constraints_of
from edgekit.compress.contract import (
    Pass,
    PassContext,
    PassResult,
    check_layer_names,
    copy_of,
    run_alone,
)
from edgekit.compress.cost import costs
from edgekit.compress.distillation import distiller
from edgekit.compress.finetuning import (
    LayerShares,
    TuneArgs,
    check_data,
    check_patterns,
    check_strict,
    epochs_of,
    gzip_bytes,
    matches,
    tune,
    untreated_rows,
)
from edgekit.compress.importance import NEED_DATA, Criterion, importance
from edgekit.compress.latency import usual_precision
from edgekit.compress.network import Group, Network, trace
from edgekit.compress.removal import Removal, Room, by_cost, by_count, by_share, order_removals
from edgekit.compress.surgery import remove_channels
from edgekit.data.dataset import Dataset
from edgekit.schema.recipe import ScheduleSpec

if TYPE_CHECKING:
    import keras

    from edgekit.compress.coupling import Ids

Share = float
_ROUNDING = 1e-9  # of costs that are no whole numbers
_LAST_RATE = 0.02
# Heads are no channels that a kernel would pad; within them, int8 kernels take four at a time.
_MULTIPLES = {"heads": 1, "key_dim": 4, "value_dim": 4}


class ShrinkArgs(TuneArgs):
    """Arguments of `shrink`."""

    learning_rate: float | None = Field(
        None, gt=0, description="of fine-tuning; by default half of the training's"
    )
    ratio: Share | None = Field(
        None, ge=0, lt=1, description="share of channels to remove; by default 0.5, or a budget"
    )
    budget: ShrinkBudget | None = Field(None, description="removes until the model is in it")
    scope: Literal["layer", "model"] = Field(
        "layer", description="layer: each loses the same share; model: the least important go"
    )
    criterion: Criterion = Field("l2", description="of the importance of a channel")
    layers: LayerShares = Field(
        default_factory=dict,
        description="share to remove by layer name, at most; * and ? match",
    )
    round_to: int | None = Field(
        None, ge=1, description="channels stay in multiples of it; by default what targets like"
    )
    min_channels: int = Field(1, ge=1, description="of each layer")
    max_ratio: Share = Field(0.9, ge=0, lt=1, description="share of one layer that goes at most")
    steps: int = Field(1, ge=1, description="of removal; the epochs are spread over them")
    distill: float = Field(
        0.0, ge=0, le=1, description="weight of the whole model's outputs beside the labels"
    )
    temperature: float = Field(1.0, gt=0, description="of distill; softens both models' outputs")
    schedule: Literal["constant", "cosine"] = Field(
        "cosine", description="of the learning rate, over the epochs of each step"
    )

    def rate_share(self) -> float:
        """What was removed is learnt anew by the rest."""
        return 0.5

    @model_validator(mode="after")
    def _one_aim(self) -> ShrinkArgs:
        if self.ratio is not None and self.budget is not None:
            raise ValueError("'ratio' and 'budget' exclude each other")
        return self


class Shrink(Pass[ShrinkArgs]):
    """Removes channels, heads and units with all that depends on them (Fang et al. 2023).

    Before fine-tuning, the result computes exactly what the model computes if no layer listens to
    the channels that went.
    """

    name = "shrink"
    Args = ShrinkArgs

    def requires(self, model: keras.Model, context: PassContext) -> None:
        """Checks that named layers exist, and that there is data where it is needed."""
        super().requires(model, context)
        network = trace(model)
        names = {wired.label for wired, *_ in network.made()}
        check_patterns((*self.args.layers, *self.args.skip), names)
        check_strict(self.args, network.untreated, "shrunk")
        check_data(self.args, context, "shrink without fine-tuning")
        if self.args.distill and len(model.outputs) > 1:
            raise PreconditionError(
                f"the model has {len(model.outputs)} outputs, and labels are for one",
                hint="leave out 'distill', or use the pass 'distill' afterwards",
            )
        if self.args.criterion in NEED_DATA and not _has_samples(context.dataset):
            raise PreconditionError(
                f"the criterion '{self.args.criterion}' needs training samples with labels",
                hint="give labelled data, or criterion: l2",
            )

    def apply(self, model: keras.Model, context: PassContext) -> PassResult:
        """Removes and fine-tunes, step by step."""
        network = trace(model)
        aim = None if self.args.budget is None else aim_of(self.args.budget, model, context)
        multiple = self._multiple(context, aim)
        original = {group.makers: len(group.roots) for group in network.groups()}
        history: dict[str, list[float]] = {}
        small = model
        for step in range(1, self.args.steps + 1):
            found = network if small is model else trace(small)
            gone = self._chosen(small, found, original, step, aim, multiple, context)
            if len(gone):
                small = remove_channels(small, found, gone)
            if small is not model:
                for key, values in self._tuned(small, model, step, context).items():
                    history.setdefault(key, []).extend(values)
        report = self._report(model, small, network, multiple)
        predictions = self._predictions(model, small, aim, context)
        report = {**report, "predicted_latency": predictions, "history": history}
        return PassResult(small, small is not model, report)

    def ensures(self, before: keras.Model, result: PassResult, context: PassContext) -> None:
        """Checks that layers keep their names, and that the budget is met."""
        super().ensures(before, result, context)
        check_layer_names(before, result.model)
        if self.args.budget is not None:
            aim = aim_of(self.args.budget, before, context)
            now = aim.cost(result.model)
            if now > aim.most * (1 + _ROUNDING):
                raise PostconditionError(f"{says(now)} {aim.name} are more than {says(aim.most)}")

    def _multiple(self, context: PassContext, aim: Aim | None) -> int:
        targets = [*context.targets, *(aim.target[:1] if aim and aim.target else ())]
        liked = [target.channel_multiple for target in targets]
        return self.args.round_to or max(liked, default=1)

    def _chosen(
        self,
        model: keras.Model,
        network: Network,
        original: dict[Any, int],
        step: int,
        aim: Aim | None,
        multiple: int,
        context: PassContext,
    ) -> Ids:
        """What goes in this step."""
        args = self.args
        groups = [
            group
            for group in network.groups()
            if not any(args.skips(label) for label, _ in group.makers)
        ]
        rooms = [self._room(group, original[group.makers], multiple) for group in groups]
        data = context.dataset
        samples = data.train if data is not None and _has_samples(data) else None
        scores = importance(args.criterion, model, network, samples, context.train.loss)
        removals = order_removals(groups, rooms, scores, by_importance=args.scope == "model")
        part = step / args.steps
        if aim is not None:
            return _within(model, network, removals, aim, aim.after(part))
        if args.scope == "model":
            ratio = 0.5 if args.ratio is None else args.ratio
            gone = sum(original.values()) - sum(len(group.roots) for group in network.groups())
            return by_count(removals, round(ratio * part * sum(original.values())) - gone)
        return by_share(removals, part)

    def _room(self, group: Group, original: int, multiple: int) -> Room:
        args = self.args
        plain = args.scope == "layer" and args.budget is None
        default = (0.5 if args.ratio is None else args.ratio) if plain else args.max_ratio
        named = [
            share
            for label, _ in group.makers
            for pattern, share in args.layers.items()
            if matches(label, (pattern,))
        ]
        for _, name in group.makers:
            multiple = gcd(multiple, _MULTIPLES.get(name, multiple))
        share = min(named, default=min(default, args.max_ratio))
        return Room(original, share, multiple, args.min_channels)

    def _tuned(
        self, small: keras.Model, model: keras.Model, step: int, context: PassContext
    ) -> dict[str, list[float]]:
        """Fine-tunes for the epochs of one step, and keeps what the passes before gave."""
        epochs, steps = epochs_of(self.args, context), self.args.steps
        now = epochs * step // steps - epochs * (step - 1) // steps
        if not now or context.dataset is None:
            return {}
        args = self.args.model_copy(update={"epochs": now})
        learner = small
        if self.args.distill:
            whole = copy_of(model)  # Keras freezes a teacher for good
            learner = distiller(
                whole,
                whole,
                small,
                alpha=self.args.distill,
                temperature=self.args.temperature,
                classes=context.dataset.train.y.dtype.kind in "iu",
            )
        schedule = ScheduleSpec(name=self.args.schedule, final_fraction=_LAST_RATE)
        return tune(learner, args, context, [constraints_of(small).callback()], schedule=schedule)

    def _predictions(
        self, model: keras.Model, small: keras.Model, aim: Aim | None, context: PassContext
    ) -> list[dict[str, Any]]:
        """The latency on the budget's target, and on all that the model is made for."""
        pairs = {target.name: (target, usual_precision(target)) for target in context.targets}
        if aim is not None and aim.target is not None:
            pairs[aim.target[0].name] = aim.target
        return [prediction(model, small, *pair) for pair in pairs.values()]

    def _report(
        self,
        model: keras.Model,
        small: keras.Model,
        network: Network,
        multiple: int,
    ) -> dict[str, Any]:
        now = _channels(trace(small))
        layers = [
            {
                "layer": wired.label,
                "kind": wired.kind,
                "of": name,
                "before": len(ids),
                "after": now[wired.label, name],
            }
            for wired, name, ids in network.made()
        ]
        warnings = []
        if small is model:
            warnings.append(f"no channels could go in multiples of {multiple}")
        return {
            "layers": layers,
            "untreated": untreated_rows(
                self.args, network.untreated, [wired.label for wired, *_ in network.made()]
            ),
            "round_to": multiple,
            "costs_before": costs(model),
            "costs": costs(small),
            "gzip_bytes_before": gzip_bytes(model),
            "gzip_bytes": gzip_bytes(small),
            "warnings": warnings,
        }


def _within(
    model: keras.Model, network: Network, removals: list[Removal], aim: Aim, goal: float
) -> Ids:
    """The fewest removals that bring the model to a goal on the way to its budget."""
    cost = aim.model(model, network)
    gone = by_cost(removals, cost, goal)
    if gone is None:
        everything = np.concatenate([np.empty(0, np.int64), *(one.roots for one in removals)])
        raise PreconditionError(
            f"the budget of {says(goal)} {aim.name} cannot be met: with all channels removed that "
            f"may go, {says(cost.without(everything))} of {says(cost.total)} stay",
            hint="a larger budget, a larger max_ratio, a smaller round_to, or less under 'skip'",
        )
    return gone


def _channels(network: Network) -> dict[tuple[str, str], int]:
    return {(wired.label, name): len(ids) for wired, name, ids in network.made()}


def _has_samples(dataset: Dataset | None) -> bool:
    return dataset is not None and len(dataset.train) > 0


def shrink(model: keras.Model, dataset: Dataset | None = None, **options: Any) -> PassResult:
    """Removes channels from a copy of `model`; without a dataset, without fine-tuning.

    Args:
        model: a functional or Sequential model.
        dataset: to fine-tune on, and for the criteria that need data.
        options: the fields of `ShrinkArgs`, and those of `PassContext` such as `targets`.

    Raises:
        InputError: an argument that does not exist or does not fit.
        PreconditionError: the model or the data do not allow what is asked.
    """
    return run_alone(Shrink, model, dataset, options)
