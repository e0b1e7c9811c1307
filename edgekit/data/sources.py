"""From a recipe's `data:` to a dataset: load, check, split, preprocess."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.base.errors import DataError
from edgekit.base.registry import Registry
from edgekit.data.checks import check_samples, to_targets
from edgekit.data.dataset import SPLITS, Arrays, Dataset, Split
from edgekit.data.preprocess import preprocess
from edgekit.data.raw import RawData, Samples, Source
from edgekit.data.splits import Indices, split_indices
from edgekit.schema.artifact import Preprocessing
from edgekit.schema.recipe import DataSpec
from edgekit.schema.yamlfile import YamlSource, validate_data

SOURCES: Registry[Source] = Registry(
    "data source",
    {
        "csv": "edgekit.data.formats.csv_file:SOURCE",
        "digits": "edgekit.data.formats.digits:SOURCE",
        "image_folder": "edgekit.data.formats.image_folder:SOURCE",
        "keras": "edgekit.data.formats.keras_datasets:SOURCE",
        "keywords": "edgekit.data.formats.keywords:SOURCE",
        "machine": "edgekit.data.formats.machine:SOURCE",
        "motion": "edgekit.data.formats.motion:SOURCE",
        "npz": "edgekit.data.formats.npz:SOURCE",
        "shapes": "edgekit.data.formats.shapes:SOURCE",
    },
    group="datasets",
)

_IMAGE_AXES = 4


def load_dataset(
    spec: DataSpec, *, seed: int, root: Path, source: YamlSource | None = None
) -> Dataset:
    """Loads, checks, splits and preprocesses the data that a recipe names.

    Args:
        spec: the recipe's `data:`.
        seed: of the splits.
        root: folder that relative paths start from.
        source: the recipe's text, to name the place of a fault.

    Returns:
        The dataset. One input is named "x". With several inputs the preprocessing applies to those
        that are images (height, width, channels); the others are only cast, floats to float32 and
        integers to int32. Data without labels has its own input as the target.

    Raises:
        DataError: the source or its options are unknown, or the data cannot be used.
    """
    raw = read_raw(spec, root=root, source=source)
    count = check_samples(raw.x, raw.y, spec.source)
    preprocessing = _with_size(spec.preprocess, raw.size, spec.source)
    y: NDArray[Any] | None = None
    labels: tuple[str, ...] = ()
    if raw.y is not None:
        y, labels = to_targets(raw.y, spec.labels or raw.labels, spec.source)
    parts = split_indices(
        np.arange(count) if y is None else y,
        spec.splits,
        seed=seed,
        stratify=bool(labels),
        test=raw.test,
        limit=spec.limit,
        where=spec.source,
    )
    splits = {name: _split(raw, y, parts[name], preprocessing, spec.source) for name in SPLITS}
    return Dataset(**splits, labels=labels, preprocessing=preprocessing)


def find_source(text: str, where: str) -> tuple[Source, str]:
    """The source that a recipe names, and what stands behind its name.

    Raises:
        InputError: there is no such source.
        DataError: it takes nothing behind its name, or lacks what it takes.
    """
    name, colon, argument = text.partition(":")
    kind = SOURCES.get(name, where=where)
    if kind.argument is None and colon:
        raise DataError(f"'{name}' takes nothing after its name", where=text)
    if kind.argument is not None and not argument:
        raise DataError(f"is written {name}:{kind.argument}", where=text)
    return kind, argument


def read_raw(spec: DataSpec, *, root: Path, source: YamlSource | None = None) -> RawData:
    """The samples as the source holds them.

    Raises:
        DataError: the source or its options are unknown, or it cannot be read.
    """
    where = source.where(("data", "source")) if source else "data.source"
    kind, argument = find_source(spec.source, where)
    text = source or YamlSource("data.options", spec.options)
    at = ("data", "options") if source else ()
    options = validate_data(kind.options, spec.options, text, DataError, at)
    raw = kind.load(argument, options, root)
    return raw if options.target == "labels" else replace(raw, y=None)


def _with_size(spec: Preprocessing, size: tuple[int, int] | None, where: str) -> Preprocessing:
    if size is None or spec.resize == size:
        return spec
    if spec.resize is not None:
        raise DataError(
            f"options.size is {list(size)}, but preprocess.resize is {list(spec.resize)}",
            where=where,
            hint="give one of them",
        )
    return spec.model_copy(update={"resize": size})


def _split(
    raw: RawData, y: NDArray[Any] | None, indices: Indices, spec: Preprocessing, where: str
) -> Split:
    several = len(raw.x) > 1
    x: Arrays = {}
    for name, samples in raw.x.items():
        chosen = _pick(samples, indices)
        own = spec if not several or _are_images(chosen) else _cast_only(chosen)
        x[name] = preprocess(chosen, own, where=f"{where}: {name}" if several else where)
    if y is not None:
        return Split(x, y[indices])
    if several:
        raise DataError("data without labels must have one input, its own target", where=where)
    return Split(x, x["x"].copy())


def _pick(samples: Samples, indices: Indices) -> Samples:
    return samples[indices] if not isinstance(samples, list) else [samples[i] for i in indices]


def _are_images(samples: Samples) -> bool:
    return isinstance(samples, list) or samples.ndim == _IMAGE_AXES


def _cast_only(samples: Samples) -> Preprocessing:
    integers = not isinstance(samples, list) and samples.dtype.kind in "iu"
    return Preprocessing(dtype="int32" if integers else "float32")
