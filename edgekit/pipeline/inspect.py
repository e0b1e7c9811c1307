"""What is in a file: a model of any format, or a bundle of models."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edgekit.base.errors import ModelFileError
from edgekit.base.files import existing_file
from edgekit.base.progress import Progress, silent
from edgekit.graph.read import read_graph
from edgekit.graph.types import Graph, Op, Port
from edgekit.profiling.memory.arena import plan
from edgekit.schema.artifact import TensorInfo
from edgekit.schema.inspection import Inspection, LayerInfo, MemoryInfo, OpCount
from edgekit.schema.names import SUFFIXES

_KERAS = (".h5", ".hdf5", ".keras")
_BUNDLE = ".zip"


def inspect_file(path: Path, *, progress: Progress = silent) -> Inspection:
    """Describes a .tflite, .onnx, .xml, .keras or .h5 file, or a bundle (.zip).

    Args:
        path: the file.
        progress: told when Keras is loaded, which takes seconds.

    Raises:
        InputError: the file does not exist.
        ModelFileError, BundleError: it is of no known kind, or corrupt.
        MissingDependencyError: the extra that reads this format is not installed.
    """
    existing_file(path, what="file")
    if path.suffix in SUFFIXES:
        return inspect_graph(read_graph(path), file=str(path))
    if path.suffix in _KERAS:
        progress(f"reading {path.name} with Keras")
        return _keras(path)
    if path.suffix == _BUNDLE:
        return _bundle(path)
    raise ModelFileError(
        f"cannot inspect '{path.suffix or path.name}' files",
        where=str(path),
        hint=f"known: {', '.join(sorted((*SUFFIXES, *_KERAS, _BUNDLE)))}",
    )


def inspect_graph(graph: Graph, *, file: str) -> Inspection:
    """Describes a graph that was read from `file`."""
    memory = plan(graph)
    micro = plan(graph, planner="tflm").arena_bytes if graph.format == "tflite" else None
    return Inspection(
        file=file,
        format=graph.format,
        name=graph.name,
        inputs=_ports(graph, graph.inputs),
        outputs=_ports(graph, graph.outputs),
        macs=graph.macs,
        parameters=graph.parameters,
        weight_bytes=graph.weight_bytes,
        file_bytes=graph.file_bytes,
        memory=MemoryInfo(
            peak_bytes=memory.peak_bytes,
            peak_op=memory.peak_op,
            arena_bytes=memory.arena_bytes,
            micro_arena_bytes=micro,
        ),
        ops=_counts((op.name, op.kind, op.macs) for op in graph.ops),
        layers=tuple(_layer(graph, op) for op in graph.ops),
        metadata=dict(graph.metadata),
    )


def _ports(graph: Graph, ports: Iterable[Port]) -> tuple[TensorInfo, ...]:
    found = ((port.name, graph.tensors[port.tensor]) for port in ports)
    return tuple(
        TensorInfo(
            name=name,
            shape=tensor.shape,
            dtype=tensor.dtype,
            quantization=tensor.quantization,
        )
        for name, tensor in found
    )


def _counts(ops: Iterable[tuple[str, str, int]]) -> tuple[OpCount, ...]:
    counts: Counter[tuple[str, str]] = Counter()
    macs: Counter[tuple[str, str]] = Counter()
    for name, kind, number in ops:
        counts[name, kind] += 1
        macs[name, kind] += number
    order = sorted(counts, key=lambda key: (-macs[key], key))
    return tuple(
        OpCount(op=name, kind=kind, count=counts[name, kind], macs=macs[name, kind])
        for name, kind in order
    )


def _layer(graph: Graph, op: Op) -> LayerInfo:
    read = (graph.tensors[index] for index in set(op.inputs))
    output = graph.tensors[op.outputs[0]] if op.outputs else None
    return LayerInfo(
        index=op.index,
        op=op.name,
        layer=op.layer,
        macs=op.macs,
        parameters=sum(tensor.elements for tensor in read if tensor.constant),
        output_shape=output.shape if output else None,
        dtype=output.dtype if output else None,
        attributes={name: _finite(value) for name, value in op.attributes.items()},
    )


def _finite(value: Any) -> Any:
    """JSON has no word for infinity."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _keras(path: Path) -> Inspection:
    from edgekit.models.files import load_model
    from edgekit.models.inspect import describe

    model = load_model(path)
    rows = describe(model)
    return Inspection(
        file=str(path),
        format="keras",
        name=model.name,
        inputs=_keras_tensors({tensor.name: tensor for tensor in model.inputs}),
        outputs=_keras_tensors(dict(zip(model.output_names, model.outputs, strict=True))),
        macs=sum(row["macs"] for row in rows),
        parameters=model.count_params(),
        weight_bytes=sum(int(weight.numpy().nbytes) for weight in model.weights),
        file_bytes=path.stat().st_size,
        ops=_counts((row["class"], "layer", row["macs"]) for row in rows),
        layers=tuple(
            LayerInfo(
                index=index,
                op=row["class"],
                layer=row["layer"],
                macs=row["macs"],
                parameters=row["parameters"],
                output_shape=_one_shape(row["output_shape"]),
            )
            for index, row in enumerate(rows)
        ),
    )


def _one_shape(shape: Any) -> tuple[int | None, ...]:
    """A layer of several outputs has a list of shapes; the first stands for it."""
    return tuple(shape[0] if shape and isinstance(shape[0], list | tuple) else shape)


def _keras_tensors(tensors: Mapping[str, Any]) -> tuple[TensorInfo, ...]:
    return tuple(
        TensorInfo(name=name, shape=tuple(tensor.shape), dtype=str(tensor.dtype))
        for name, tensor in tensors.items()
    )


def _bundle(path: Path) -> Inspection:
    from edgekit.bundle.load import open_bundle

    bundle = open_bundle(path)
    sidecars = [bundle.sidecars[artifact.path] for artifact in bundle.manifest.artifacts]
    return Inspection(
        file=str(path),
        format="bundle",
        name=bundle.manifest.name,
        file_bytes=path.stat().st_size,
        artifacts=tuple(
            Inspection(
                file=artifact.path,
                format=artifact.format,
                name=sidecar.file,
                inputs=sidecar.inputs,
                outputs=sidecar.outputs,
                file_bytes=sidecar.bytes,
                metadata={"precision": artifact.precision, "sha256": sidecar.sha256},
            )
            for artifact, sidecar in zip(bundle.manifest.artifacts, sidecars, strict=True)
        ),
        metadata={
            "edgekit": bundle.manifest.edgekit,
            "labels": list(bundle.manifest.labels),
            "versions": dict(bundle.manifest.versions),
        },
    )
