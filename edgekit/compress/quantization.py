"""`quantize`: decides a post-training quantization, and checks the data that it needs.

The model stays as it is: the exporter quantizes, by the plan that this pass returns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from edgekit.base.errors import DataError, PreconditionError
from edgekit.compress.calibration import check_calibration
from edgekit.compress.contract import Pass, PassContext, PassResult, run_alone
from edgekit.compress.kernels import find_kernels
from edgekit.data.dataset import Dataset, Split
from edgekit.models.ranges import Calibration
from edgekit.runtimes.session import match_names
from edgekit.schema.base import Document
from edgekit.schema.plan import QuantizationPlan

if TYPE_CHECKING:
    import keras

NEEDS_CALIBRATION = ("int8", "int16x8")
_BITS = {"int8": 8, "int8-dynamic": 8, "int16x8": 8, "int4-weight": 4, "fp16": 16}


class QuantizeArgs(Document):
    """Arguments of `quantize`."""

    precision: Literal["int8", "int8-dynamic", "fp16", "int16x8", "int4-weight"] = "int8"
    samples: int | None = Field(
        None, ge=1, description="of the calibration split to use; by default all"
    )
    calibration: Calibration = Field(
        "minmax", description="int8: how the ranges of activations are chosen"
    )
    percentile: float = Field(99.99, gt=50, le=100, description="of calibration: percentile")
    engine: Literal["derived", "native"] = Field(
        "derived",
        description="of int8 in ONNX and OpenVINO: derived from the TFLite file, or the runtime's "
        "own quantizer",
    )

    @model_validator(mode="after")
    def _of_int8(self) -> QuantizeArgs:
        if self.precision == "int16x8" and self.calibration != "minmax":
            raise ValueError(
                "int16x8 takes the ranges that are seen (minmax): its steps are fine enough"
            )
        if self.precision != "int8" and (self.calibration != "minmax" or self.engine != "derived"):
            raise ValueError(f"'calibration' and 'engine' are for int8 (found {self.precision})")
        return self


class Quantize(Pass[QuantizeArgs]):
    """Plans a post-training quantization."""

    name = "quantize"
    Args = QuantizeArgs
    changes_weights = False

    def plans(self) -> QuantizationPlan:
        """The plan, as far as the arguments tell."""
        return self._plan(self.args.samples)

    def _plan(self, samples: int | None) -> QuantizationPlan:
        args = self.args
        return QuantizationPlan(
            precision=args.precision,
            calibration_samples=samples,
            engine=args.engine,
            calibration=args.calibration,
            percentile=args.percentile,
        )

    def requires(self, model: keras.Model, context: PassContext) -> None:
        """Checks that there is calibration data that fits the model, where it is needed."""
        super().requires(model, context)
        if context.plan is not None:
            raise PreconditionError(
                f"'{context.plan.precision}' quantization is planned already",
                hint="quantize once; a recipe's export lists the precisions of its files",
            )
        if self.args.precision not in NEEDS_CALIBRATION:
            return
        calibration = _calibration(context.dataset)
        if calibration is None:
            raise PreconditionError(
                f"'{self.args.precision}' needs calibration samples",
                hint="give 100 or more preprocessed samples, with --data or the recipe's data",
            )
        _check_fits(model, calibration)

    def apply(self, model: keras.Model, context: PassContext) -> PassResult:
        """Checks the calibration set and plans; the model stays."""
        calibration = _calibration(context.dataset)
        samples = self.args.samples
        figures: dict[str, Any] = {}
        warnings: list[str] = []
        if self.args.precision in NEEDS_CALIBRATION and calibration and context.dataset:
            if samples and samples > len(calibration):
                warnings.append(
                    f"{samples} calibration samples were asked for, there are {len(calibration)}"
                )
                samples = None
            figures, found = check_calibration(
                calibration.take(samples or len(calibration)),
                context.dataset.train,
                dtypes={tensor.name: tensor.dtype for tensor in model.inputs},
                labels=context.dataset.labels,
            )
            warnings += found
        for line in warnings:
            context.tell(f"quantize: {line}")
        bits = _BITS[self.args.precision]
        report = {
            "precision": self.args.precision,
            "ranges": self.args.calibration,
            "engine": self.args.engine,
            "layers": [
                {
                    "layer": k.layer,
                    "kind": k.kind,
                    "weight": k.name,
                    "weights": k.size,
                    # The runtime has no 4-bit form of kernels that see one channel each.
                    "bits": max(bits, 8) if k.inputs is None else bits,
                }
                for k in find_kernels(model)[0]
            ],
            "untreated": [],
            "calibration": figures,
            "warnings": warnings,
        }
        return PassResult(model, False, report, self._plan(samples))


def _calibration(dataset: Dataset | None) -> Split | None:
    return dataset.calibration if dataset is not None and len(dataset.calibration) else None


def _check_fits(model: keras.Model, calibration: Split) -> None:
    try:
        arrays = match_names(tuple(tensor.name for tensor in model.inputs), calibration.x)
    except DataError as error:
        raise PreconditionError(error.message, hint=error.hint) from None
    for tensor in model.inputs:
        found, wanted = arrays[tensor.name].shape[1:], tuple(tensor.shape[1:])
        fits = len(found) == len(wanted) and all(
            want in (None, have) for want, have in zip(wanted, found, strict=True)
        )
        if not fits:
            raise PreconditionError(
                f"calibration samples of '{tensor.name}' have shape {found}, "
                f"the model takes {wanted}"
            )


def quantize(model: keras.Model, dataset: Dataset | None = None, **options: Any) -> PassResult:
    """Plans a post-training quantization of `model`, which stays as it is.

    Args:
        model: a functional or Sequential model.
        dataset: its calibration split sets the ranges of activations.
        options: the fields of `QuantizeArgs`, and those of `PassContext`.

    Returns:
        The given model, with the plan for `edgekit.export`.

    Raises:
        InputError: an argument that does not exist or does not fit.
        PreconditionError: calibration data are needed, and missing or of another shape.
    """
    return run_alone(Quantize, model, dataset, options)
