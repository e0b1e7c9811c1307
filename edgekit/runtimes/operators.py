"""How long each operator of a model takes, by the runtime's own profiler."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgekit.base.registry import Registry
from edgekit.runtimes.session import Arrays
from edgekit.schema.artifact import TensorInfo

Inputs = Callable[[tuple[TensorInfo, ...]], Arrays]
_RUNS = (7, 200)


@dataclass(frozen=True)
class OperatorTime:
    """One operator that a runtime made of a file's.

    Attributes:
        names: of the file's operators that it computes, or of what they make, as far as the runtime
            tells; none: one that it added, such as a change of layout.
        seconds: of one inference.
        type: of the operator that it computes, in the words of the file's format, if it is told.
    """

    names: tuple[str, ...]
    seconds: float
    type: str = ""


PROFILERS: Registry[Callable[..., list[OperatorTime]]] = Registry(
    "profiler",
    {
        "onnxruntime": "edgekit.runtimes.onnxruntime:profiled",
        "openvino": "edgekit.runtimes.openvino:profiled",
    },
    group="profilers",
)
"""Of the runtimes that have one."""


def operator_times(
    path: Path, *, runtime: str, threads: int, seconds: float, inputs: Inputs
) -> list[OperatorTime]:
    """Times of operators, in the order in which they run.

    A profiler takes time of its own, some microseconds an operator: compare the sum with the time
    of a run without it.

    Args:
        path: the model file.
        runtime: a name of the runtimes' registry.
        threads: that the runtime may use.
        seconds: about how long the runs take.
        inputs: makes a sample for inputs.

    Returns:
        The operators; none if the runtime does not tell.

    Raises:
        EdgekitError: the file cannot be loaded or run.
    """
    if runtime not in PROFILERS.names():
        return []
    return PROFILERS.get(runtime)(path, threads=threads, seconds=seconds, inputs=inputs)


def repeat_for(call: Callable[[], object], seconds: float, limits: tuple[int, int] = _RUNS) -> int:
    """Calls for some time, but so often at least and at most; returns how often."""
    start, runs = time.perf_counter(), 0
    while runs < limits[0] or (runs < limits[1] and time.perf_counter() - start < seconds):
        call()
        runs += 1
    return runs
