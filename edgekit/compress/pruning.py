"""`prune`: magnitude pruning with the schedule of Zhu and Gupta 2017 and fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, field_validator, model_validator

from edgekit.base.errors import PostconditionError, PreconditionError
from edgekit.base.extras import require
from edgekit.compress.constraints import Constraint, Constraints, constraints_of, groups_of
from edgekit.compress.contract import (
    Pass,
    PassContext,
    PassResult,
    check_layer_names,
    copy_of,
    run_alone,
)
from edgekit.compress.distributions import LEVELS, Distribution, erdos_renyi, least_error, scan
from edgekit.compress.finetuning import (
    LayerShares,
    TuneArgs,
    check_data,
    check_patterns,
    check_strict,
    epochs_of,
    gzip_bytes,
    tune,
    untreated_rows,
)
from edgekit.compress.kernels import Kernel, Untreated, find_kernels
from edgekit.compress.masks import GROUPS, Masks, Pattern, holds, pattern_reason, zeros_asked
from edgekit.compress.schedule import PolynomialSchedule
from edgekit.data.dataset import Dataset
from edgekit.schema.target import Target

if TYPE_CHECKING:
    import keras

Share = float


class PruneArgs(TuneArgs):
    """Arguments of `prune`."""

    sparsity: Share = Field(0.5, ge=0, lt=1, description="share of zeros in each kernel")
    pattern: Pattern = Field(
        "unstructured",
        description="of the zeros; 2:4, 1:4: at most so many weights of four in a row along the "
        "inputs are left; block_1x4: four in a row along the output channels go together, as the "
        "sparse kernels of XNNPACK take them",
    )
    distribution: Distribution = Field(
        "uniform",
        description="how the zeros are spread over the kernels; erdos_renyi: large kernels have "
        "more; sensitivity: where a scan on validation data finds the least error",
    )
    layers: LayerShares = Field(
        default_factory=dict,
        description="share of zeros by layer name, instead of the distribution's; * and ? match",
    )
    initial_sparsity: Share = Field(0.0, ge=0, lt=1, description="where the schedule starts")
    begin: Share = Field(0.0, ge=0, lt=1, description="share of the steps before the first removal")
    end: Share = Field(0.5, gt=0, le=1, description="share of the steps before the last removal")
    frequency: int | None = Field(None, ge=1, description="steps between two removals")
    exponent: float = Field(3.0, gt=0, description="of the schedule; 3 in the paper")

    @field_validator("end")
    @classmethod
    def _after_begin(cls, value: Share, info: Any) -> Share:
        if value <= info.data.get("begin", 0.0):
            raise ValueError("must be greater than 'begin'")
        return value

    @model_validator(mode="before")
    @classmethod
    def _pattern_tells(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("pattern") not in GROUPS:
            return values
        n, m = GROUPS[values["pattern"]]
        for name in ("layers", "distribution"):
            if values.get(name) not in (None, {}, "uniform"):
                raise ValueError(f"'{name}' does not go with the pattern {n}:{m}")
        if values.get("sparsity", 1 - n / m) != 1 - n / m:
            raise ValueError(f"'sparsity' is {1 - n / m} with the pattern {n}:{m}; leave it out")
        return {**values, "sparsity": 1 - n / m}


class Prune(Pass[PruneArgs]):
    """Sets the smallest weights of each kernel to zero; biases and normalization stay."""

    name = "prune"
    Args = PruneArgs

    def requires(self, model: keras.Model, context: PassContext) -> None:
        """Checks that named layers exist and that there is data if fine-tuning is asked for."""
        super().requires(model, context)
        _, untreated = self._chosen(model)
        names = {one.layer for one in find_kernels(model)[0]} | {one.layer for one in untreated}
        check_patterns((*self.args.layers, *self.args.skip), names)
        check_strict(self.args, untreated, "pruned")
        check_data(self.args, context, "prune in one shot")
        if self.args.distribution == "sensitivity" and (
            context.dataset is None or not len(context.dataset.validation)
        ):
            raise PreconditionError("a sensitivity scan needs validation samples")

    def apply(self, model: keras.Model, context: PassContext) -> PassResult:
        """Prunes a copy of the model."""
        effects, warnings = zeros_statement(context.targets)
        for line in (*(f"prune: {effect['text']}" for effect in effects), *warnings):
            context.tell(line)
        copy = copy_of(model)
        kernels, untreated = self._chosen(copy)
        final, scanned = self._final(copy, kernels, context)
        before = [kernel.values for kernel in kernels]
        history = self._prune(copy, kernels, final, context)
        modified = any(
            not np.array_equal(old, kernel.values)
            for old, kernel in zip(before, kernels, strict=True)
        )
        report = {
            **self._report(copy, kernels, untreated, final),
            **scanned,
            "gzip_bytes_before": gzip_bytes(model),
            "gzip_bytes": gzip_bytes(copy),
            "history": history,
            "targets": effects,
            "warnings": warnings,
        }
        return PassResult(copy if modified else model, modified, report)

    def ensures(self, before: keras.Model, result: PassResult, context: PassContext) -> None:
        """Checks that kernels have the zeros and the pattern asked for, and what they had."""
        super().ensures(before, result, context)
        check_layer_names(before, result.model)
        constraints_of(before).check(result.model)
        kernels, _ = self._chosen(result.model)
        for kernel, row in zip(kernels, result.report["layers"], strict=True):
            zeros = kernel.size - np.count_nonzero(kernel.values)
            grouped = self.args.pattern in GROUPS
            if not grouped and zeros < zeros_asked(kernel.size, row["asked"]):
                raise PostconditionError(
                    f"{zeros} of {kernel.size} weights are zero, {row['asked']:.1%} were asked for",
                    where=kernel.layer,
                )
            if not holds(kernel, self.args.pattern):
                raise PostconditionError(
                    f"the zeros do not have the pattern {self.args.pattern}", where=kernel.layer
                )

    def _chosen(self, model: keras.Model) -> tuple[list[Kernel], list[Untreated]]:
        """The kernels to prune, and what cannot be pruned."""
        kernels, untreated = find_kernels(model)
        chosen = []
        for kernel in kernels:
            reason = pattern_reason(kernel, self.args.pattern)
            if self.args.skips(kernel.layer):
                continue
            if reason is None:
                chosen.append(kernel)
            else:
                reason = f"{reason} (its {kernel.name}, {self.args.pattern})"
                untreated.append(Untreated(kernel.layer, kernel.kind, reason))
        return chosen, untreated

    def _final(
        self, model: keras.Model, kernels: list[Kernel], context: PassContext
    ) -> tuple[list[float], dict[str, Any]]:
        """The sparsity of each kernel in the end, and what a scan found, for the report."""
        named = [self._named(kernel.layer) for kernel in kernels]
        spread = [k for k, share in zip(kernels, named, strict=True) if share is None]
        shares, report = [self.args.sparsity] * len(spread), {}
        if spread and self.args.distribution == "erdos_renyi":
            shapes = [tuple(kernel.variable.shape) for kernel in spread]
            shares = erdos_renyi(shapes, self.args.sparsity)
        if spread and self.args.distribution == "sensitivity" and context.dataset is not None:
            split, pattern = context.dataset.validation, self.args.pattern
            errors = scan(model, spread, split, pattern, context.progress)
            shares = least_error(errors, [k.size for k in spread], self.args.sparsity)
            report = {
                "sensitivity": {
                    f"{kernel.layer}.{kernel.name}": dict(zip(map(str, LEVELS), one, strict=True))
                    for kernel, one in zip(spread, errors, strict=True)
                }
            }
        rest = iter(shares)
        return [next(rest) if share is None else share for share in named], report

    def _named(self, layer: str) -> Share | None:
        shares = (
            share for pattern, share in self.args.layers.items() if fnmatchcase(layer, pattern)
        )
        return next(shares, None)

    def _prune(
        self, model: keras.Model, kernels: list[Kernel], final: list[float], context: PassContext
    ) -> dict[str, list[float]]:
        masks = Masks(kernels, self.args.pattern)
        history: dict[str, list[float]] = {}
        if kernels and context.dataset is not None and (epochs := epochs_of(self.args, context)):
            from edgekit.training.batches import steps_per_epoch

            size = self.args.batch_size or context.train.batch_size
            steps = epochs * steps_per_epoch(len(context.dataset.train), size)
            kept = [Constraint(k, groups_of(k.values, k.channels)) for k in kernels]
            pruned = {id(kernel.variable) for kernel in kernels}
            others = constraints_of(model).kept
            kept += [one for one in others if id(one.kernel.variable) not in pruned]
            callbacks = [self._remover(masks, final, steps), Constraints(kept).callback()]
            history = tune(model, self.args, context, callbacks)
        masks.choose(final)
        return history

    def _remover(self, masks: Masks, final: list[float], steps: int) -> keras.callbacks.Callback:
        """A Keras callback that removes weights as the schedule says."""
        callbacks = require("keras", purpose="to prune models").callbacks
        schedule = PolynomialSchedule.over(
            steps,
            begin=self.args.begin,
            end=self.args.end,
            frequency=self.args.frequency,
            exponent=self.args.exponent,
        )
        numbers = iter(range(steps))

        def begin(batch: int, logs: Any) -> None:  # noqa: ARG001
            step = next(numbers)
            if schedule.is_update(step):
                masks.choose(
                    [
                        schedule.sparsity(step, initial=min(self.args.initial_sparsity, s), final=s)
                        for s in final
                    ]
                )

        return callbacks.LambdaCallback(on_train_batch_begin=begin)

    def _report(
        self,
        model: keras.Model,
        kernels: list[Kernel],
        untreated: list[Untreated],
        final: list[float],
    ) -> dict[str, Any]:
        layers: list[dict[str, Any]] = []
        for kernel, asked in zip(kernels, final, strict=True):
            zeros = kernel.size - int(np.count_nonzero(kernel.values))
            layers.append(
                {
                    "layer": kernel.layer,
                    "kind": kernel.kind,
                    "weight": kernel.name,
                    "weights": kernel.size,
                    "zeros": zeros,
                    "sparsity": zeros / kernel.size,
                    "asked": asked,
                }
            )
        found = find_kernels(model)[0]
        total = sum(kernel.size for kernel in kernels)
        return {
            "layers": layers,
            "untreated": untreated_rows(self.args, untreated, (k.layer for k in found)),
            "sparsity": sum(layer["zeros"] for layer in layers) / total if total else 0.0,
        }


_EFFECTS = {
    "none": "zero weights change nothing",
    "smaller_file": "zero weights make the compressed file smaller, not the inference faster",
    "faster": "zero weights make the inference faster",
}


def zeros_statement(targets: Sequence[Target]) -> tuple[list[dict[str, str]], list[str]]:
    """What each target makes of zero weights, and a warning if that is nothing for all of them."""
    effects = [
        {
            "target": target.name,
            "effect": target.zeros.effect,
            "text": f"{target.name}: {_EFFECTS[target.zeros.effect]}: {target.zeros.why}",
        }
        for target in targets
    ]
    if not targets:
        return effects, [
            "no target is chosen: on most runtimes zero weights only make the compressed file "
            "smaller, and change neither latency nor memory"
        ]
    if all(target.zeros.effect == "none" for target in targets):
        return effects, ["none of the chosen targets gains anything from zero weights"]
    return effects, []


def prune(model: keras.Model, dataset: Dataset | None = None, **options: Any) -> PassResult:
    """Prunes a copy of `model`; in one shot without a dataset.

    Args:
        model: a functional or Sequential model.
        dataset: to fine-tune on.
        options: the fields of `PruneArgs`, and those of `PassContext` such as `targets`.

    Raises:
        InputError: an argument that does not exist or does not fit.
        PreconditionError: the model or the data do not allow what is asked.
    """
    return run_alone(Prune, model, dataset, options)
