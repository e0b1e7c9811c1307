"""Google's compiler for the Edge TPU: https://coral.ai/docs/edgetpu/compiler/.

It is no Python package: where `edgetpu_compiler` is on the PATH, it is run with `-s`, which adds a
table of operators to its log. The table counts operators by name and status, so it does not say
which one is left to the CPU. The compiled file does: what the compiler leaves keeps the names of
its output tensors, and all else is in the operator `edgetpu-custom-op`. The table then gives the
reasons. It has no cost model.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.base.errors import (
    ConversionError,
    EdgekitError,
    InputError,
    MissingDependencyError,
    TargetError,
)
from edgekit.graph.read import read_graph
from edgekit.graph.types import Graph, Op
from edgekit.profiling.compilers.base import Compiled, CompiledOp, run

PROGRAM = "edgetpu_compiler"
CUSTOM_OPERATOR = "edgetpu-custom-op"
MAPPED = "Mapped to Edge TPU"
ONE_SUBGRAPH = "More than one subgraph is not supported"
_TIMEOUT_S = 300.0  # the compiler's own limit is 180 s
_DOCUMENTED = "https://coral.ai/docs/edgetpu/models-intro/#supported-operations"
_TAIL_CHARACTERS = 2000
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

_VERSION = re.compile(r"^Edge TPU Compiler version (\S+)", re.MULTILINE)
_STATUS = re.compile(r"^([A-Z][A-Z0-9_]*) +(\d{1,9}) +(\S.*?)\s*$", re.MULTILINE)
_SIZE = r"([0-9.]+)\s*(B|KiB|MiB|GiB)\s*$"
_SIZES = {
    "parameters_cached": re.compile(
        r"^On-chip memory used for caching model parameters: " + _SIZE, re.MULTILINE
    ),
    "parameters_streamed": re.compile(
        r"^Off-chip memory used for streaming uncached model parameters: " + _SIZE, re.MULTILINE
    ),
}


@dataclass(frozen=True)
class OperatorStatus:
    """One row of the compiler's table: how many operators of a name have a status."""

    op: str
    count: int
    status: str

    @property
    def mapped(self) -> bool:
        """Whether the Edge TPU runs them."""
        return self.status == MAPPED


@dataclass(frozen=True)
class CompilerLog:
    """What the compiler printed.

    Attributes:
        version: such as 16.0.384591198.
        operators: the table.
        memory: bytes of parameters that are cached on the chip, and that are streamed.
    """

    version: str
    operators: tuple[OperatorStatus, ...]
    memory: Mapping[str, int]

    def statuses(self, op: str) -> list[str]:
        """Why operators of a name are left to the CPU."""
        return [row.status for row in self.operators if row.op == op and not row.mapped]


def parse_log(text: str) -> CompilerLog:
    """Parses what `edgetpu_compiler -s` prints, or the .log file that it writes.

    Raises:
        ConversionError: there is no version, or no table of operators.
    """
    version = _VERSION.search(text)
    operators = tuple(
        OperatorStatus(match[1], int(match[2]), match[3]) for match in _STATUS.finditer(text)
    )
    if version is None or not operators:
        what = "no version" if version is None else "no table of operators"
        raise ConversionError(
            f"the Edge TPU compiler's log has {what}", hint=text.strip()[-_TAIL_CHARACTERS:] or None
        )
    sizes = {name: pattern.search(text) for name, pattern in _SIZES.items()}
    try:
        memory = {
            name: round(float(match[1]) * _UNITS[match[2]])
            for name, match in sizes.items()
            if match is not None
        }
    except ValueError as error:
        raise ConversionError(f"the Edge TPU compiler's log has a wrong size: {error}") from None
    return CompilerLog(version[1], operators, memory)


def compile_file(path: Path, graph: Graph, options: Mapping[str, str]) -> Compiled:
    """Compiles a .tflite file for an Edge TPU.

    Args:
        path: the file.
        graph: as read from it.
        options: none.

    Raises:
        MissingDependencyError: the compiler is not on the PATH.
        InputError: it is not a .tflite file.
        TargetError: there are options.
        ConversionError: the compiler failed, died, took longer than five minutes, or printed or
            wrote what cannot be read.
    """
    if options:
        raise TargetError("edgetpu takes no options", where="compiler.options")
    if graph.format != "tflite":
        raise InputError(
            f"the Edge TPU compiler takes .tflite files, not {graph.format}", where=str(path)
        )
    program = shutil.which(PROGRAM)
    if program is None:
        raise MissingDependencyError(
            f"{PROGRAM} is not on the PATH",
            hint="install it from Google's package archive: https://coral.ai/docs/edgetpu/compiler/",
        )
    with tempfile.TemporaryDirectory(prefix="edgekit-edgetpu-") as name:
        folder = Path(name)
        shutil.copyfile(path, folder / "model.tflite")
        printed = run(
            [program, "-s", "-o", ".", "model.tflite"],
            title="the Edge TPU compiler", where=path, folder=folder, timeout_s=_TIMEOUT_S,
        )  # fmt: skip
        log = parse_log(printed)
        compiled = folder / "model_edgetpu.tflite"
        try:
            model = compiled.read_bytes()
            left = _left_behind(read_graph(compiled))
        except (OSError, EdgekitError) as error:
            raise ConversionError(
                f"the Edge TPU compiler's file cannot be read: {error}", where=str(path)
            ) from None
    return Compiled(
        compiler=f"Edge TPU Compiler {log.version}",
        configuration="one Edge TPU",
        model=model,
        ops=_ops(graph, log, left, path),
        memory=log.memory,
    )


def _left_behind(compiled: Graph) -> frozenset[str]:
    """Names of the tensors that the CPU makes."""
    return frozenset(
        compiled.tensors[index].name
        for op in compiled.ops
        if op.name != CUSTOM_OPERATOR
        for index in op.outputs
    )


def _ops(
    graph: Graph, log: CompilerLog, left: frozenset[str], path: Path
) -> tuple[CompiledOp, ...]:
    behind: set[int] = set()  # tensors that the CPU makes
    made = []
    for op in graph.ops:
        if not all(graph.tensors[index].name in left for index in op.outputs):
            made.append(CompiledOp(accelerated=True))
            continue
        found = _reason(log.statuses(_name(op)), downstream=bool(behind.intersection(op.inputs)))
        made.append(CompiledOp(accelerated=False, found=found, allowed=f"see {_DOCUMENTED}"))
        behind.update(op.outputs)
    in_file = Counter(_name(op) for op, one in zip(graph.ops, made, strict=True) if one.accelerated)
    in_log = Counter[str]()
    for row in log.operators:
        if row.mapped:
            in_log[row.op] += row.count
    if in_file != in_log:
        raise ConversionError(
            "the Edge TPU compiler's log and file disagree: "
            f"{in_log.total()} operators mapped by the log, {in_file.total()} by the file",
            where=str(path),
        )
    return tuple(made)


def _name(op: Op) -> str:
    return "CUSTOM" if op.kind == "custom" else op.name


def _reason(statuses: Sequence[str], *, downstream: bool) -> str:
    """The statuses that an operator may have, of those that the table gives its name."""
    fitting = [status for status in statuses if (status == ONE_SUBGRAPH) == downstream]
    return " or ".join(fitting or statuses)
