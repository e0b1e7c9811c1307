"""Predicted memory beside what sources publish for microcontrollers, and beside Vela's SRAM."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from groundtruth import TABLE, Row, network

from edgekit.base.errors import EdgekitError
from edgekit.graph.read import read_graph
from edgekit.graph.types import Graph, Op
from edgekit.profiling.compiled import ram_bytes
from edgekit.profiling.compilers import COMPILERS
from edgekit.profiling.memory.need import memory_need, runtime_of
from edgekit.profiling.targets import load_target

# Targets whose runtime is that of the source; the chip does not change what a runtime allocates.
_TARGETS = {
    "STM32Cube.AI 10.0.0": "stm32-h7a3-cubeai",
    "STM32Cube.AI 10.0.0 / ST Edge AI Core 2.0.0 NPU": "stm32-n6570-npu",
    "X-CUBE-AI v7.3.0": "stm32-h7a3-cubeai",
    "TFLite Micro @713b6ed": "stm32-l4r5-tflm",
    "CMSIS-NN @011bf32": "nrf52840-cmsis-nn",
    "TFLite Micro (EloquentTinyML, float32)": "nrf52840-tflm-float",
}
_SKETCH = "TFLite Micro (EloquentTinyML, float32)"
_MOBILENET = re.compile(r"(?:MobileNet v(?P<version>[12])|mbv(?P<short>2))[ -]w?(?P<alpha>[\d.]+)")
_DENSE = re.compile(r"FC (?P<shape>1 x 10|10 x 10|10\+50) (?P<data>Digits|Iris)")


@dataclass(frozen=True)
class Compared:
    """A prediction beside a published figure, both in bytes.

    Attributes:
        predicted: of all RAM.
        arena: of it, the arena.
        peak: the largest sum of tensors that live at once, which no packing can beat.
        published: by the source.
    """

    network: str
    runtime: str
    target: str
    predicted: int
    low: int
    high: int
    arena: int
    peak: int
    published: int
    source: str

    @property
    def ratio(self) -> float:
        """Predicted over published."""
        return self.predicted / self.published


def published(models: Path) -> tuple[list[Compared], list[Row]]:
    """The rows of the ground truth with RAM of a microcontroller, and those without a structure.

    Args:
        models: the folder of shared models.
    """
    with TABLE.open(newline="", encoding="utf-8") as handle:
        rows: list[Row] = [row for row in csv.DictReader(handle) if row["ram_kib"] and _micro(row)]
    found: list[Compared] = []
    unknown: list[Row] = []
    for row in rows:
        graph = _graph(row, models)
        name = _TARGETS.get(row["runtime"])
        if graph is None or name is None:
            unknown.append(row)
            continue
        need = memory_need(graph, runtime_of(load_target(name)))
        total = int(need.ram.value or 0)
        found.append(
            Compared(
                network=_called(row), runtime=row["runtime"], target=name, predicted=total,
                low=int(need.ram.low or total), high=int(need.ram.high or total),
                arena=int(need.parts["arena"].value or 0), peak=need.plan.peak_bytes,
                published=round(float(row["ram_kib"]) * 1024), source=row["source"],
            )
        )  # fmt: skip
    return found, unknown


def vela(models: Path, target_name: str) -> Iterator[tuple[str, int, int, int, int] | str]:
    """Our arena beside the memory that Vela lays out: (network, arena, peak, Vela's, left to CPU).

    A string says why a file has no pair.
    """
    target = load_target(target_name)
    assert target.compiler is not None
    for path in sorted(models.glob("*.tflite")):
        if path.stem.endswith("_edgetpu"):
            continue
        graph = read_graph(path)
        try:
            result = COMPILERS.get(target.compiler.name)(path, graph, target.compiler.options)
        except EdgekitError as error:
            yield f"{path.stem}: {error.message}"
            continue
        if not ram_bytes(result):
            yield f"{path.stem}: Vela left all {len(graph.ops)} operators to the CPU"
            continue
        need = memory_need(graph, runtime_of(target))
        arena = int(need.parts["arena"].value or 0)
        yield path.stem, arena, need.plan.peak_bytes, ram_bytes(result), result.left_to_cpu


def is_sketch(row: Compared) -> bool:
    """Whether the source published the RAM of a whole program."""
    return row.runtime == _SKETCH


def _micro(row: Row) -> bool:
    return row["device_class"].startswith("mcu")


def _called(row: Row) -> str:
    size = row["input_shape"].split("x")
    return f"{row['model_name']}, {size[1]}" if len(size) > 2 else row["model_name"]


def _graph(row: Row, models: Path) -> Graph | None:
    dense = _DENSE.fullmatch(row["model_name"])
    if dense is not None:
        shape = dense["shape"].replace(" ", "").replace("+", "p")
        return read_graph(models / f"tinymlfc_FC{shape}_{dense['data']}.tflite")
    known = _MOBILENET.match(row["model_name"])
    if known is None:
        return None
    made_in_torch = known["short"] is not None
    version, size = known["version"] or known["short"], row["input_shape"].split("x")[1]
    graph = network(f"mobilenet_v{version}_{known['alpha'].rstrip('.')}_{size}", "int8")
    return _padded(graph) if graph is not None and made_in_torch else graph


def _padded(graph: Graph) -> Graph:
    """The graph with PAD before strided 3x3 convolutions, as files that come from PyTorch have it.

    PyTorch pads both sides, SAME padding with a stride of 2 only one: converters write an operator.
    """
    tensors = list(graph.tensors)
    ops: list[Op] = []
    for op in graph.ops:
        source, output = tensors[op.inputs[0]], tensors[op.outputs[0]]
        inputs = op.inputs
        if op.kind in ("conv", "depthwise") and source.shape[1] != output.shape[1]:
            batch, height, width, channels = (size or 1 for size in source.shape)
            shape = (batch, height + 2, width + 2, channels)
            made = replace(source, index=len(tensors), name=f"{op.layer}_pad", shape=shape)
            tensors.append(made)
            ops.append(Op(len(ops), "PAD", "data", op.layer, (source.index,), (made.index,), {}, 0))
            inputs = (made.index, *inputs[1:])
        ops.append(replace(op, index=len(ops), inputs=inputs))
    return replace(graph, tensors=tuple(tensors), ops=tuple(ops))
