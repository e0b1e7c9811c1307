"""`distill`: knowledge distillation (Hinton, Vinyals and Dean 2015) on `keras.distillation`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, field_validator

from edgekit.base.errors import PreconditionError, did_you_mean
from edgekit.base.extras import require
from edgekit.compress.constraints import constraints_of
from edgekit.compress.contract import (
    Pass,
    PassContext,
    PassResult,
    check_layer_names,
    copy_of,
    run_alone,
)
from edgekit.compress.kernels import find_kernels
from edgekit.data.dataset import Dataset
from edgekit.schema.base import Document
from edgekit.schema.recipe import ModelSpec, TrainSpec

if TYPE_CHECKING:
    import keras


class FeaturePair(Document):
    """A layer of the student that learns to give what a layer of the teacher gives."""

    teacher: str
    student: str
    weight: float = Field(1.0, gt=0)


class DistillArgs(Document):
    """Arguments of `distill`."""

    teacher: ModelSpec = Field(
        description="a .keras file, or a model family that is trained first: {name, args}"
    )
    teacher_epochs: int | None = Field(
        None, ge=1, description="of training a teacher that is no file; by default train.epochs"
    )
    temperature: float = Field(3.0, gt=0, description="softens the outputs of both; for classes")
    alpha: float = Field(
        0.5, gt=0, le=1, description="weight of the teacher; the labels have 1 - alpha"
    )
    features: tuple[FeaturePair, ...] = Field(
        (), description="layers to match as well, by mean squared error"
    )
    epochs: int | None = Field(None, ge=1, description="by default train.epochs")
    learning_rate: float | None = Field(
        None, gt=0, description="by default a quarter of the training's"
    )
    batch_size: int | None = Field(None, ge=1, description="by default train.batch_size")

    @field_validator("teacher", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class Distill(Pass[DistillArgs]):
    """Trains the model, the student, on the outputs of a teacher and on the labels.

    What earlier passes gave stays: pruned weights are zero, clustered ones share their values.
    """

    name = "distill"
    Args = DistillArgs

    def requires(self, model: keras.Model, context: PassContext) -> None:
        """Checks that there is data, one output, and the layers that features name."""
        super().requires(model, context)
        if context.dataset is None or not len(context.dataset.train):
            raise PreconditionError("distillation needs training samples with labels")
        if len(model.outputs) != 1:
            raise PreconditionError(
                f"the model has {len(model.outputs)} outputs; distillation takes one"
            )
        _check_layers(model, [pair.student for pair in self.args.features], "student")

    def apply(self, model: keras.Model, context: PassContext) -> PassResult:
        """Trains a copy of the model."""
        from edgekit.training.evaluate import evaluate
        from edgekit.training.fit import fine_tune
        from edgekit.training.task import find_task

        dataset = context.dataset
        if dataset is None:  # `requires` holds; this tells the type checker
            raise PreconditionError("distillation needs training samples")
        teacher = self._teacher(context, dataset)
        _check_teacher(teacher, model)
        _check_layers(teacher, [pair.teacher for pair in self.args.features], "teacher")
        student = copy_of(model)
        self._check_features(teacher, student)
        metrics = {
            "teacher": evaluate(teacher, dataset.validation),
            "student_before": evaluate(student, dataset.validation),
        }
        warnings = _compare(metrics["teacher"], metrics["student_before"])
        for line in warnings:
            context.tell(f"distill: {line}")
        task = find_task(student, dataset.train.y, loss=context.train.loss, metrics=())
        classes = dataset.train.y.dtype.kind in "iu"
        result = fine_tune(
            _distiller(teacher, student, self.args, classes=classes),
            dataset,
            epochs=self.args.epochs or max(1, context.train.epochs),
            learning_rate=self.args.learning_rate or context.train.optimizer.learning_rate / 4,
            batch_size=self.args.batch_size or context.train.batch_size,
            seed=context.seed,
            loss=task.loss,
            callbacks=[constraints_of(student).callback()],
            progress=context.progress,
        )
        metrics["student"] = evaluate(student, dataset.validation)
        report = {
            "layers": _changes(model, student),
            "untreated": [],
            "teacher_parameters": teacher.count_params(),
            "student_parameters": student.count_params(),
            "metrics": metrics,
            "history": result.history,
            "warnings": warnings,
        }
        return PassResult(student, True, report)

    def ensures(self, before: keras.Model, result: PassResult, context: PassContext) -> None:
        """Checks that layers keep their names, and pruned and clustered weights what they have."""
        super().ensures(before, result, context)
        check_layer_names(before, result.model)
        constraints_of(before).check(result.model)

    def _teacher(self, context: PassContext, dataset: Dataset) -> keras.Model:
        from edgekit.models.build import build_model
        from edgekit.training.fit import fit

        spec = self.args.teacher
        teacher = build_model(
            spec,
            input_shapes=dataset.input_shapes,
            classes=dataset.classes,
            root=context.root,
            seed=context.seed,
        )
        if not spec.name.endswith((".keras", ".h5", ".hdf5")):
            epochs = self.args.teacher_epochs or max(1, context.train.epochs)
            train: TrainSpec = context.train.model_copy(update={"epochs": epochs})

            def progress(text: str, done: float = 0.0, total: float | None = None) -> None:
                context.progress(f"teacher: {text}", done, total)

            folder = context.directory / "teacher"
            fit(teacher, dataset, train, seed=context.seed, directory=folder, progress=progress)
        return teacher

    def _check_features(self, teacher: keras.Model, student: keras.Model) -> None:
        for pair in self.args.features:
            given = teacher.get_layer(pair.teacher).output.shape
            learnt = student.get_layer(pair.student).output.shape
            if given != learnt:
                raise PreconditionError(
                    f"'{pair.teacher}' of the teacher gives {tuple(given)}, "
                    f"'{pair.student}' of the student {tuple(learnt)}",
                    hint="features are matched between layers of one shape",
                )


def _check_teacher(teacher: keras.Model, student: keras.Model) -> None:
    given = [tuple(tensor.shape) for tensor in (*teacher.inputs, *teacher.outputs)]
    wanted = [tuple(tensor.shape) for tensor in (*student.inputs, *student.outputs)]
    if given != wanted:
        raise PreconditionError(
            f"the teacher's inputs and outputs {given} are not the student's {wanted}"
        )


def _check_layers(model: keras.Model, names: list[str], who: str) -> None:
    known = [layer.name for layer in model.layers]
    for name in names:
        if name not in known:
            raise PreconditionError(
                f"the {who} has no layer '{name}'", hint=did_you_mean(name, known)
            )


def _compare(teacher: dict[str, float], student: dict[str, float]) -> list[str]:
    """A warning where the teacher knows no more than the student."""
    best = teacher.get("accuracy"), student.get("accuracy")
    if best[0] is not None and best[1] is not None and best[0] < best[1]:
        return [
            f"the teacher's accuracy on the validation split ({best[0]:.3f}) is below the "
            f"student's ({best[1]:.3f}); it has little to teach"
        ]
    return []


def _changes(before: keras.Model, after: keras.Model) -> list[dict[str, Any]]:
    """How far the kernels of each layer moved, relative to their size."""
    changes = []
    for old, new in zip(find_kernels(before)[0], find_kernels(after)[0], strict=True):
        size = float(np.linalg.norm(old.values)) or 1.0
        moved = float(np.linalg.norm(new.values - old.values)) / size
        changes.append(
            {"layer": old.layer, "kind": old.kind, "weight": old.name, "relative_change": moved}
        )
    return changes


def _distiller(
    teacher: keras.Model, student: keras.Model, args: DistillArgs, *, classes: bool
) -> keras.Model:
    """A Keras distiller that shows its student's inputs and outputs as its own."""
    distillation = require("keras", purpose="to distill models").distillation

    class Distiller(distillation.Distiller):  # type: ignore[misc, name-defined]
        inputs = property(lambda self: self.student.inputs)
        outputs = property(lambda self: self.student.outputs)

    soft = (
        soft_targets(teacher, student, args.temperature)
        if classes
        else distillation.FeatureDistillation("mse")
    )
    features = [
        distillation.FeatureDistillation("mse", pair.teacher, pair.student)
        for pair in args.features
    ]
    return Distiller(
        _with_one_output(teacher),
        _with_one_output(student),
        [soft, *features],
        distillation_loss_weights=[1.0, *(pair.weight for pair in args.features)],
        student_loss_weight=1.0 - args.alpha,
    )


def _with_one_output(model: keras.Model) -> keras.Model:
    """The model with its output bare: in a list of one, as in files, features are not matched."""
    models = require("keras", purpose="to distill models").models
    return models.Model(model.inputs, model.outputs[0], name=model.name)


def soft_targets(teacher: keras.Model, student: keras.Model, temperature: float) -> Any:
    """The loss T^2 KL(softmax(z_teacher / T) || softmax(z_student / T)) of Hinton et al. 2015.

    Keras takes a model's outputs for the logits z. Here the logits are found first where a model
    ends in a softmax or in sigmoids: a softmax of logits and one of log probabilities are equal.
    """
    keras = require("keras", purpose="to distill models")
    of_teacher, of_student = _logits_of(teacher), _logits_of(student)

    class SoftTargets(keras.distillation.LogitsDistillation):  # type: ignore[misc, name-defined]
        def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **_: Any) -> Any:
            return super().compute_loss(of_teacher(teacher_outputs), of_student(student_outputs))

    # By its name alone Keras would take the divergence of the bare logits, without T^2.
    return SoftTargets(temperature, loss=keras.losses.KLDivergence())


def _logits_of(model: keras.Model) -> Any:
    """A function from a model's outputs to logits whose last axis is the classes."""
    from edgekit.training.task import last_activation

    ops = require("keras", purpose="to distill models").ops
    smallest = float(np.finfo(np.float32).tiny)
    activation = last_activation(model)
    one = model.outputs[0].shape[-1] == 1

    def log(probabilities: Any) -> Any:
        return ops.log(ops.maximum(probabilities, smallest))

    if activation == "softmax":
        return log
    if activation == "sigmoid":  # each output is a yes or no of its own
        return lambda values: ops.stack([log(values), log(1.0 - values)], axis=-1)
    if one:
        return lambda values: ops.stack([values, ops.zeros_like(values)], axis=-1)
    return lambda values: values


def distill(model: keras.Model, dataset: Dataset, *, teacher: Any, **options: Any) -> PassResult:
    """Trains a copy of `model` on the outputs of a teacher and on the labels.

    Args:
        model: the student, a functional or Sequential model with one output.
        dataset: to learn from.
        teacher: a .keras file, or the name of a model family, which is trained first; with
            arguments, `{"name": ..., "args": {...}}`.
        options: the fields of `DistillArgs`, and those of `PassContext` such as `train`.

    Raises:
        InputError: an argument that does not exist or does not fit.
        PreconditionError: the models or the data do not allow what is asked.
        ModelFileError: the teacher's file cannot be read.
    """
    return run_alone(Distill, model, dataset, {"teacher": teacher, **options})
