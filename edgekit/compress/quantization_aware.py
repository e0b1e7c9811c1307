"""`qat`: quantization-aware training (Jacob et al. 2018; learnt step size, Esser et al. 2020)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edgekit.base.errors import PostconditionError, PreconditionError
from edgekit.base.extras import require
from edgekit.compress.constraints import Constraint, Constraints, constraints_of
from edgekit.compress.contract import Pass, PassContext, PassResult, run_alone
from edgekit.compress.finetuning import (
    TuneArgs,
    check_data,
    check_patterns,
    check_strict,
    matches,
    tune,
    untreated_rows,
)
from edgekit.compress.folding import fold_batch_norm
from edgekit.compress.kernels import Kernel, Untreated, find_kernels
from edgekit.compress.qat_graph import RENAMED, Settings, quantized_model
from edgekit.data.dataset import Dataset, Split
from edgekit.models.calls import call_graph
from edgekit.models.files import as_functional
from edgekit.runtimes.session import match_names
from edgekit.schema.plan import QuantizationPlan

if TYPE_CHECKING:
    import keras

_BATCH = 128


class QatArgs(TuneArgs):
    """Arguments of `qat`."""

    weight_bits: int = Field(8, ge=2, le=8, description="of each weight; below 8: fewer steps")
    ranges: Literal["moving", "learnt", "fixed"] = Field(
        "moving",
        description="of activations: moving averages; learnt, with the weights' step sizes; "
        "or fixed as calibrated",
    )
    momentum: float = Field(0.99, ge=0, lt=1, description="of the moving averages")
    samples: int | None = Field(
        None, ge=1, description="of the calibration split for the first ranges; by default all"
    )


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
        check_patterns(self.args.skip, [kernel.layer for kernel in find_kernels(model)[0]])
        check_strict(self.args, _untreated(model), "trained as quantized")
        check_data(self.args, context, "only calibrate")
        if _samples(context.dataset) is None:
            raise PreconditionError(
                "the first ranges of activations need samples",
                hint="give preprocessed samples, with --data or the recipe's data",
            )

    def apply(self, model: keras.Model, context: PassContext) -> PassResult:
        """Folds, rewrites, calibrates and trains."""
        names = {kernel.layer for kernel in find_kernels(model)[0]}
        skip = frozenset(name for name in names if matches(name, self.args.skip))
        folded, folding = fold_batch_norm(model)
        settings = Settings(self.args.weight_bits, self.args.ranges, self.args.momentum)
        made = quantized_model(folded, settings, skip)
        samples = _samples(context.dataset)
        if samples is not None:
            calibrate(made, samples.take(self.args.samples or len(samples)))
        kept = _translated(constraints_of(model), made, {row["into"] for row in folding["layers"]})
        history = tune(made, self.args, context, [kept.callback()])
        untreated = untreated_rows(self.args, _untreated(model), names)
        for row in untreated:
            context.tell(f"qat: '{row['layer']}' is not trained as quantized: {row['reason']}")
        report = {
            "weight_bits": self.args.weight_bits,
            "ranges": self.args.ranges,
            **_rows(made),
            "folded": folding["layers"],
            "untreated": untreated,
            "history": history,
        }
        return PassResult(made, True, report, self.plans())

    def ensures(self, before: keras.Model, result: PassResult, context: PassContext) -> None:
        """Checks that zeros stayed zero, and that the outputs keep their names."""
        super().ensures(before, result, context)
        wanted, found = as_functional(before).output_names, result.model.output_names
        if wanted != found:
            raise PostconditionError(f"the outputs were named {wanted}, now {found}")
        kept = _translated(constraints_of(before), result.model, set())
        new = _by_label(result.model)
        for one in kept.kept:
            old = next(k for k in find_kernels(before)[0] if (k.layer, k.name) == _key(one.kernel))
            if np.any(new[_key(one.kernel)].values[old.values == 0]):
                raise PostconditionError(
                    "weights that were pruned are zero no more", where=one.kernel.layer
                )


def _samples(dataset: Dataset | None) -> Split | None:
    """The calibration split, or the training split where there is none."""
    splits = [] if dataset is None else [dataset.calibration, dataset.train]
    return next((split for split in splits if len(split)), None)


def _untreated(model: keras.Model) -> list[Untreated]:
    """The layers whose weights stay float in training, and why."""
    from edgekit.models.fakequant import quantized_class

    kernels, others = find_kernels(model)
    treated = {c.label for c in call_graph(model).calls if quantized_class(type(c.layer))}
    reason = "there is no quantized form of it; the converter quantizes it by calibration"
    found = {k.layer: Untreated(k.layer, k.kind, reason) for k in kernels if k.layer not in treated}
    return [*found.values(), *(other for other in others if other.layer not in treated)]


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


def _key(kernel: Kernel) -> tuple[str, str]:
    """Layer and weight; a layer that was renamed has its name from before."""
    first, *rest = kernel.layer.split("/")
    return "/".join([first.removesuffix(RENAMED), *rest]), kernel.name


def _by_label(model: keras.Model) -> dict[tuple[str, str], Kernel]:
    return {_key(kernel): kernel for kernel in find_kernels(model)[0]}


def _translated(found: Constraints, model: keras.Model, folded: set[str]) -> Constraints:
    """The constraints of a model's kernels, for those of its quantized copy.

    A folded normalization scales channels: what was shared in a kernel is shared in a channel now.
    """
    kernels, kept = _by_label(model), []
    for one in found.kept:
        kernel, groups = kernels.get(_key(one.kernel)), one.groups
        if kernel is None:
            continue
        if groups is not None and one.kernel.layer in folded:
            axes = {axis % groups.ndim for axis in kernel.channels}
            sizes = [size if axis in axes else 1 for axis, size in enumerate(groups.shape)]
            channel = np.arange(np.prod(sizes)).reshape(sizes)
            apart = np.where(groups == 0, -1, groups + channel * (int(groups.max()) + 1))
            _, dense = np.unique(apart, return_inverse=True)
            first = 0 if np.any(groups == 0) else 1
            groups = (dense.reshape(groups.shape) + first).astype(np.int32)
        kept.append(Constraint(replace(kernel, layer=_key(kernel)[0]), groups))
    return Constraints(kept)


def _rows(model: keras.Model) -> dict[str, list[dict[str, Any]]]:
    """The quantized kernels and the ranges, for the report."""
    from edgekit.models.fakequant import fake_quant_layers, quantized_layers, range_of

    quantized = {id(layer): layer for layer in quantized_layers(model)}
    return {
        "layers": [
            {
                "layer": _key(kernel)[0],
                "kind": kernel.kind,
                "weight": kernel.name,
                "weights": kernel.size,
                "bits": layer.weight_bits,
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
