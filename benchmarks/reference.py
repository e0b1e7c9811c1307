"""The reference networks of the benchmarks: each trained once, then read from its folder.

    python benchmarks/reference.py --folder DIR [--seeds 3] [--networks resnet8 ...]

The tasks are made by edgekit itself (`edgekit/data/formats`), so nothing is downloaded. The table
shows for each network what a linear model reaches on the same inputs: logistic regression, or for
the autoencoder a projection on as many principal components as its code has.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from numpy.typing import NDArray

from edgekit.base.files import write_json
from edgekit.data.dataset import Dataset, Split
from edgekit.data.sources import load_dataset, read_raw
from edgekit.data.splits import split_indices
from edgekit.models.build import build_model
from edgekit.models.files import load_model, save_model
from edgekit.models.inspect import describe
from edgekit.schema.recipe import DataSpec, ModelSpec, TrainSpec
from edgekit.training.evaluate import record_outputs
from edgekit.training.fit import fit
from edgekit.verify.metrics import classification_metrics

if TYPE_CHECKING:
    import keras

Metric = Literal["accuracy", "auc"]

_CODE = 8  # width of the autoencoder's bottleneck
_LINEAR_SAMPLES = 3000


@dataclass(frozen=True)
class Definition:
    """A network and its task, as a recipe writes them."""

    data: dict[str, Any]
    model: dict[str, Any]
    train: dict[str, Any]
    metric: Metric = "accuracy"


@dataclass(frozen=True)
class Reference:
    """A trained network with its data.

    Attributes:
        name: of the network.
        task: the data source with its options.
        model: the float network; not compiled.
        dataset: `calibration` has 256 samples. For the metric "auc" the targets are the inputs,
            but `test.y` tells normal samples, 0, from anomalies, 1.
        metric: what `value` is.
        value: of the float network on the test split, 0 to 1.
        seed: of data, splits, initial weights and training.
        train: how it was trained; for fine-tuning.
    """

    name: str
    task: str
    model: keras.Model
    dataset: Dataset
    metric: Metric
    value: float
    seed: int
    train: TrainSpec


def _splits(samples: int, test: int) -> dict[str, float]:
    """Shares for 256 samples to calibrate with, `test` to test and 400 to validate."""
    calibration, validation, tested = 256 / samples, 400 / samples, test / samples
    train = 1 - calibration - validation - tested
    return {
        "train": train, "validation": validation, "calibration": calibration, "test": tested
    }  # fmt: skip


def _made(source: str, samples: int, test: int = 1600, **options: Any) -> dict[str, Any]:
    options = {"samples": samples, **options}
    return {"source": source, "options": options, "splits": _splits(samples, test)}


def _trained(epochs: int, rate: float, batch_size: int = 64, **settings: Any) -> dict[str, Any]:
    return {
        "epochs": epochs,
        "batch_size": batch_size,
        "optimizer": {"name": "adam", "learning_rate": rate},
        "schedule": {"name": "cosine", "warmup_epochs": 1},
        **settings,
    }


_BYTES = {"scale": 1 / 127.5, "mean": 1.0}  # 0 to 255 becomes -1 to 1
_DIGITS = {
    "source": "digits",
    "options": {"size": 32, "distort": 1.0, "copies": 4},
    "splits": {"train": 0.66, "validation": 0.05, "calibration": 256 / 7188, "test": 0.25},
    "preprocess": {"scale": 1 / 8, "mean": 1.0},
}

DEFINITIONS: dict[str, Definition] = {
    "resnet8": Definition(
        _made("shapes", 8000, difficulty=0.4) | {"preprocess": _BYTES},
        {"name": "resnet8"},
        _trained(14, 0.003, augment={"flip": "horizontal"}),
    ),
    "mobilenet_v1": Definition(
        _DIGITS | {"options": {"size": 64, "distort": 1.0, "copies": 4}},
        {"name": "mobilenet_v1", "args": {"alpha": 0.25}},
        _trained(14, 0.003, 32, augment={"translate": 0.06, "rotate": 0.03}),
    ),
    "dscnn": Definition(
        _made("keywords", 8000) | {"preprocess": {"mean": -3.5, "std": 1.6}},
        {"name": "dscnn"},
        _trained(16, 0.003),
    ),
    "autoencoder": Definition(
        _made("machine", 10000, 2000, test_share=0.2, target="input")
        | {"preprocess": {"mean": -4.0, "std": 1.75}},
        {"name": "autoencoder", "args": {"code": _CODE}},
        _trained(60, 0.003, 128),
        metric="auc",
    ),
    "vit": Definition(
        _DIGITS,
        {"name": "vit", "args": {"patch": 4, "width": 48, "depth": 3, "heads": 3}},
        _trained(24, 0.002, augment={"translate": 0.06, "rotate": 0.03}),
    ),
    "gru": Definition(
        _made("motion", 8000),
        {"name": "rnn", "args": {"cell": "gru", "units": [48]}},
        _trained(24, 0.005),
    ),
    "narrow": Definition(
        _DIGITS,
        {"name": "dscnn", "args": {"filters": 16, "blocks": 4, "dropout": 0.0}},
        _trained(24, 0.005, augment={"translate": 0.06, "rotate": 0.03}),
    ),
}
NETWORKS: tuple[str, ...] = tuple(DEFINITIONS)


def reference(name: str, seed: int, folder: Path) -> Reference:
    """A trained network: from `folder`, or trained now and kept there.

    What is there is used only if it was trained by the same settings on the same data.

    Args:
        name: one of `NETWORKS`.
        seed: of data, splits, initial weights and training.
        folder: for all networks; each has a folder of its own in it.
    """
    definition = DEFINITIONS[name]
    home = folder / f"{name}-{seed}"
    dataset = _dataset(definition, seed)
    train = TrainSpec.model_validate(definition.train)
    made_from = {
        "data": definition.data,
        "model": definition.model,
        "train": definition.train,
        "test": _digest(dataset.test),
    }
    record = _kept(home, made_from)
    if record is None:
        record = _train(definition, dataset, train, seed, home, made_from)
    return Reference(
        name=name,
        task=_described(definition),
        model=load_model(home / "model.keras"),
        dataset=dataset,
        metric=definition.metric,
        value=record["value"],
        seed=seed,
        train=train,
    )


def score(outputs: NDArray[Any], split: Split, metric: Metric) -> float:
    """The metric of a network's outputs, 0 to 1; higher is better.

    Args:
        outputs: of all samples of `split`, real values.
        split: of a `Reference`'s dataset; for "auc" its `test`.
        metric: "accuracy"; or "auc", the area under the receiver operating characteristic with the
            mean squared error of the reconstruction as the score of an anomaly.
    """
    if metric == "accuracy":
        return classification_metrics(outputs, split.y)["accuracy"]
    from sklearn.metrics import roc_auc_score

    x = split.x["x"]
    errors = ((outputs.reshape(x.shape).astype(np.float64) - x) ** 2).mean(axis=1)
    return float(roc_auc_score(split.y, errors))


def linear_score(found: Reference) -> float:
    """What a linear model of the same inputs reaches on the test split."""
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression

    data = found.dataset
    known, tested = (split.x["x"].reshape(len(split), -1) for split in (data.train, data.test))
    known = known[:_LINEAR_SAMPLES]
    if found.metric == "auc":
        components = PCA(_CODE, random_state=0).fit(known)
        rebuilt = components.inverse_transform(components.transform(tested))
        return score(rebuilt, data.test, "auc")
    regression = LogisticRegression(max_iter=50, C=0.1).fit(known, data.train.y[: len(known)])
    return float(regression.score(tested, data.test.y))


def _dataset(definition: Definition, seed: int) -> Dataset:
    options = definition.data["options"] | {"seed": seed}
    spec = DataSpec.model_validate(definition.data | {"options": options})
    dataset = load_dataset(spec, seed=seed, root=Path())
    if definition.metric == "accuracy":
        return dataset
    # An autoencoder's targets are its inputs; the same split of the labels tells the anomalies.
    labelled = spec.model_copy(update={"options": options | {"target": "labels"}})
    raw = read_raw(labelled, root=Path())
    assert raw.y is not None
    parts = split_indices(raw.y, spec.splits, seed=seed, stratify=False, test=raw.test)
    return replace(dataset, test=Split(dataset.test.x, raw.y[parts["test"]]))


def _train(
    definition: Definition,
    dataset: Dataset,
    train: TrainSpec,
    seed: int,
    home: Path,
    made_from: dict[str, Any],
) -> dict[str, Any]:
    model = build_model(
        ModelSpec.model_validate(definition.model),
        input_shapes=dataset.input_shapes,
        classes=dataset.classes,
        root=Path(),
        seed=seed,
    )
    result = fit(model, dataset, train, seed=seed, directory=home / "training")
    outputs = next(iter(record_outputs(model, dataset.test.x).values()))
    save_model(model, home / "model.keras")
    record = {
        "made_from": made_from,
        "value": score(outputs, dataset.test, definition.metric),
        "seconds": result.seconds,
    }
    write_json(home / "reference.json", record)
    return record


def _kept(home: Path, made_from: dict[str, Any]) -> dict[str, Any] | None:
    path = home / "reference.json"
    if not path.is_file() or not (home / "model.keras").is_file():
        return None
    record: dict[str, Any] = json.loads(path.read_text())
    return record if record["made_from"] == json.loads(json.dumps(made_from)) else None


def _digest(split: Split) -> str:
    data = hashlib.sha256(np.ascontiguousarray(split.y).tobytes())
    for array in split.x.values():
        data.update(np.ascontiguousarray(array).tobytes())
    return data.hexdigest()


def _described(definition: Definition) -> str:
    options = definition.data["options"]
    words = [f"{key} {value}" for key, value in options.items() if key not in ("samples", "target")]
    return ", ".join([definition.data["source"], *words])


def main() -> None:
    """Trains what is not there yet and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    arguments = parser.parse_args()
    print(
        f"{'network':13} {'task':38} {'metric':8} {'linear':>7} {'network':>15} "
        f"{'parameters':>10} {'MACs':>12} {'seconds':>8}"
    )
    for name in arguments.networks:
        rows = [reference(name, seed, arguments.folder) for seed in range(arguments.seeds)]
        _print_row(rows, arguments.folder)


def _print_row(rows: list[Reference], folder: Path) -> None:
    first = rows[0]
    values = [100 * row.value for row in rows]
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    seconds = [
        json.loads((folder / f"{row.name}-{row.seed}" / "reference.json").read_text())["seconds"]
        for row in rows
    ]
    macs = sum(layer["macs"] for layer in describe(first.model))
    print(
        f"{first.name:13} {first.task:38} {first.metric:8} {100 * linear_score(first):6.1f}% "
        f"{statistics.mean(values):6.1f} ± {spread:4.1f} % {first.model.count_params():10,} "
        f"{macs:12,} {statistics.mean(seconds):8.0f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
