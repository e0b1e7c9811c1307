"""`fold`: batch normalization folded into the convolution or dense layers beside it.

The model computes the same in inference. A normalization that stays runs as operators of its own,
with a rounding of its own in a quantized file.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from edgekit.base.errors import PostconditionError, PreconditionError
from edgekit.compress.channels import is_clustered, why_not
from edgekit.compress.contract import Pass, PassContext, PassResult, run_alone
from edgekit.compress.folding_onward import fold_all
from edgekit.data.dataset import Dataset
from edgekit.models.calls import call_graph
from edgekit.models.files import as_functional
from edgekit.schema.base import Document

if TYPE_CHECKING:
    import keras

_CHECKED_SAMPLES = 32
_LARGEST_CHANGE = 1e-3  # of the outputs' largest magnitude; float32 rounding stays far below


class FoldArgs(Document):
    """Arguments of `fold`."""

    skip: tuple[str, ...] = Field((), description="layers whose weights must stay; * and ? match")
    strict: bool = Field(False, description="a normalization that cannot be folded is an error")


class Fold(Pass[FoldArgs]):
    """Folds normalizations into the layers before them, the rest into those behind them."""

    name = "fold"
    Args = FoldArgs

    def apply(self, model: keras.Model, context: PassContext) -> PassResult:  # noqa: ARG002
        """Folds in a copy."""
        kept = {
            call.label
            for call in call_graph(model).calls
            if self._skipped(call.label)
            or (why_not(call.layer) is None and is_clustered(call.layer.kernel.numpy()))
        }
        folded, report = fold_all(model, skip=kept)
        untreated = report["untreated"]
        if untreated and self.args.strict:
            listed = "; ".join(f"{row['layer']}: {row['reason']}" for row in untreated)
            raise PreconditionError(f"normalizations that cannot be folded: {listed}")
        return PassResult(folded, folded is not model, report)

    def ensures(self, before: keras.Model, result: PassResult, context: PassContext) -> None:
        """Checks on calibration samples, if there are any, that the outputs stay."""
        super().ensures(before, result, context)
        if context.dataset is None or not len(context.dataset.calibration) or not result.modified:
            return
        from edgekit.training.evaluate import record_outputs

        x = context.dataset.calibration.take(_CHECKED_SAMPLES).x
        changed = record_outputs(result.model, x)
        for name, old in record_outputs(as_functional(before), x).items():
            if np.abs(changed[name] - old).max() > _LARGEST_CHANGE * max(np.abs(old).max(), 1e-6):
                raise PostconditionError("the output changed", where=name)

    def _skipped(self, label: str) -> bool:
        return any(fnmatchcase(label, pattern) for pattern in self.args.skip)


def fold(model: keras.Model, dataset: Dataset | None = None, **options: Any) -> PassResult:
    """Folds the batch normalization of a copy of `model` into convolution and dense layers.

    Each goes into the layer before it (Jacob et al. 2018, 3.2), or else, where that is exact, into
    all layers behind it.

    Args:
        model: a functional or Sequential model.
        dataset: its calibration split, if there is one, checks that the outputs stay.
        options: the fields of `FoldArgs`, and those of `PassContext`.

    Raises:
        InputError: an argument that does not exist or does not fit.
        PreconditionError: `strict`, and there are normalizations that cannot be folded.
    """
    return run_alone(Fold, model, dataset, options)
