"""Whether quantized files are slower than the float files of their format, and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.base.progress import Progress
from edgekit.devices.bench import bench_file
from edgekit.devices.machine import machine
from edgekit.graph.types import Graph
from edgekit.profiling.profile import profile_graph
from edgekit.runtimes.delegation import unoptimized_operators
from edgekit.schema.debugging import Cause
from edgekit.schema.figure import Figure
from edgekit.schema.target import Target
from edgekit.verify.causes import cause_of
from edgekit.verify.speed import (
    SPEED_PROPOSAL,
    slower_on_target,
    slower_than_float,
    surely_slower,
)

BENCH_S = 1.0


@dataclass(frozen=True)
class Timed:
    """A file to judge.

    Attributes:
        quantized: whether it computes in integers.
    """

    path: Path
    graph: Graph
    quantized: bool


def pairs(files: Sequence[Timed]) -> list[tuple[Timed, Timed]]:
    """Each quantized file with the float file of its format."""
    return [
        (one, other)
        for one in files
        for other in [next((f for f in files if _is_float_of(f, one)), None)]
        if one.quantized and other is not None
    ]


def measure(files: Sequence[Timed], progress: Progress) -> dict[Path, Figure]:
    """Latencies of the files that there are pairs of, measured one after the other.

    What seems slower than float is measured again, float first: the machine's load may have
    changed in between. The faster figure of each is kept.
    """
    found: dict[Path, Figure] = {}

    def time(file: Timed) -> None:
        progress(f"measuring {file.path.name}")
        again = bench_file(file.path, max_seconds=BENCH_S).latency_ms
        before = found.get(file.path)
        if before is None or (again.value or 0) < (before.value or 0):
            found[file.path] = again

    for one, other in pairs(files):
        for file in (one, other):
            if file.path not in found:
                time(file)
        if surely_slower(found[one.path], found[other.path]):
            time(other)
            time(one)
    return found


def slow_causes(
    file: Timed,
    files: Sequence[Timed],
    latencies: dict[Path, Figure],
    targets: Sequence[Target],
) -> list[Cause]:
    """Why a quantized file is slower than the float file, here and on targets."""
    found: list[tuple[Callable[..., str | None], str | None]] = []
    for other in (other for one, other in pairs(files) if one is file):
        if file.path in latencies and other.path in latencies:
            given = latencies[file.path], latencies[other.path]
            features = machine().features
            left = _unoptimized(file, other)
            text = slower_than_float(file.graph, *given, features, unoptimized=left)
            found.append((slower_than_float, text))
        for target in targets:
            profiles = [profile_graph(f.graph, target, f.path.name) for f in (file, other)]
            found.append((slower_on_target, slower_on_target(*profiles)))
    return [cause_of(rule, None, text, SPEED_PROPOSAL) for rule, text in found if text]


def _is_float_of(one: Timed, other: Timed) -> bool:
    return not one.quantized and one.graph.format == other.graph.format


def _unoptimized(file: Timed, other: Timed) -> tuple[int, ...] | None:
    """The operators without an optimized kernel, if there are more of them than in float."""
    left = unoptimized_operators(file.path)
    float_left = unoptimized_operators(other.path)
    if left is None or float_left is None or len(left) <= len(float_left):
        return None
    return left
