"""`cluster`: few values in each kernel (Han, Mao and Dally 2016, "Deep Compression")."""

from __future__ import annotations

import math
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from edgekit.base.errors import PostconditionError
from edgekit.base.extras import require
from edgekit.compress.constraints import (
    MOST_CLUSTERS,
    by_channel,
    constraints_of,
    distinct,
)
from edgekit.compress.contract import (
    Pass,
    PassContext,
    PassResult,
    check_layer_names,
    copy_of,
    run_alone,
)
from edgekit.compress.finetuning import (
    TuneArgs,
    check_data,
    check_patterns,
    check_strict,
    gzip_bytes,
    tune,
    untreated_rows,
)
from edgekit.compress.kernels import Kernel, Untreated, find_kernels
from edgekit.data.dataset import Dataset

if TYPE_CHECKING:
    import keras

Values = NDArray[Any]

_SETTLED = 1e-6  # change of the mean distance, in standard deviations, at which k-means ends


class ClusterArgs(TuneArgs):
    """Arguments of `cluster`."""

    clusters: int = Field(
        16, ge=1, le=MOST_CLUSTERS, description="values in a codebook; zero comes on top"
    )
    per: Literal["layer", "channel"] = Field(
        "layer", description="what has a codebook of its own; channel means output channel"
    )
    layers: dict[str, int] = Field(
        default_factory=dict, description="clusters by layer name; * and ? match"
    )

    @field_validator("layers")
    @classmethod
    def _counts(cls, value: dict[str, int]) -> dict[str, int]:
        for name, clusters in value.items():
            if not 1 <= clusters <= MOST_CLUSTERS:
                raise ValueError(f"'{name}' must be from 1 to {MOST_CLUSTERS}")
        return value

    def clusters_of(self, layer: str) -> int:
        """The values that a codebook of the layer may have."""
        found = (count for pattern, count in self.layers.items() if fnmatchcase(layer, pattern))
        return next(found, self.clusters)


class Cluster(Pass[ClusterArgs]):
    """Gives the weights of each kernel a few values, found by k-means; zeros stay zero.

    Fine-tuning moves the values and keeps which weight has which.
    """

    name = "cluster"
    Args = ClusterArgs

    def requires(self, model: keras.Model, context: PassContext) -> None:
        """Checks that named layers exist, and that there is data if fine-tuning is asked for."""
        super().requires(model, context)
        _, untreated = self._chosen(model)
        names = {one.layer for one in find_kernels(model)[0]} | {one.layer for one in untreated}
        check_patterns((*self.args.layers, *self.args.skip), names)
        check_strict(self.args, untreated, "clustered")
        check_data(self.args, context, "cluster in one shot")

    def apply(self, model: keras.Model, context: PassContext) -> PassResult:
        """Clusters a copy of the model."""
        copy = copy_of(model)
        chosen, untreated = self._chosen(copy)
        before = [kernel.values for kernel in chosen]
        for kernel in chosen:
            kernel.variable.assign(self._clustered(kernel))
        history = tune(copy, self.args, context, [constraints_of(copy).callback()])
        modified = bool(history) or any(
            not np.array_equal(old, kernel.values)
            for old, kernel in zip(before, chosen, strict=True)
        )
        rows = [self._row(kernel, old) for kernel, old in zip(chosen, before, strict=True)]
        report = {
            "layers": rows,
            "untreated": untreated_rows(
                self.args, untreated, (k.layer for k in find_kernels(copy)[0])
            ),
            "codebook_bytes": sum(row["codebook_bytes"] for row in rows),
            "coded_bytes": sum(row["coded_bytes"] for row in rows),
            "gzip_bytes_before": gzip_bytes(model),
            "gzip_bytes": gzip_bytes(copy),
            "history": history,
        }
        return PassResult(copy if modified else model, modified, report)

    def ensures(self, before: keras.Model, result: PassResult, context: PassContext) -> None:
        """Checks that values are few, zeros zero, and layers have their names."""
        super().ensures(before, result, context)
        check_layer_names(before, result.model)
        old = {(kernel.layer, kernel.name): kernel.values for kernel in find_kernels(before)[0]}
        for kernel in self._chosen(before)[0]:
            new = next(
                one
                for one in find_kernels(result.model)[0]
                if (one.layer, one.name) == (kernel.layer, kernel.name)
            )
            most = self.args.clusters_of(kernel.layer)
            values = max(distinct(book) for book in self._books(new))
            if values > most:
                raise PostconditionError(
                    f"{values} values in a codebook, {most} were asked for", where=kernel.layer
                )
            if np.any(new.values[old[kernel.layer, kernel.name] == 0]):
                raise PostconditionError("weights that were zero are not", where=kernel.layer)

    def _books(self, kernel: Kernel) -> Values:
        """The weights that share a codebook, a row each."""
        if self.args.per == "channel":
            return by_channel(kernel.values, kernel.channels)
        return kernel.values.reshape(1, -1)

    def _chosen(self, model: keras.Model) -> tuple[list[Kernel], list[Untreated]]:
        """The kernels to cluster, and what cannot be clustered."""
        kernels, untreated = find_kernels(model)
        chosen = []
        for kernel in kernels:
            if self.args.skips(kernel.layer):
                continue
            books = self._books(kernel)
            weights = int(np.count_nonzero(books))
            clusters = self.args.clusters_of(kernel.layer)
            if 2 * clusters * len(books) <= weights:
                chosen.append(kernel)
            else:
                reason = (
                    f"{len(books)} codebook{'s' * (len(books) > 1)} of {clusters} values would "
                    f"not pay for the {weights} weights of its {kernel.name} that are not zero"
                )
                untreated.append(Untreated(kernel.layer, kernel.kind, reason))
        return chosen, untreated

    def _clustered(self, kernel: Kernel) -> Values:
        clusters = self.args.clusters_of(kernel.layer)
        if self.args.per == "layer":
            return nearest_centroids(kernel.values, clusters)
        channels = tuple(range(len(kernel.channels)))
        moved = np.moveaxis(kernel.values, kernel.channels, channels)
        rows = np.stack([nearest_centroids(row, clusters) for row in self._books(kernel)])
        return np.moveaxis(rows.reshape(moved.shape), channels, kernel.channels)

    def _row(self, kernel: Kernel, before: Values) -> dict[str, Any]:
        books = self._books(kernel)
        sizes = [distinct(book) for book in books]
        codebook_bytes = sum(sizes) * kernel.values.itemsize
        return {
            "layer": kernel.layer,
            "kind": kernel.kind,
            "weight": kernel.name,
            "weights": kernel.size,
            "clusters": max(sizes),
            "relative_change": _relative_change(before, kernel.values),
            "codebook_bytes": codebook_bytes,
            "coded_bytes": codebook_bytes + _code_bytes(books),
        }


def nearest_centroids(values: Values, clusters: int) -> Values:
    """The values with each replaced by the nearest of a few, found by k-means; zeros stay zero.

    The centroids start evenly spread from the smallest to the largest value, which keeps the rare
    large weights best (Han et al. 2016, section 3.2), and so nothing is random.

    Args:
        values: weights of any shape.
        clusters: the most centroids, zero not counted.
    """
    cluster = require("scipy.cluster.vq", purpose="to cluster weights")
    alive = values != 0
    weights = values[alive].astype(np.float64)
    found = np.unique(weights)
    if found.size <= clusters:
        return values.copy()
    spread = weights.std()
    points = (weights / spread)[:, None]
    book = points.mean(keepdims=True)
    if clusters > 1:
        start = np.linspace(points.min(), points.max(), clusters)[:, None]
        book, _ = cluster.kmeans(points, start, thresh=_SETTLED)
    codes, _ = cluster.vq(points, book)
    result = values.copy()
    result[alive] = (book[codes, 0] * spread).astype(values.dtype)
    return result


def _code_bytes(books: Values) -> int:
    """Bytes of the codes alone: each as many bits as tell the values of its codebook apart."""
    bits = sum(int(book.size) * (int(np.unique(book).size) - 1).bit_length() for book in books)
    return math.ceil(bits / 8)


def _relative_change(before: Values, after: Values) -> float:
    size = float(np.linalg.norm(before)) or 1.0
    return float(np.linalg.norm(after - before)) / size


def cluster(model: keras.Model, dataset: Dataset | None = None, **options: Any) -> PassResult:
    """Clusters the weights of a copy of `model`; in one shot without a dataset.

    Args:
        model: a functional or Sequential model.
        dataset: to fine-tune on.
        options: the fields of `ClusterArgs`, and those of `PassContext` such as `train`.

    Raises:
        InputError: an argument that does not exist or does not fit.
        PreconditionError: the model or the data do not allow what is asked.
    """
    return run_alone(Cluster, model, dataset, options)
