"""Arm's Vela, the compiler for Ethos-U NPUs: https://pypi.org/project/ethos-u-vela/.

Vela writes a .tflite file whose NPU parts are `ethos-u` operators, and leaves the rest to the CPU.
Its exit code is 0 even where it leaves everything there, so its placement is read operator by
operator from its debug database, which says for each scheduled operator which one of the source
file it came from. Its cycles are a cost model, not silicon; it says nothing about energy, and
nothing about the operators on the CPU.
"""

from __future__ import annotations

import csv
import io
import math
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from edgekit.base.errors import ConversionError, InputError, TargetError
from edgekit.base.extras import require, version
from edgekit.graph.types import Graph
from edgekit.profiling.compilers.base import Compiled, CompiledOp, run

OPTIONS = ("accelerator-config", "system-config", "memory-mode")
CUSTOM_OPERATOR = "ethos-u"
_CONFIGURATIONS = "Arm/vela.ini"  # ships with Vela
_TIMEOUT_S = 300.0
_LEFT = "Passthrough"
_MEMORIES = {
    "sram": "sram_memory_used",
    "dram": "dram_memory_used",
    "on_chip_flash": "on_chip_flash_memory_used",
    "flash": "off_chip_flash_memory_used",
}
_REASON = re.compile(
    r"^Warning \(supported operators\) operator: (?P<op>\S+), ofm: '(?P<output>.*)'\n"
    r"Reason: (?P<found>.*)\n(?P<allowed>(?:.+\n)*)",
    re.MULTILINE,
)


def compile_file(path: Path, graph: Graph, options: Mapping[str, str]) -> Compiled:
    """Compiles a .tflite file for an Ethos-U.

    Args:
        path: the file; the same content gives the same bytes.
        graph: as read from it.
        options: `OPTIONS` and nothing else: Vela's own words for the hardware.

    Raises:
        MissingDependencyError: Vela is not installed.
        InputError: it is not a .tflite file, or is compiled already.
        TargetError: the options are not the three.
        ConversionError: Vela failed, died, or took longer than five minutes.
    """
    require("ethosu", purpose="to compile for an Ethos-U")
    if set(options) != set(OPTIONS):
        raise TargetError(
            f"vela takes the options {', '.join(OPTIONS)}, found {', '.join(options) or 'none'}",
            where="compiler.options",
        )
    if graph.format != "tflite":
        raise InputError(f"Vela takes .tflite files, not {graph.format}", where=str(path))
    if any(op.name == CUSTOM_OPERATOR for op in graph.ops):
        raise InputError("the file is compiled already", where=str(path), hint="compile its source")
    with tempfile.TemporaryDirectory(prefix="edgekit-vela-") as name:
        folder = Path(name)
        shutil.copyfile(path, folder / "model.tflite")
        words = [word for key in OPTIONS for word in (f"--{key}", options[key])]
        log = run(
            [sys.executable, "-P", "-m", "ethosu.vela", "model.tflite", *words,
             "--config", _CONFIGURATIONS, "--output-dir", ".", "--enable-debug-db"],
            title="Vela", where=path, folder=folder, timeout_s=_TIMEOUT_S,
        )  # fmt: skip
        return _result(folder, path, graph, options, log)


def _result(
    folder: Path, path: Path, graph: Graph, options: Mapping[str, str], log: str
) -> Compiled:
    try:
        model = (folder / "model_vela.tflite").read_bytes()
        summary = _summary(folder / f"model_summary_{options['system-config']}.csv")
        tables = _tables((folder / "model_debug.xml").read_text(errors="replace"))
        ops = _ops(graph, tables, log)
        memory = {
            name: round(float(summary[column]) * 1024)
            for name, column in _MEMORIES.items()
            if float(summary[column])
        }
        clock, cycles = float(summary["core_clock"]), float(summary["cycles_total"])
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise ConversionError(
            f"Vela's report cannot be read ({type(error).__name__}: {error})",
            where=str(path),
            hint=log.strip()[-2000:] or None,
        ) from None
    return Compiled(
        compiler=f"Vela {version('ethos-u-vela')}",
        configuration=", ".join(options[key] for key in OPTIONS),
        model=model,
        ops=ops,
        memory=memory,
        cycles=None if math.isnan(cycles) else round(cycles),
        clock_hz=clock,
    )


def _summary(path: Path) -> dict[str, str]:
    with path.open(newline="") as handle:
        return next(csv.DictReader(handle), {})


def _tables(text: str) -> dict[str, list[dict[str, str]]]:
    """The tables of the debug database: CSV within XML."""
    found = re.finditer(r'<table name="(\w+)">\s*<!\[CDATA\[(.*?)\]\]>', text, re.DOTALL)
    return {
        table[1]: list(csv.DictReader(io.StringIO(table[2].strip())))
        for table in found
        if table[1] in ("perf", "source")
    }


def _ops(
    graph: Graph, tables: Mapping[str, list[dict[str, str]]], log: str
) -> tuple[CompiledOp, ...]:
    # `ext_key` is the operator's position in the source file.
    position = {row["id"]: int(row["ext_key"]) for row in tables["source"]}
    cycles = dict.fromkeys(range(len(graph.ops)), 0)
    left: set[int] = set()
    for row in tables["perf"]:
        index = position.get(row["source_id"])
        if index is None or index not in cycles:
            continue
        cycles[index] += int(row["op_cycles"])
        if row["operator"] == _LEFT:
            left.add(index)
    reasons = {
        match["output"]: (match["found"].strip(), " ".join(match["allowed"].split()))
        for match in _REASON.finditer(log)
    }
    made = []
    for op in graph.ops:
        if op.index not in left:
            made.append(CompiledOp(accelerated=True, cycles=cycles[op.index]))
            continue
        names = [graph.tensors[index].name for index in op.outputs]
        found, allowed = next((reasons[name] for name in names if name in reasons), ("", ""))
        made.append(CompiledOp(accelerated=False, found=found, allowed=allowed))
    return tuple(made)
