"""What a vendor's compiler answers, and how it is run: in a process of its own."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from edgekit.base.errors import ConversionError
from edgekit.graph.types import Graph

_TAIL_CHARACTERS = 2000


@dataclass(frozen=True)
class CompiledOp:
    """What became of one operator of the source file.

    Attributes:
        accelerated: whether the accelerator runs it, be it fused into another operator.
        cycles: of the accelerator's clock, by the compiler's cost model; 0 if fused; None if the
            compiler does not time it.
        found: for an operator that is left to the CPU: what was found.
        allowed: and what the compiler takes.
    """

    accelerated: bool
    cycles: int | None = None
    found: str = ""
    allowed: str = ""


@dataclass(frozen=True)
class Compiled:
    """A compiler's result.

    Attributes:
        compiler: its name and version.
        configuration: the hardware that it compiled for, in its own words.
        model: the compiled file's content.
        ops: one entry an operator of the source file, in its order.
        memory: bytes by the name of the memory, such as sram, dram, flash; `parameters_cached`
            and `parameters_streamed` are of an accelerator's own.
        cycles: of one inference on the accelerator, or None if the compiler has no cost model.
        clock_hz: that the cycles are of.
    """

    compiler: str
    configuration: str
    model: bytes = field(repr=False)
    ops: tuple[CompiledOp, ...]
    memory: Mapping[str, int]
    cycles: int | None = None
    clock_hz: float | None = None

    @property
    def left_to_cpu(self) -> int:
        """How many operators the accelerator does not run."""
        return sum(not op.accelerated for op in self.ops)

    def milliseconds(self, cycles: int | None) -> float | None:
        """The time of `cycles` at the accelerator's clock."""
        if cycles is None or not self.clock_hz:
            return None
        return cycles / self.clock_hz * 1e3


class Compiler(Protocol):
    """Compiles one file.

    Raises:
        MissingDependencyError: the compiler is not installed.
        TargetError: the options are not those of the compiler.
        ConversionError: it failed, died, or passed its limit of time.
    """

    def __call__(self, path: Path, graph: Graph, options: Mapping[str, str]) -> Compiled:
        """Compiles `path`, which was read as `graph`."""


def run(command: Sequence[str], *, title: str, where: Path, folder: Path, timeout_s: float) -> str:
    """Runs a compiler in `folder` and returns what it printed.

    Args:
        command: program and arguments; no shell reads them.
        title: the compiler's name, for messages.
        where: the model file, for messages.
        folder: working directory.
        timeout_s: limit of time, in seconds.

    Raises:
        ConversionError: it failed, died, or passed the limit.
    """
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=folder,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ConversionError(
            f"{title} took longer than {timeout_s:g} s and was stopped", where=str(where)
        ) from None
    except OSError as error:
        raise ConversionError(f"{title} could not be started: {error}", where=str(where)) from None
    text = done.stdout.decode(errors="replace")
    if done.returncode:
        code = done.returncode
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        raise ConversionError(
            f"{title} failed ({how})",
            where=str(where),
            hint=text.strip()[-_TAIL_CHARACTERS:] or None,
        )
    return text
