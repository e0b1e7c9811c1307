"""Which layers a pass treats, and its fine-tuning: what passes that change weights share."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import AfterValidator, Field

from edgekit.base.errors import PreconditionError, did_you_mean
from edgekit.compress.contract import PassContext
from edgekit.compress.kernels import Untreated
from edgekit.schema.base import Document
from edgekit.schema.recipe import ScheduleSpec

if TYPE_CHECKING:
    import keras


def _check_shares(shares: dict[str, float]) -> dict[str, float]:
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise ValueError(f"'{name}' must be at least 0 and less than 1")
    return shares


# Layer name or pattern to a share of what the pass takes away from it.
LayerShares = Annotated[dict[str, float], AfterValidator(_check_shares)]


class TuneArgs(Document):
    """Arguments of all passes that choose layers and fine-tune."""

    skip: tuple[str, ...] = Field((), description="layers to leave alone; * and ? match")
    strict: bool = Field(False, description="a layer that cannot be treated is an error")
    epochs: int | None = Field(
        None, ge=0, description="of fine-tuning; 0: one shot; by default a quarter of train.epochs"
    )
    learning_rate: float | None = Field(
        None, gt=0, description="of fine-tuning; by default a quarter of the training's"
    )
    batch_size: int | None = Field(None, ge=1, description="by default train.batch_size")

    def skips(self, layer: str) -> bool:
        """Whether the layer is to be left alone."""
        return matches(layer, self.skip)

    def rate_share(self) -> float:
        """The default learning rate, as a share of the training's."""
        return 0.25


def matches(layer: str, patterns: Iterable[str]) -> bool:
    """Whether a name matches one of some patterns."""
    return any(fnmatchcase(layer, pattern) for pattern in patterns)


def check_patterns(patterns: Iterable[str], names: Iterable[str]) -> None:
    """Checks that each pattern names a layer.

    Raises:
        PreconditionError: one names none.
    """
    known = set(names)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise PreconditionError(
                f"no layer with weights is named '{pattern}'", hint=did_you_mean(pattern, known)
            )


def check_strict(args: TuneArgs, untreated: Iterable[Untreated], done: str) -> None:
    """Refuses layers that cannot be treated, where that is asked for.

    Args:
        args: of the pass.
        untreated: the layers, with the reasons.
        done: what cannot be done to them, as "pruned".

    Raises:
        PreconditionError: `args.strict`, and there are some that are not skipped.
    """
    refused = [item for item in untreated if not args.skips(item.layer)]
    if refused and args.strict:
        listed = "; ".join(f"{item.layer} ({item.kind}): {item.reason}" for item in refused)
        raise PreconditionError(
            f"layers that cannot be {done}: {listed}", hint="put them under 'skip'"
        )


def check_data(args: TuneArgs, context: PassContext, alone: str) -> None:
    """Checks that there is data if fine-tuning is asked for.

    Args:
        args: of the pass.
        context: with the data.
        alone: what the pass does without data, as "prune in one shot".

    Raises:
        PreconditionError: there is none.
    """
    if args.epochs and not _can_train(context):
        raise PreconditionError(
            f"{args.epochs} epochs of fine-tuning need training samples with labels",
            hint=f"give labelled data, or epochs: 0 to {alone}",
        )


def untreated_rows(
    args: TuneArgs, untreated: Iterable[Untreated], names: Iterable[str]
) -> list[dict[str, str]]:
    """What was not treated, and why, for the report; `names` are those of all treatable layers."""
    return [
        {"layer": item.layer, "kind": item.kind, "reason": item.reason} for item in untreated
    ] + [
        {"layer": name, "reason": "skipped as asked"}
        for name in sorted(set(names))
        if args.skips(name)
    ]


def epochs_of(args: TuneArgs, context: PassContext) -> int:
    """How many epochs of fine-tuning there will be; 0 without data."""
    if not _can_train(context):
        return 0
    return max(1, context.train.epochs // 4) if args.epochs is None else args.epochs


def tune(
    model: keras.Model,
    args: TuneArgs,
    context: PassContext,
    callbacks: Sequence[keras.callbacks.Callback],
    *,
    schedule: ScheduleSpec | None = None,
) -> dict[str, list[float]]:
    """Fine-tunes a model in place, if there is data and it is asked for.

    Returns:
        One value an epoch, by metric; empty without fine-tuning.
    """
    epochs, dataset = epochs_of(args, context), context.dataset
    if not epochs or dataset is None:
        return {}
    from edgekit.training.fit import fine_tune

    return fine_tune(
        model,
        dataset,
        epochs=epochs,
        learning_rate=args.learning_rate
        or args.rate_share() * context.train.optimizer.learning_rate,
        batch_size=args.batch_size or context.train.batch_size,
        seed=context.seed,
        loss=context.train.loss,
        callbacks=callbacks,
        progress=context.progress,
        schedule=schedule,
        augment=context.train.augment,
    ).history


def _can_train(context: PassContext) -> bool:
    return context.dataset is not None and len(context.dataset.train) > 0


def gzip_bytes(model: keras.Model) -> int:
    """Size of all weights, in their own dtypes, after gzip."""
    content = b"".join(np.ascontiguousarray(weight).tobytes() for weight in model.get_weights())
    return len(gzip.compress(content, compresslevel=6, mtime=0))
