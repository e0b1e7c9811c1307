"""Seeded, disjoint splits, stratified where the labels are classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.base.errors import DataError
from edgekit.data.dataset import SPLITS
from edgekit.schema.recipe import Splits

Indices = NDArray[np.int64]


def stratified_order(groups: NDArray[Any], generator: np.random.Generator) -> Indices:
    """A random order in which every run of samples holds each group in its share.

    Each sample of a group of n gets one of n equal steps of 0 to 1 at random; sorting by that
    spreads every group evenly, so that any slice is stratified to within one sample a cut.
    """
    position = np.empty(len(groups))
    for group in np.unique(groups):
        (members,) = np.nonzero(groups == group)
        steps = generator.permutation(len(members))
        position[members] = (steps + generator.random(len(members))) / len(members)
    return np.argsort(position, kind="stable")


def split_indices(
    y: NDArray[Any],
    splits: Splits,
    *,
    seed: int,
    stratify: bool,
    test: NDArray[np.bool_] | None = None,
    limit: int | None = None,
    where: str = "data",
) -> dict[str, Indices]:
    """Indices of the samples of each split.

    Args:
        y: classes of shape (n,), or any targets of n rows if `stratify` is off.
        splits: shares of all samples.
        seed: the same seed gives the same splits.
        stratify: whether each split keeps the shares of the classes.
        test: mask of the samples that the source sets aside for testing; these become the test
            split, and the other splits share the rest in their proportions.
        limit: use at most this many samples.
        where: for messages.

    Raises:
        DataError: too few samples to give each split one, and train one of each class.
    """
    generator = np.random.default_rng(seed)
    groups = y if stratify else np.zeros(len(y), np.int32)
    order = stratified_order(groups, generator)
    if test is None:
        parts = _cut(order[:limit], {name: getattr(splits, name) for name in SPLITS})
    else:
        share = splits.test
        rest = {name: getattr(splits, name) / (1 - share) for name in SPLITS if name != "test"}
        most = len(y) if limit is None else limit
        parts = _cut(order[~test[order]][: round(most * (1 - share))], rest)
        parts["test"] = order[test[order]][: round(most * share) if limit else None]
    _check(parts, y, stratify=stratify, where=where)
    return parts


def _cut(order: Indices, shares: dict[str, float]) -> dict[str, Indices]:
    ends = np.round(np.cumsum(list(shares.values())) * len(order)).astype(int)
    starts = [0, *ends[:-1]]
    return {name: order[a:b] for name, a, b in zip(shares, starts, ends, strict=True)}


def _check(parts: dict[str, Indices], y: NDArray[Any], *, stratify: bool, where: str) -> None:
    sizes = {name: len(indices) for name, indices in parts.items()}
    described = ", ".join(f"{name} {size}" for name, size in sizes.items())
    if not all(sizes.values()):
        raise DataError(
            f"too few samples for the splits ({described})",
            where=where,
            hint="add samples, or change data.splits",
        )
    if stratify:
        missing = np.setdiff1d(y, y[parts["train"]])
        if len(missing):
            raise DataError(
                f"too few samples for the splits: class {missing[0]} has none to train on "
                f"({described})",
                where=where,
                hint="add samples of it, or change data.splits",
            )
