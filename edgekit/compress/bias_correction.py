"""`correct_bias`: bias correction on calibration data (Nagel et al. 2019, 4.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgekit.compress.contract import PassResult, run_alone
from edgekit.compress.reconstruction import Reconstruct, ReconstructArgs
from edgekit.data.dataset import Dataset

if TYPE_CHECKING:
    import keras


class CorrectBias(Reconstruct[ReconstructArgs]):
    """Rounds weights to the nearest int8 values, and shifts biases by the mean error of each."""

    name = "correct_bias"
    Args = ReconstructArgs


def correct_bias(model: keras.Model, dataset: Dataset | None = None, **options: Any) -> PassResult:
    """Rounds the weights of a copy of `model` to int8 values and corrects its biases.

    Afterwards the mean of each layer's output, on the calibration split and with quantized
    activations, equals that of the float model. Normalization is folded first.

    Args:
        model: a functional or Sequential model.
        dataset: its calibration split is needed.
        options: the fields of `ReconstructArgs`, and those of `PassContext`.

    Raises:
        InputError: an argument that does not exist or does not fit.
        PreconditionError: there are no calibration samples, or `strict` finds untreated layers.
    """
    return run_alone(CorrectBias, model, dataset, options)
