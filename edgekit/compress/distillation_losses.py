"""What a student learns from a teacher, as losses of `keras.distillation`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from edgekit.base.errors import PreconditionError, did_you_mean
from edgekit.base.extras import require
from edgekit.schema.base import Document

if TYPE_CHECKING:
    import keras

_ANGLES = 2.0  # weight of the angles where the distances have 1, as in the paper
_SMALL = 1e-12  # keeps square roots and quotients of zero finite


class FeaturePair(Document):
    """A layer of the student that learns from a layer of the teacher."""

    teacher: str
    student: str
    weight: float = Field(1.0, gt=0)
    kind: Literal["features", "attention", "relation"] = Field(
        "features",
        description="features: the values, through a learnt projection where the channels differ; "
        "attention: where the values are large; relation: how the samples of a batch lie to each "
        "other, for layers of any shape",
    )


def check_pairs(
    pairs: tuple[FeaturePair, ...], model: keras.Model, who: Literal["teacher", "student"]
) -> None:
    """Checks that the layers exist and have one output.

    Raises:
        PreconditionError: they do not.
    """
    for pair in pairs:
        name = getattr(pair, who)
        known = [layer.name for layer in model.layers]
        if name not in known:
            raise PreconditionError(
                f"the {who} has no layer '{name}'", hint=did_you_mean(name, known)
            )
        _shape_of(model, name, who)


def check_shapes(
    pairs: tuple[FeaturePair, ...], teacher: keras.Model, student: keras.Model
) -> None:
    """Checks that layers whose values or attention are matched have the same positions.

    Raises:
        PreconditionError: they have not.
    """
    for pair in pairs:
        given = _shape_of(teacher, pair.teacher, "teacher")
        learnt = _shape_of(student, pair.student, "student")
        maps = pair.kind != "attention" or len(given) > 2
        if pair.kind != "relation" and (given[:-1] != learnt[:-1] or not maps):
            raise PreconditionError(
                f"'{pair.teacher}' of the teacher gives {given}, "
                f"'{pair.student}' of the student {learnt}",
                hint=f"{pair.kind} are matched between layers of the same positions"
                + (", of which there are none" if not maps else "")
                + "; kind: relation takes any",
            )


def _shape_of(model: keras.Model, name: str, who: str) -> tuple[int | None, ...]:
    try:
        return tuple(model.get_layer(name).output.shape)
    except AttributeError:
        raise PreconditionError(
            f"'{name}' of the {who} has several outputs, or is shared by several places"
        ) from None


def pair_loss(pair: FeaturePair, teacher: keras.Model, student: keras.Model) -> Any:
    """The loss of one pair, a `FeatureDistillation`; its attribute `projection` may be trained.

    Features: the mean squared error, through a linear projection per position where the channels
    differ (Romero et al. 2015, FitNets). Attention: the squared distance of the normalized maps of
    squared activations (Zagoruyko and Komodakis 2017). Relation: the Huber loss of the distances
    between samples, and twice that of the angles (Park et al. 2019).
    """
    keras = require("keras", purpose="to distill models")
    given = _shape_of(teacher, pair.teacher, "teacher")
    learnt = _shape_of(student, pair.student, "student")
    projection = None
    if pair.kind == "features" and given != learnt:
        projection = keras.layers.Dense(given[-1], name="projection")
        projection.build(learnt)

    class PairLoss(keras.distillation.FeatureDistillation):  # type: ignore[misc, name-defined]
        def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **_: Any) -> Any:
            if pair.kind == "attention":
                return attention_loss(teacher_outputs, student_outputs)
            if pair.kind == "relation":
                return relation_loss(teacher_outputs, student_outputs)
            if projection is not None:
                student_outputs = projection(student_outputs)
            return super().compute_loss(teacher_outputs, student_outputs)

    loss = PairLoss("mse", pair.teacher, pair.student)
    loss.projection = projection
    return loss


def attention_loss(teacher: Any, student: Any) -> Any:
    """The squared distance of two normalized attention maps, mean over samples.

    Args:
        teacher: features of shape (n, ..., channels).
        student: features of the same positions; the channels may differ.
    """
    ops = require("keras", purpose="to distill models").ops

    def attention(features: Any) -> Any:
        flat = ops.reshape(ops.mean(ops.square(features), axis=-1), (ops.shape(features)[0], -1))
        length = ops.sqrt(ops.sum(ops.square(flat), axis=-1, keepdims=True) + _SMALL)
        return flat / length

    difference = attention(teacher) - attention(student)
    return ops.mean(ops.sum(ops.square(difference), axis=-1))


def relation_loss(teacher: Any, student: Any) -> Any:
    """Distances and angles between the samples of a batch, of teacher and student.

    Args:
        teacher: features of shape (n, ...).
        student: features of shape (n, ...), of any other size.
    """
    keras = require("keras", purpose="to distill models")
    huber, ops = keras.losses.Huber(), keras.ops

    def relations(features: Any) -> tuple[Any, Any]:
        rows = ops.reshape(features, (ops.shape(features)[0], -1))
        differences = rows[:, None] - rows[None]
        squares = ops.sum(ops.square(differences), axis=-1)
        distances = ops.sqrt(squares + _SMALL)
        others = ops.cast(squares > 0, distances.dtype)
        mean = ops.sum(distances * others) / ops.maximum(ops.sum(others), 1)
        units = differences / distances[..., None]
        return distances * others / (mean + _SMALL), ops.einsum("jia,kia->ijk", units, units)

    (near, angles), (near_s, angles_s) = relations(teacher), relations(student)
    flat = [ops.reshape(one, (-1, 1)) for one in (near, near_s, angles, angles_s)]
    return huber(flat[0], flat[1]) + _ANGLES * huber(flat[2], flat[3])


def output_loss(
    teacher: keras.Model, student: keras.Model, temperature: float, *, classes: bool
) -> Any:
    """The loss of the outputs, summed up over them.

    Args:
        teacher: a model.
        student: a model with outputs of the same shapes.
        temperature: of outputs that are classes.
        classes: whether an output without a softmax or sigmoid is logits, and not a value.
    """
    keras = require("keras", purpose="to distill models")
    if len(student.outputs) == 1:
        return _one_output_loss(teacher, student, temperature, classes=classes)
    losses = [
        _one_output_loss(alone(teacher, number), alone(student, number), temperature,
                         classes=classes)
        for number in range(len(student.outputs))
    ]  # fmt: skip

    class OutputsDistillation(keras.distillation.DistillationLoss):  # type: ignore[misc, name-defined]
        def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **_: Any) -> Any:
            triples = zip(losses, teacher_outputs, student_outputs, strict=True)
            return sum(loss.compute_loss(given, learnt) for loss, given, learnt in triples)

    return OutputsDistillation()


def alone(model: keras.Model, number: int) -> keras.Model:
    """The model with one of its outputs."""
    models = require("keras", purpose="to distill models").models
    return models.Model(model.inputs, model.outputs[number], name=model.name)


def _one_output_loss(
    teacher: keras.Model, student: keras.Model, temperature: float, *, classes: bool
) -> Any:
    from edgekit.training.task import last_activation

    keras = require("keras", purpose="to distill models")
    if classes or last_activation(student) in ("softmax", "sigmoid"):
        return soft_targets(teacher, student, temperature)
    return keras.distillation.FeatureDistillation("mse")


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
