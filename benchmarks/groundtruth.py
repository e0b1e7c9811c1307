"""The table of published measurements, joined with the structures of its networks."""

from __future__ import annotations

import csv
import itertools
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from names import plain
from ncnn import read_param
from networks import structure
from structures import channels_first, retyped

from edgekit.graph.read import read_graph
from edgekit.graph.types import Graph
from edgekit.profiling.fit.samples import Sample, sample
from edgekit.schema.fitting import Cores, FitSpec, Reference
from edgekit.schema.names import Precision
from edgekit.schema.target import Source, Target

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("EDGEKIT_SHARED", ROOT.parent / "shared"))
TABLE = SHARED / "groundtruth" / "measurements.csv"
CACHE = ROOT / "build" / "structures"

Row = Mapping[str, str]

MODEL_FILES = {
    "MLPerf Tiny AD FC-AutoEncoder": "mlperf_tiny_ad_int8.tflite",
    "MLPerf Tiny IC ResNet-8": "mlperf_tiny_ic_int8.tflite",
    "MLPerf Tiny KWS DS-CNN": "mlperf_tiny_kws_int8.tflite",
    "MLPerf Tiny VWW MobileNetV1-0.25-96": "mlperf_tiny_vww_int8.tflite",
    "MobileNet v2 DeepLab v3 dm0.5": "coral_deeplabv3_mnv2_dm05_pascal_quant.tflite",
}

_SAME_WORK = 2  # times

_FAMILIES = (
    "text-encoder",  # before the network for images that a text encoder is named after
    "mobilenet-v1", "mobilenet-v2", "mobilenet-v3", "efficientnet-lite", "efficientnet", "mnasnet",
    "inception", "resnet", "densenet", "vgg", "shufflenet", "squeezenet", "yolo", "nasnet",
)  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """Samples and the rows of the table that they came from."""

    samples: tuple[Sample, ...]
    rows: tuple[Row, ...]
    unknown: int  # rows whose network's structure is not known


def table(path: Path) -> list[Row]:
    """Rows that may be fitted: not suspect, with a latency.

    Raises:
        SystemExit: the table is not there.
    """
    if not path.is_file():
        raise SystemExit(
            f"no measurements at {path}: set EDGEKIT_SHARED to the folder of shared material"
        )
    with path.open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    usable = [row for row in rows if not row["suspect"] and float(row["latency_ms"] or 0)]
    return [row | {"precision": stated_precision(row)} for row in usable]


def stated_precision(row: Row) -> str:
    """A row's precision; where the table has none, fp32 if its model's name states that.

    The int8 networks of the same rows are no such rows: XNNPACK ran them, and TensorFlow Lite's own
    kernels the uint8 ones beside them, on several threads.
    """
    unstated = row["precision"] == "other"
    return "fp32" if unstated and "-fp32-" in row["model_name"] else row["precision"]


def matching(rows: Sequence[Row], references: Sequence[Reference]) -> list[Row]:
    """The rows that the references name."""
    wanted = [
        {
            "device": r.device, "runtime": r.runtime, "precision": r.precision,
            "latency_kind": r.latency_kind,
        }
        | ({"threads": str(r.threads)} if r.threads else {})
        | ({"source": r.source} if r.source else {})
        for r in references
    ]  # fmt: skip
    return [
        row
        for row in rows
        for reference, want in zip(references, wanted, strict=True)
        if all(row[k] == v for k, v in want.items()) and (reference.notes or "") in row["notes"]
    ]


def references(target: Target, spec: FitSpec) -> tuple[Reference, ...]:
    """What a fit is made of: its own references, or the target's of its precision."""
    return spec.reference or tuple(r for r in target.reference if r.precision == spec.precision)


def measured(
    rows: Sequence[Row], target: Target, precision: Precision, *,
    processor: str | None = None, folder: Path = CACHE, cores: Cores | None = None,
) -> Measured:  # fmt: skip
    """The measured networks whose structure is known, placed on the target."""
    samples, used = [], []
    for row in rows:
        name = plain(row["model_name"], row["source"], row["input_shape"])
        graph = network(name, precision, folder, ncnn=row["group"] == "ncnn")
        if graph is None or _another(graph, row):
            continue
        if "tflite" not in target.runtime.formats:
            graph = channels_first(graph)
        energy = float(row["energy_uj"]) * 1e-6 if row["energy_uj"] else None
        samples.append(
            sample(
                graph, target, model=identity(graph, row["model_name"]),
                family=family(row["model_name"]), latency_s=float(row["latency_ms"]) * 1e-3,
                energy_j=energy, processor=processor, cores=cores,
            )
        )  # fmt: skip
        used.append(row)
    return Measured(tuple(samples), tuple(used), len(rows) - len(used))


def alone(target: Target, spec: FitSpec, *, measured_alone: bool) -> str | None:
    """The processor that ran all of a network, or None if the target's rules say what ran where.

    Operators of structures have TFLite's names, at which the rules of a target that takes other
    files would find fault.
    """
    everything = measured_alone or "tflite" not in target.runtime.formats
    return spec.processor if everything and len(target.processors) > 1 else None


def fit_data(rows: Sequence[Row], target: Target, spec: FitSpec, folder: Path = CACHE) -> Measured:
    """The measurements that a fit of a target is made of."""
    # Measurements of its own mean that the processor was measured without the others.
    only = alone(target, spec, measured_alone=bool(spec.reference))
    chosen = matching(rows, references(target, spec))
    return measured(chosen, target, spec.precision, processor=only, folder=folder)


def prior_data(
    rows: Sequence[Row], target: Target, spec: FitSpec, folder: Path = CACHE
) -> list[tuple[Sample, ...]]:
    """Measurements of the same runtime on other boards, board by board and round by round.

    What multiplies elsewhere than on the target's processor, by its rules, is left out: another
    board has other processors beside it.
    """
    only = alone(target, spec, measured_alone=bool(spec.reference))
    boards = [
        measured(
            matching(rows, [one]),
            target,
            one.precision,
            processor=only,
            folder=folder,
            cores=one.cores,
        )
        for one in spec.prior
    ]
    return [
        tuple(s for s in board.samples if multipliers(s) == {spec.processor}) for board in boards
    ]


def multipliers(placed: Sample) -> set[str | None]:
    """Where a network's multiply-accumulates are."""
    return {p.where for p, op in zip(placed.placed, placed.view.graph.ops, strict=True) if op.macs}


@cache
def network(
    name: str, precision: Precision, folder: Path = CACHE, *, ncnn: bool = False
) -> Graph | None:
    """The structure of a network of the table, from its file or by name.

    Args:
        name: of the network.
        precision: of its weights and activations.
        folder: where structures that Keras made are kept.
        ncnn: whether ncnn ran it, whose networks differ a little from others of the same name.
    """
    if name in MODEL_FILES:
        graph = read_graph(SHARED / "models" / MODEL_FILES[name])
        return graph if precision == "int8" else retyped(graph, precision)
    text = SHARED / "models" / "ncnn_param" / f"{name}.param"
    known = None if ncnn and text.is_file() else structure(name, precision, folder)
    if known is not None or not text.is_file():
        return known
    try:
        return retyped(read_param(text), precision)
    except ValueError:  # without shapes
        return None


def _another(graph: Graph, row: Row) -> bool:
    """Whether a row's stated work shows that its network only shares a name with the structure."""
    stated = float(row["macs_m"] or 0) * 1e6
    return stated > 0 and not 1 / _SAME_WORK < graph.macs / stated < _SAME_WORK


def family(name: str) -> str:
    """The family of a network, by its name; a name of no known family is its own."""
    word = re.sub(r"mobilenetv", "mobilenet-v", name.lower().replace("_", "-").replace(" ", "-"))
    return next((known for known in _FAMILIES if known in word), re.sub(r"^fc-\d.*", "fc", word))


def identity(graph: Graph, name: str) -> str:
    """A network by its family and its multiply-accumulates: tables give one network many names."""
    return f"{family(name)}, {graph.macs * 1e-6:.3g} M"


def source_id(title: str, target: Target) -> str:
    """The target's source whose title begins most like the one in the table."""

    def common(source: Source) -> int:
        pairs = zip(source.title, title, strict=False)
        return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))

    return max(target.sources, key=common).id
