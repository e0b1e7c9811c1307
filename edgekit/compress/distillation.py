"""`distill`: knowledge distillation (Hinton, Vinyals and Dean 2015) on `keras.distillation`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, field_validator

from edgekit.base.errors import PreconditionError
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
from edgekit.compress.distillation_losses import (
    FeaturePair,
    alone,
    check_pairs,
    check_shapes,
    output_loss,
    pair_loss,
)
from edgekit.compress.kernels import find_kernels
from edgekit.data.dataset import Dataset, Split
from edgekit.schema.base import Document
from edgekit.schema.recipe import ModelSpec, TrainSpec

if TYPE_CHECKING:
    import keras


class DistillArgs(Document):
    """Arguments of `distill`."""

    teacher: tuple[ModelSpec, ...] = Field(
        min_length=1,
        description="a .keras file, or a model family that is trained first: {name, args}; "
        "of several, the mean of the outputs is learnt",
    )
    teacher_epochs: int | None = Field(
        None, ge=1, description="of training a teacher that is no file; by default train.epochs"
    )
    temperature: float = Field(3.0, gt=0, description="softens the outputs of both; for classes")
    alpha: float = Field(
        0.5, gt=0, le=1, description="weight of the teacher; the labels have 1 - alpha"
    )
    features: tuple[FeaturePair, ...] = Field(
        (), description="layers to match as well; of several teachers, those of the first"
    )
    epochs: int | None = Field(None, ge=1, description="by default train.epochs")
    learning_rate: float | None = Field(
        None, gt=0, description="by default a quarter of the training's"
    )
    batch_size: int | None = Field(None, ge=1, description="by default train.batch_size")

    @field_validator("teacher", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return value if isinstance(value, (list, tuple)) else [value]


class Distill(Pass[DistillArgs]):
    """Trains the model, the student, on the outputs of a teacher and on the labels.

    What earlier passes gave stays: pruned weights are zero, clustered ones share their values.
    """

    name = "distill"
    Args = DistillArgs

    def requires(self, model: keras.Model, context: PassContext) -> None:
        """Checks that there is data for all outputs, and the layers that features name."""
        super().requires(model, context)
        if context.dataset is None or not len(context.dataset.train):
            raise PreconditionError("distillation needs training samples with labels")
        if len(model.outputs) != 1 and self.args.alpha != 1:
            raise PreconditionError(
                f"the model has {len(model.outputs)} outputs, and labels are for one",
                hint="alpha: 1 learns from the teacher alone",
            )
        check_pairs(self.args.features, model, "student")

    def apply(self, model: keras.Model, context: PassContext) -> PassResult:
        """Trains a copy of the model."""
        from edgekit.training.fit import fine_tune
        from edgekit.training.task import find_task

        dataset = context.dataset
        if dataset is None:  # `requires` holds; this tells the type checker
            raise PreconditionError("distillation needs training samples")
        teachers = [self._teacher(number, context, dataset) for number in range(self._count)]
        for one in teachers:
            _check_teacher(one, model)
        teacher = _mean_of(teachers)
        check_pairs(self.args.features, teacher, "teacher")
        student = copy_of(model)
        check_shapes(self.args.features, teacher, student)
        if len(student.outputs) > 1:
            dataset = without_labels(dataset, student)
        metrics = {
            "teacher": _measure(teacher, teacher, dataset),
            "student_before": _measure(student, teacher, dataset),
        }
        warnings = _compare(metrics["teacher"], metrics["student_before"])
        for line in warnings:
            context.tell(f"distill: {line}")
        loss = context.train.loss if len(student.outputs) == 1 else "mse"  # which weighs nothing
        task = find_task(student, dataset.train.y, loss=loss, metrics=())
        classes = dataset.train.y.dtype.kind in "iu"
        result = fine_tune(
            distiller(
                teacher,
                teachers[0],
                student,
                alpha=self.args.alpha,
                temperature=self.args.temperature,
                classes=classes,
                features=self.args.features,
            ),
            dataset,
            epochs=self.args.epochs or max(1, context.train.epochs),
            learning_rate=self.args.learning_rate or context.train.optimizer.learning_rate / 4,
            batch_size=self.args.batch_size or context.train.batch_size,
            seed=context.seed,
            loss=task.loss,
            callbacks=[constraints_of(student).callback()],
            progress=context.progress,
            augment=context.train.augment,
        )
        metrics["student"] = _measure(student, teacher, dataset)
        report = {
            "layers": _changes(model, student),
            "untreated": [],
            "teacher_parameters": sum(one.count_params() for one in teachers),
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

    @property
    def _count(self) -> int:
        return len(self.args.teacher)

    def _teacher(self, number: int, context: PassContext, dataset: Dataset) -> keras.Model:
        from edgekit.models.build import build_model
        from edgekit.training.fit import fit

        spec, seed = self.args.teacher[number], context.seed + number
        teacher = build_model(
            spec,
            input_shapes=dataset.input_shapes,
            classes=dataset.classes,
            root=context.root,
            seed=seed,
        )
        if not spec.name.endswith((".keras", ".h5", ".hdf5")):
            epochs = self.args.teacher_epochs or max(1, context.train.epochs)
            train: TrainSpec = context.train.model_copy(update={"epochs": epochs})
            who = "teacher" if self._count == 1 else f"teacher {number + 1}"

            def progress(text: str, done: float = 0.0, total: float | None = None) -> None:
                context.progress(f"{who}: {text}", done, total)

            folder = context.directory / who.replace(" ", "-")
            fit(teacher, dataset, train, seed=seed, directory=folder, progress=progress)
        return teacher


def _check_teacher(teacher: keras.Model, student: keras.Model) -> None:
    given = [tuple(tensor.shape) for tensor in (*teacher.inputs, *teacher.outputs)]
    wanted = [tuple(tensor.shape) for tensor in (*student.inputs, *student.outputs)]
    if given != wanted:
        raise PreconditionError(
            f"the teacher's inputs and outputs {given} are not the student's {wanted}"
        )


def _mean_of(teachers: list[keras.Model]) -> keras.Model:
    """One model of the mean outputs, with the layers of the first."""
    from edgekit.training.task import last_activation

    if len(teachers) == 1:
        return teachers[0]
    keras = require("keras", purpose="to distill models")
    first, *others = teachers
    for number in range(len(first.outputs)):
        kinds = {last_activation(alone(one, number)) for one in teachers}
        if len(kinds) > 1:
            raise PreconditionError(
                f"the teachers end in different activations: {', '.join(sorted(kinds))}",
                hint="the mean of their outputs would mean nothing",
            )
    given = [first.outputs]
    for number, one in enumerate(others):
        named = keras.Model(one.inputs, list(one.outputs), name=f"teacher_{number + 2}")
        given.append(keras.tree.flatten(named(first.inputs)))
    means = [keras.layers.Average()(list(tensors)) for tensors in zip(*given, strict=True)]
    return keras.Model(first.inputs, means, name=first.name)


def without_labels(dataset: Dataset, model: keras.Model) -> Dataset:
    """The dataset for a model of several outputs that learns from a teacher alone.

    The labels are zeros of the first output's shape: nothing learns from them.
    """

    def split(one: Split) -> Split:
        shape = (len(one), *(size or 1 for size in model.outputs[0].shape[1:]))
        return Split(one.x, np.zeros(shape, np.float32))

    return replace(
        dataset, train=split(dataset.train), validation=split(dataset.validation), labels=()
    )


def _measure(model: keras.Model, teacher: keras.Model, dataset: Dataset) -> dict[str, float]:
    """Metrics on the validation split; of several outputs, how far they are from the teacher's."""
    from edgekit.training.evaluate import evaluate, record_outputs

    if len(model.outputs) == 1:
        return evaluate(model, dataset.validation)
    found = {}
    for number in range(len(model.outputs)):
        own, given = (
            next(iter(record_outputs(alone(one, number), dataset.validation.x).values()))
            for one in (model, teacher)
        )
        found[f"mse_{number}"] = float(np.mean((own - given) ** 2))
    return found


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


def distiller(
    teacher: keras.Model,
    outputs_of: keras.Model,
    student: keras.Model,
    *,
    alpha: float,
    temperature: float,
    classes: bool,
    features: tuple[FeaturePair, ...] = (),
) -> keras.Model:
    """A Keras distiller that shows its student's inputs and outputs as its own.

    Args:
        teacher: whose outputs and layers are learnt.
        outputs_of: a model with outputs of the same kind, which tells what they are.
        student: learns.
        alpha: weight of the teacher; the labels have 1 - alpha.
        temperature: of outputs that are classes.
        classes: whether an output without a softmax or sigmoid is logits, and not a value.
        features: layers to match as well.
    """
    distillation = require("keras", purpose="to distill models").distillation

    class Distiller(distillation.Distiller):  # type: ignore[misc, name-defined]
        inputs = property(lambda self: self.student.inputs)
        outputs = property(lambda self: self.student.outputs)

    pairs = [pair_loss(pair, teacher, student) for pair in features]
    made = Distiller(
        _with_bare_output(teacher),
        _with_bare_output(student),
        [output_loss(outputs_of, student, temperature, classes=classes), *pairs],
        distillation_loss_weights=[1.0, *(pair.weight for pair in features)],
        student_loss_weight=1.0 - alpha,
    )
    made.projections = [loss.projection for loss in pairs if loss.projection is not None]
    return made


def _with_bare_output(model: keras.Model) -> keras.Model:
    """The model with a single output bare: in a list, as in files, features are not matched."""
    models = require("keras", purpose="to distill models").models
    outputs = model.outputs[0] if len(model.outputs) == 1 else list(model.outputs)
    return models.Model(model.inputs, outputs, name=model.name)


def distill(model: keras.Model, dataset: Dataset, *, teacher: Any, **options: Any) -> PassResult:
    """Trains a copy of `model` on the outputs of a teacher and on the labels.

    Args:
        model: the student, a functional or Sequential model.
        dataset: to learn from.
        teacher: a .keras file, or the name of a model family, which is trained first; with
            arguments, `{"name": ..., "args": {...}}`; or a list of those.
        options: the fields of `DistillArgs`, and those of `PassContext` such as `train`.

    Raises:
        InputError: an argument that does not exist or does not fit.
        PreconditionError: the models or the data do not allow what is asked.
        ModelFileError: the teacher's file cannot be read.
    """
    return run_alone(Distill, model, dataset, {"teacher": teacher, **options})
