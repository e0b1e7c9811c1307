"""What a model needs of a target's memories, as its runtime allocates it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgekit.graph.types import Graph
from edgekit.profiling.memory.arena import MemoryPlan, Planner, plan
from edgekit.profiling.memory.flash import runtime_code
from edgekit.profiling.memory.litert import Scratch, litert_scratch
from edgekit.profiling.memory.offline import offline_offsets
from edgekit.profiling.memory.scratch import tflm_scratch
from edgekit.profiling.memory.tail import Build, tail_bytes
from edgekit.schema.figure import Figure
from edgekit.schema.target import MicroKernels, Target

# What the tail may be off by on a microcontroller: compilers that store enumerations in one byte,
# versions whose structs differ. On x86-64 the prediction is exact.
_TAIL_SHARE, _TAIL_BYTES = 0.05, 64

# Microcontroller runtimes whose planner is not published: RAM that ST's model zoo gives for 16
# MobileNets (STM32Cube.AI 10 and ST Edge AI Core 2) over the arena planned here, 10th to 90th
# percentile (benchmarks/memory.py, docs/memory.md). The vendors' own workspace is in it.
_CLOSED_LOW, _CLOSED_HIGH = 0.77, 1.37


@dataclass(frozen=True)
class Runtime:
    """What decides how memory is allocated; targets that share it share the answer.

    Attributes:
        planner: whose arena.
        kernels: of TensorFlow Lite Micro; None: it is another runtime.
        xnnpack: whether XNNPACK runs the graph, in whose place LiteRT's kernels need no scratch.
        weights_in_ram: whether weights are copied there.
    """

    planner: Planner
    kernels: MicroKernels | None
    weights_in_ram: bool
    xnnpack: bool = False


@dataclass(frozen=True)
class Need:
    """Bytes that a model needs.

    Attributes:
        plan: the arena.
        ram: figure of all that lies in RAM.
        flash: figure of all that lies in flash; None: weights are in RAM.
        parts: what these are made of, by name.
    """

    plan: MemoryPlan
    ram: Figure
    flash: Figure | None
    parts: dict[str, Figure]


def runtime_of(target: Target) -> Runtime:
    """How the target's runtime allocates."""
    micro = target.device_class in ("mcu", "mcu_npu")
    tflm = micro and any(processor.rules.startswith("tflm") for processor in target.processors)
    return Runtime(
        planner="tflm" if micro else "tflite",
        kernels=target.runtime.kernels if tflm else None,
        weights_in_ram=target.memory.flash_bytes is None,
        xnnpack=any("xnnpack" in processor.rules for processor in target.processors),
    )


def scratch_of(graph: Graph, runtime: Runtime) -> Sequence[Scratch]:
    """The kernels' scratch buffers, as far as they are known."""
    if runtime.kernels is not None:
        return tflm_scratch(graph, runtime.kernels)
    return () if runtime.planner == "tflm" or runtime.xnnpack else litert_scratch(graph)


def memory_need(graph: Graph, runtime: Runtime) -> Need:
    """Plans the arena with scratch buffers, and adds what the runtime keeps beside it."""
    scratch = scratch_of(graph, runtime)
    found = plan(graph, planner=runtime.planner, scratch=scratch)
    whose = "TensorFlow Lite Micro's planner" if runtime.planner == "tflm" else "TFLite's planner"
    with_scratch = f", with {len(scratch)} scratch buffers of its kernels" if scratch else ""
    arena = found.arena_bytes + found.persistent_bytes
    closed = runtime.planner == "tflm" and runtime.kernels is None
    method = f"activations packed as by {whose}{with_scratch}"
    if offline_offsets(graph):
        method = f"tensors where the file's compiler put them, others as by {whose}"
    parts = {"arena": _unlike(arena, method) if closed else _bytes(arena, method)}
    ram = [parts["arena"]]
    if runtime.kernels is not None and graph.format == "tflite":
        parts["arena_tail"] = _tail(graph, runtime.kernels)
        ram.append(parts["arena_tail"])
    if runtime.weights_in_ram:
        ram.append(_bytes(graph.weight_bytes, "the weights"))
    flash = [_bytes(graph.file_bytes, "the file")]
    if runtime.kernels is not None:
        parts["runtime_code"] = runtime_code(runtime.kernels)
        flash.append(parts["runtime_code"])
    return Need(found, _sum(ram), None if runtime.weights_in_ram else _sum(flash), parts)


def _tail(graph: Graph, kernels: MicroKernels) -> Figure:
    size = tail_bytes(graph, Build(kernels=kernels))
    return Figure(
        value=size,
        low=max(round(size * (1 - _TAIL_SHARE)) - _TAIL_BYTES, 0),
        high=round(size * (1 + _TAIL_SHARE)) + _TAIL_BYTES,
        unit="bytes",
        origin="estimated",
        method="structs of tensors, operators and kernels for 32-bit pointers; interval: an "
        f"allowance of {100 * _TAIL_SHARE:.0f}% and {_TAIL_BYTES} bytes",
    )


def _unlike(size: int, method: str) -> Figure:
    """An arena that another planner lays out."""
    return Figure(
        value=size,
        low=round(size * _CLOSED_LOW),
        high=round(size * _CLOSED_HIGH),
        unit="bytes",
        origin="estimated",
        method=f"{method}; the runtime's own planner is not published: interval from RAM that ST "
        "publishes for 16 networks",
    )


def _bytes(value: int, method: str) -> Figure:
    return Figure(value=value, unit="bytes", origin="estimated", method=method)


def _sum(parts: Sequence[Figure]) -> Figure:
    """The sum of figures that all have values; ends of intervals add up."""
    value, low, high = (
        sum(int(getattr(part, name) or part.value or 0) for part in parts)
        for name in ("value", "low", "high")
    )
    sure = low == high == value
    return Figure(
        value=value,
        low=None if sure else low,
        high=None if sure else high,
        unit="bytes",
        origin="estimated",
        method="; ".join(part.method or "" for part in parts),
    )
