"""`qat`: quantization-aware training (Jacob et al. 2018; learnt step size, Esser et al. 2020)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edgekit.base.errors import PostconditionError, PreconditionError
from edgekit.base.extras import require
from edgekit.compress.biases import round_biases
from edgekit.compress.constraints import Constraint, Constraints, constraints_of, distinct
from edgekit.compress.contract import Pass, PassContext, PassResult, copy_of, run_alone
from edgekit.compress.decomposition import decompose
from edgekit.compress.distillation import distiller, without_labels
from edgekit.compress.finetuning import (
    TuneArgs,
    check_data,
    check_patterns,
    check_strict,
    epochs_of,
    tune,
    untreated_rows,
)
from edgekit.compress.kernels import Kernel, find_kernels
from edgekit.compress.qat_graph import Settings, original_key, quantized_model
from edgekit.compress.qat_preparation import Prepared, prepare, treatable, with_outer
from edgekit.compress.shared_grid import few_bits, share_grids, shared_factors, snap_shared
from edgekit.data.dataset import Dataset, Split
from edgekit.models.files import as_functional
from edgekit.profiling.dense_scales import refusing_dense_scales
from edgekit.runtimes.session import match_names
from edgekit.schema.plan import QuantizationPlan
from edgekit.schema.recipe import ScheduleSpec

if TYPE_CHECKING:
    import keras

_BATCH = 128
_BITS = 8
_LAST_RATE = 0.02  # share of the learning rate that a cosine ends at


class QatArgs(TuneArgs):
    """Arguments of `qat`."""

    learning_rate: float | None = Field(
        None,
        gt=0,
        description="of fine-tuning; by default a quarter of the training's, half of it for "
        "weights of fewer than 8 bits",
    )
    weight_bits: int = Field(8, ge=2, le=8, description="of each weight; below 8: fewer steps")
    ranges: Literal["moving", "learnt", "fixed"] = Field(
        "moving",
        description="of activations: moving averages; learnt, with the weights' step sizes; "
        "or fixed as calibrated",
    )
    momentum: float = Field(0.99, ge=0, lt=1, description="of the moving averages")
    distill: float | None = Field(
        None,
        ge=0,
        le=1,
        description="weight of the float model's outputs beside the labels; by default 0, and 1 "
        "for several outputs, which the labels are not for",
    )
    temperature: float = Field(1.0, gt=0, description="of distill; softens both models' outputs")
    freeze_after: float = Field(
        0.7,
        ge=0,
        le=1,
        description="share of the epochs in which batch normalizations still follow the batches; "
        "then they are folded and their statistics frozen",
    )
    codebooks: Literal["channel", "kernel"] = Field(
        "channel",
        description="what has shared values of its own where `cluster` gave a kernel one codebook; "
        "kernel: it stays one in the int8 file, which is smaller after gzip and less accurate",
    )
    schedule: Literal["constant", "cosine"] = Field("cosine", description="of the learning rate")
    samples: int | None = Field(
        None, ge=1, description="of the calibration split for the first ranges; by default all"
    )

    def rate_share(self) -> float:
        """Weights of few bits have far to go."""
        return 0.5 if self.weight_bits < _BITS else 0.25


class Qat(Pass[QatArgs]):
    """Trains the model as its int8 file will compute; zeros and shared weights stay so."""

    name = "qat"
    Args = QatArgs

    def plans(self) -> QuantizationPlan:
        """An int8 file, whose ranges the model brings."""
        return QuantizationPlan(precision="int8")

    def requires(self, model: keras.Model, context: PassContext) -> None:
        """Checks the layers, that the model is not quantized yet, and that there are samples."""
        super().requires(model, context)
        from edgekit.models.fakequant import fake_quant_layers

        if fake_quant_layers(model):
            raise PreconditionError("the model is quantized already", hint="run 'qat' once")
        check_patterns(self.args.skip, treatable(model))
        if self.args.strict:
            check_strict(self.args, self._prepared(model).untreated, "trained as quantized")
        check_data(self.args, context, "only calibrate")
        if len(model.outputs) > 1 and self.args.distill not in (None, 1):
            raise PreconditionError(
                f"the model has {len(model.outputs)} outputs, and labels are for one",
                hint="distill: 1 learns from the float model's outputs alone",
            )
        if _samples(context.dataset) is None:
            raise PreconditionError(
                "the first ranges of activations need samples",
                hint="give preprocessed samples, with --data or the recipe's data",
            )

    def apply(self, model: keras.Model, context: PassContext) -> PassResult:
        """Takes apart, folds, rewrites, calibrates and trains."""
        ready = self._prepared(model)
        simple = refusing_dense_scales(context.targets)
        settings = Settings(self.args.weight_bits, self.args.ranges, self.args.momentum,
                            dense_one_scale=bool(simple))  # fmt: skip
        made = quantized_model(ready.model, settings, ready.skip)
        self._share(made, ready)
        epochs = epochs_of(self.args, context)
        first = round(self.args.freeze_after * epochs) if ready.norms else 0
        if first:
            settings = replace(settings, norms=ready.norms)
            normal = quantized_model(ready.model, settings, ready.skip)
            self._share(normal, ready)
            self._calibrate(normal, context)
            kept = translated(ready.constraints, normal, set())
            history = self._train(normal, model, context, kept, first, "constant")
            take_folded(made, normal)
            context = replace(context, seed=context.seed + 1)  # of other batches
        else:
            self._calibrate(made, context)
            history = {}
        kept = translated(ready.constraints, made, {row["into"] for row in ready.folded})
        frozen = self._train(made, model, context, kept, epochs - first, self.args.schedule)
        history = {name: [*history.get(name, ()), *frozen.get(name, ())]
                   for name in history | frozen}  # fmt: skip
        snap_shared(made, kept)
        round_biases(made)
        untreated = untreated_rows(self.args, ready.untreated, treatable(model))
        for row in untreated:
            context.tell(f"qat: '{row['layer']}' is not trained as quantized: {row['reason']}")
        report = {
            "weight_bits": self.args.weight_bits,
            "ranges": self.args.ranges,
            **({"dense_scales": {"each": "layer", "for": list(simple)}} if simple else {}),
            **_rows(made, ready.origins),
            "folded": ready.folded,
            "frozen_after_epochs": first,
            "untreated": untreated,
            "history": history,
        }
        return PassResult(made, True, report, self.plans())

    def _share(self, made: keras.Model, ready: Prepared) -> None:
        if self.args.codebooks == "kernel":
            share_grids(made, ready.constraints)

    def _calibrate(self, made: keras.Model, context: PassContext) -> None:
        samples = _samples(context.dataset)
        if samples is not None:
            calibrate(made, samples.take(self.args.samples or len(samples)))

    def _train(
        self,
        made: keras.Model,
        before: keras.Model,
        context: PassContext,
        kept: Constraints,
        epochs: int,
        schedule: Literal["constant", "cosine"],
    ) -> dict[str, list[float]]:
        """Trains on the labels, and on the outputs of the float model as far as asked."""
        share = self.args.distill
        if share is None:
            share = 1.0 if len(made.outputs) > 1 else 0.0
        tuned, learnt = made, context
        if share and epochs and context.dataset is not None:
            teacher = copy_of(before)  # Keras freezes a teacher for good
            classes = context.dataset.train.y.dtype.kind in "iu"
            tuned = distiller(teacher, teacher, made, alpha=share,
                              temperature=self.args.temperature, classes=classes)  # fmt: skip
            if len(made.outputs) > 1:
                # Labels, and the loss that goes with them, have no weight then.
                learnt = replace(
                    context,
                    dataset=without_labels(context.dataset, made),
                    train=context.train.model_copy(update={"loss": "mse"}),
                )
        args = self.args.model_copy(update={"epochs": epochs})
        rates = ScheduleSpec(name=schedule, final_fraction=_LAST_RATE)
        return tune(tuned, args, learnt, [kept.callback()], schedule=rates)

    def ensures(self, before: keras.Model, result: PassResult, context: PassContext) -> None:
        """Checks that zeros stayed zero, and that the outputs keep their names."""
        super().ensures(before, result, context)
        wanted, found = as_functional(before).output_names, result.model.output_names
        if wanted != found:
            raise PostconditionError(f"the outputs were named {wanted}, now {found}")
        new = _by_label(result.model)
        apart = decompose(before, skip=with_outer(self._skipped(before)))[0]
        for one in constraints_of(apart).kept:
            if np.any(new[original_key(one.kernel)].values[one.kernel.values == 0]):
                raise PostconditionError(
                    "weights that were pruned are zero no more", where=one.kernel.layer
                )

    def _prepared(self, model: keras.Model) -> Prepared:
        return prepare(model, self._skipped(model))

    def _skipped(self, model: keras.Model) -> set[str]:
        return {name for name in treatable(model) if self.args.skips(name)}


def _samples(dataset: Dataset | None) -> Split | None:
    """The calibration split, or the training split where there is none."""
    splits = [] if dataset is None else [dataset.calibration, dataset.train]
    return next((split for split in splits if len(split)), None)


def calibrate(model: keras.Model, samples: Split) -> None:
    """Sets every activation range of a quantized model to what the samples show, none rounded."""
    from edgekit.models.fakequant import fake_quant_layers

    tree = require("keras", purpose="to compress models").tree
    arrays = match_names(tuple(tensor.name for tensor in model.inputs), samples.x)
    layers = fake_quant_layers(model)
    for layer in layers:
        layer.observing = True
    try:
        for start in range(0, len(samples), _BATCH):
            batch: list[NDArray[Any]] = [a[start : start + _BATCH] for a in arrays.values()]
            model(tree.pack_sequence_as(model.input, batch), training=False)
    finally:
        for layer in layers:
            layer.observing = False


def take_folded(made: keras.Model, normal: keras.Model) -> None:
    """Gives a quantized model what another learnt that has its normalizations yet.

    A normalization that scales a kernel of one grid is rounded, so that the file's scales are few.
    """
    from edgekit.models.fakequant import quantized_layers

    norms = {id(one.norm): one for one in quantized_layers(normal) if one.norm is not None}
    old = [layer for layer in normal._flatten_layers() if id(layer) not in norms]
    pairs = list(zip(made._flatten_layers(), old, strict=True))
    for mine, theirs in pairs:
        for name in ("_trainable_variables", "_non_trainable_variables"):
            for new, given in zip(getattr(mine, name), getattr(theirs, name), strict=True):
                new.assign(given)
    for mine, theirs in pairs:  # a layer comes before those within it, which are copied whole
        if getattr(theirs, "norm", None) is not None and id(theirs.norm) in norms:
            factor = None
            for name, ratio in zip(mine.shared, mine.ratios.weights, strict=True):
                factor = few_bits(np.asarray(theirs.ratio(name)))
                ratio.assign(factor)
            for name, values in theirs.folded(factor).items():
                getattr(mine, name).assign(values)


def _by_label(model: keras.Model) -> dict[tuple[str, str], Kernel]:
    return {original_key(kernel): kernel for kernel in find_kernels(model)[0]}


def translated(found: Constraints, model: keras.Model, folded: set[str]) -> Constraints:
    """The constraints of a model's kernels, for those of its quantized copy.

    A folded normalization scales channels. What was shared in a kernel with one grid is shared but
    for that; otherwise it is shared within a channel now.
    """
    kernels, kept = _by_label(model), []
    factors = shared_factors(model)
    for one in found.kept:
        kernel, groups = kernels.get(original_key(one.kernel)), one.groups
        if kernel is None:
            continue
        factor = factors.get(id(kernel.variable))
        if groups is not None and factor is None and one.kernel.layer in folded:
            axes = {axis % groups.ndim for axis in kernel.channels}
            sizes = [size if axis in axes else 1 for axis, size in enumerate(groups.shape)]
            channel = np.arange(np.prod(sizes)).reshape(sizes)
            apart = np.where(groups == 0, -1, groups + channel * (int(groups.max()) + 1))
            _, dense = np.unique(apart, return_inverse=True)
            first = 0 if np.any(groups == 0) else 1
            groups = (dense.reshape(groups.shape) + first).astype(np.int32)
        kept.append(Constraint(replace(kernel, layer=original_key(kernel)[0]), groups, factor))
    return Constraints(kept)


def _rows(model: keras.Model, origins: dict[str, str]) -> dict[str, list[dict[str, Any]]]:
    """The quantized kernels and the ranges, for the report."""
    from edgekit.models.fakequant import (
        fake_quant_layers,
        integers,
        quantized_layers,
        range_of,
    )

    quantized = {id(layer): layer for layer in quantized_layers(model)}
    return {
        "layers": [
            {
                "layer": original_key(kernel)[0],
                **({"of": origins[label]} if (label := original_key(kernel)[0]) in origins else {}),
                "kind": kernel.kind,
                "weight": kernel.name,
                "weights": kernel.size,
                "bits": layer.weight_bits,
                "values": distinct(integers(layer, kernel.name)),
            }
            for kernel in find_kernels(model)[0]
            for layer in quantized.values()
            if getattr(layer, kernel.name, None) is kernel.variable
        ],
        "activations": [
            {"range": layer.name, "bits": layer.bits, "low": low, "high": high}
            for layer in fake_quant_layers(model)
            for low, high in [range_of(layer)]
        ],
    }


def qat(model: keras.Model, dataset: Dataset | None = None, **options: Any) -> PassResult:
    """Trains a copy of `model` as its int8 file will compute.

    Args:
        model: a functional or Sequential model.
        dataset: its calibration split sets the first ranges, its training split trains.
        options: the fields of `QatArgs`, and those of `PassContext`.

    Returns:
        A model with `edgekit.models.fakequant` layers in it, whose outputs are those of the int8
        file; `edgekit.export` gives the file its ranges and its kernels.

    Raises:
        InputError: an argument that does not exist or does not fit.
        PreconditionError: the model is quantized already, or there are no samples.
    """
    return run_alone(Qat, model, dataset, options)
