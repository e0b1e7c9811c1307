"""The contract of a pass, checked at run time, after the passes of onnx/ir-py.

A pass states its arguments, what it requires of the model and the context, and what it ensures of
its result. It never changes the model that it is given: it returns the same object, unmodified,
or another one.
"""

from __future__ import annotations

import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np

from edgekit.base.errors import PostconditionError, PreconditionError
from edgekit.base.extras import require
from edgekit.base.progress import Progress, silent
from edgekit.data.dataset import Dataset
from edgekit.models.files import as_functional
from edgekit.schema.base import Document
from edgekit.schema.plan import QuantizationPlan
from edgekit.schema.recipe import TrainSpec
from edgekit.schema.target import Target
from edgekit.schema.yamlfile import YamlSource, validate

if TYPE_CHECKING:
    import keras

A = TypeVar("A", bound=Document)


def _say_nothing(message: str) -> None:  # noqa: ARG001
    return


@dataclass(frozen=True)
class PassContext:
    """What passes work with.

    Attributes:
        directory: for the files of a pass, such as the checkpoints of a teacher.
        dataset: splits to fine-tune on and to calibrate with, or None.
        train: how the model was trained; the defaults of fine-tuning come from it.
        seed: of everything random.
        targets: what the model is made for.
        progress: receives the state of long work.
        tell: receives what the user should know before the work starts, a line at a time.
        root: folder that relative paths in arguments start from.
        plan: the quantization that earlier passes have decided, or None.
        ran: names of the passes that ran before, in order.
    """

    directory: Path
    dataset: Dataset | None = None
    train: TrainSpec = field(default_factory=TrainSpec)
    seed: int = 0
    targets: tuple[Target, ...] = ()
    progress: Progress = silent
    tell: Callable[[str], None] = _say_nothing
    root: Path = field(default_factory=Path)
    plan: QuantizationPlan | None = None
    ran: tuple[str, ...] = ()

    def after(self, name: str, plan: QuantizationPlan | None) -> PassContext:
        """The context of the pass after `name`."""
        return replace(self, plan=plan or self.plan, ran=(*self.ran, name))


@dataclass(frozen=True)
class PassResult:
    """What a pass made.

    Attributes:
        model: the given object if not modified, else another one.
        modified: whether the model computes, or stores, anything else than before.
        report: what changed, layer by layer, and what could not be treated; JSON-able.
        plan: for the exporter, from a pass that quantizes.
    """

    model: keras.Model
    modified: bool
    report: dict[str, Any]
    plan: QuantizationPlan | None = None


class Pass(ABC, Generic[A]):
    """One compression step.

    A subclass defines `name`, `Args` and `apply`, extends `requires` and `ensures`, and stands in
    a file with the function of the same name.

    Attributes:
        name: as registered, in recipes and on the command line.
        Args: its arguments.
        changes_weights: False for a pass that only plans or only looks.
    """

    name: ClassVar[str]
    Args: ClassVar[type[Document]]
    changes_weights: ClassVar[bool] = True

    def __init__(self, args: A) -> None:
        self.args = args

    @classmethod
    def function(cls) -> Callable[..., PassResult]:
        """The plain Python function of the pass."""
        function: Callable[..., PassResult] = getattr(sys.modules[cls.__module__], cls.name)
        return function

    def plans(self) -> QuantizationPlan | None:
        """The quantization that the pass will decide, as far as its arguments tell."""
        return None

    @abstractmethod
    def apply(self, model: keras.Model, context: PassContext) -> PassResult:
        """Does the work; `requires` holds."""

    def requires(self, model: keras.Model, context: PassContext) -> None:
        """Checks what must hold before.

        Raises:
            PreconditionError: it does not.
        """
        if not getattr(model, "inputs", None) or not getattr(model, "outputs", None):
            raise PreconditionError(
                "the model has no fixed inputs and outputs",
                hint="build it with keras.Input and keras.Model(inputs, outputs)",
            )
        check_order(type(self), context.plan)
        for path, values in weights_of(model).items():
            if not _finite(values):
                raise PreconditionError("the weights hold NaN or infinite values", where=path)

    def ensures(self, before: keras.Model, result: PassResult, context: PassContext) -> None:  # noqa: ARG002
        """Checks what must hold after.

        Raises:
            PostconditionError: it does not.
        """
        if interface_of(result.model) != interface_of(before):
            raise PostconditionError(
                f"the inputs and outputs changed from {interface_of(before)} "
                f"to {interface_of(result.model)}"
            )
        if result.modified == (result.model is before):
            raise PostconditionError("a model is either unmodified, or another object")
        if result.modified and not self.changes_weights:
            raise PostconditionError("the model was changed by a pass that must not change it")
        for path, values in weights_of(result.model).items():
            if not _finite(values):
                raise PostconditionError(
                    "the weights became NaN or infinite",
                    where=path,
                    hint="try a smaller learning_rate",
                )

    def __call__(self, model: keras.Model, context: PassContext) -> PassResult:
        """Checks, works, checks.

        Raises:
            PreconditionError: the pass cannot work on this model or with this data.
            PostconditionError: its result is not what it promises; the result is lost.
        """
        self.requires(model, context)
        given, trained = weights_of(model), len(model.trainable_weights)
        result = self.apply(model, context)
        changed = any(not np.array_equal(given[p], now) for p, now in weights_of(model).items())
        if changed or len(model.trainable_weights) != trained:
            raise PostconditionError("the given model was changed; a pass changes a copy")
        self.ensures(model, result, context)
        return result


def check_order(kind: type[Pass[Any]], plan: QuantizationPlan | None) -> None:
    """Refuses a pass that would change weights whose quantization is already decided.

    Raises:
        PreconditionError: it does.
    """
    if plan is not None and kind.changes_weights:
        raise PreconditionError(
            f"'{kind.name}' changes weights after '{plan.precision}' quantization was planned "
            "for them",
            hint="put 'quantize' last",
        )


def interface_of(model: keras.Model) -> dict[str, list[tuple[Any, ...]]]:
    """Name, shape and dtype of the inputs, shape and dtype of the outputs."""
    return {
        "inputs": [(t.name, tuple(t.shape), t.dtype) for t in model.inputs],
        "outputs": [(tuple(t.shape), t.dtype) for t in model.outputs],
    }


def check_layer_names(before: keras.Model, after: keras.Model) -> None:
    """Checks for passes that change values only.

    Raises:
        PostconditionError: the layers have other names than before.
    """
    if _layer_names(before) != _layer_names(after):
        raise PostconditionError("the names of layers changed")


def _layer_names(model: keras.Model) -> list[str]:
    # An input is known by its tensor's name; Keras renames the layer of an unnamed one in a copy.
    kind = require("keras", purpose="to compress models").layers.InputLayer
    return [layer.name for layer in model.layers if not isinstance(layer, kind)]


def weights_of(model: keras.Model) -> dict[str, np.ndarray[Any, Any]]:
    """Copies of all weights by a unique name."""
    return {
        f"{index}: {weight.path}": weight.numpy().copy()
        for index, weight in enumerate(model.weights)
    }


def _finite(values: np.ndarray[Any, Any]) -> bool:
    return values.dtype.kind != "f" or bool(np.isfinite(values).all())


def copy_of(model: keras.Model) -> keras.Model:
    """The same model with weights of its own: same layers, names and values, not compiled.

    A Sequential model becomes a functional one, which keeps the names of its inputs.
    """
    models = require("keras", purpose="to compress models").models
    copy: keras.Model = models.clone_model(as_functional(model))
    copy.set_weights(model.get_weights())
    return copy


def run_alone(
    kind: type[Pass[Any]], model: keras.Model, dataset: Dataset | None, options: Mapping[str, Any]
) -> PassResult:
    """Runs one pass from Python.

    Args:
        kind: the pass.
        model: a functional or Sequential model.
        dataset: for the context.
        options: fields of the context by name; all else are arguments of the pass.

    Raises:
        InputError: an argument that the pass does not have, or cannot take.
    """
    settings = {key: value for key, value in options.items() if key in _SETTINGS}
    arguments = {key: value for key, value in options.items() if key not in _SETTINGS}
    args = validate(kind.Args, YamlSource(f"{kind.name}()", arguments))
    with tempfile.TemporaryDirectory() as folder:
        context = PassContext(**{"directory": Path(folder), "dataset": dataset, **settings})
        return kind(args)(model, context)


_SETTINGS = {entry.name for entry in fields(PassContext)} - {"dataset"}
