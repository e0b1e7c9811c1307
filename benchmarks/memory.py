"""Predicted memory against what runtimes allocate: `python benchmarks/memory.py [--docs]`.

Three tables over the shared models (../shared/models, or $EDGEKIT_SHARED/models):

1. What runtimes allocate here. LiteRT's arena is read from the addresses of its tensors, without
   XNNPACK; TensorFlow Lite Micro's from print_allocations in a child process.
2. What sources publish for microcontrollers, for the networks whose structure is known.
3. What Vela lays out for an Ethos-U55, which takes a minute or two.

What is not installed is left out, and said so. --docs puts the tables into docs/memory.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from groundtruth import SHARED
from markdown import DOCS, put_between
from published_memory import Compared, is_sketch, published, vela

from edgekit.graph.tflite import read_tflite
from edgekit.profiling.memory.arena import plan
from edgekit.profiling.memory.litert import litert_scratch
from edgekit.profiling.memory.scratch import tflm_scratch
from edgekit.profiling.memory.tail import Build, tail_bytes

Row = tuple[str, str, int, int, str]
_WHEEL = Build(pointer=8, decompression=True, fixed=488)
_ASK = (
    "import sys; from tflite_micro.python.tflite_micro import runtime; "
    "runtime.Interpreter.from_file(sys.argv[1], arena_size=1 << 23).print_allocations()"
)


def litert(path: Path) -> Iterator[Row]:
    """The end of the last tensor in LiteRT's arena; scratch above it cannot be seen."""
    from ai_edge_litert import interpreter as runtime

    resolver = runtime.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    loaded = runtime.Interpreter(str(path), num_threads=1, experimental_op_resolver_type=resolver)
    loaded.allocate_tensors()
    graph = read_tflite(path)
    found = plan(graph, scratch=litert_scratch(graph))
    blocks = [(b.tensor, b) for b in found.blocks if b.tensor is not None]
    at = {i: int(loaded.tensor(i)().__array_interface__["data"][0]) for i, _ in blocks}
    start = min(at.values())
    real = max(at[tensor] - start + block.bytes for tensor, block in blocks)
    predicted = max(block.offset + block.bytes for _, block in blocks)
    yield path.stem, "LiteRT tensors", predicted, real, "tensor addresses"


def tflm(path: Path) -> Iterator[Row]:
    """Head and tail of TensorFlow Lite Micro's arena on x86-64."""
    asked = subprocess.run(
        [sys.executable, "-c", _ASK, str(path)], capture_output=True, text=True, check=True
    )
    printed = asked.stdout + asked.stderr
    head, tail = (
        int(re.findall(rf"allocation {part} (\d+)", printed)[0]) for part in ("head", "tail")
    )
    graph = read_tflite(path)
    planned = plan(graph, planner="tflm", scratch=tflm_scratch(graph)).arena_bytes
    yield path.stem, "TFLM head", planned, head, "print_allocations"
    yield path.stem, "TFLM tail, x86-64", tail_bytes(graph, _WHEEL), tail, "print_allocations"


def here(models: Path) -> Iterator[str]:
    """What runtimes allocate on this machine."""
    yield "| network | what | predicted, bytes | allocated, bytes | predicted / allocated | from |"
    yield "| --- | --- | ---: | ---: | ---: | --- |"
    left_out = []
    for ask, package in ((litert, "ai_edge_litert"), (tflm, "tflite_micro")):
        if importlib.util.find_spec(package) is None:
            left_out.append(f"{package} is not installed: left out.")
            continue
        refused = []
        for path in sorted(models.glob("*.tflite")):
            try:
                rows = list(ask(path))
            except (RuntimeError, ValueError, subprocess.CalledProcessError):
                refused.append(path.stem)
                continue
            for name, what, predicted, real, source in rows:
                ratio = f"{predicted / real:.3f}"
                yield f"| {name} | {what} | {predicted:,} | {real:,} | {ratio} | {source} |"
        if refused:
            left_out.append(f"{package} does not run {', '.join(refused)}.")
    yield from ("", *left_out)


def beside_sources(models: Path) -> Iterator[str]:
    """What sources publish for microcontrollers."""
    found, unknown = published(models)
    yield (
        "| network, input | runtime | predicted by | peak, KiB | RAM predicted, KiB | "
        "published, KiB | predicted / published | within | source |"
    )
    yield "| --- | --- | --- | ---: | ---: | ---: | ---: | --- | --- |"
    rows = [row for row in found if not is_sketch(row)]
    for row in rows:
        inside = "yes" if row.low <= row.published <= row.high else "no"
        yield (
            f"| {row.network} | {row.runtime} | {row.target} | {_kib(row.peak)} | {_ram(row)} "
            f"| {_kib(row.published)} | {row.ratio:.2f} | {inside} | {row.source} |"
        )
    yield ""
    yield from _by_runtime(rows)
    sketches = [row for row in found if is_sketch(row)]
    if sketches:
        yield (
            f"- {len(sketches)} fully connected networks in whole Arduino sketches "
            f"({sketches[0].source}): published {_range([row.published for row in sketches])} KiB "
            f"whatever the network, predicted {_range([row.predicted for row in sketches])} KiB. A "
            "sketch's arena is a buffer of fixed size, so this says nothing about one."
        )
    kinds = Counter(row["runtime"] for row in unknown)
    listed = ", ".join(f"{runtime} ({count})" for runtime, count in kinds.most_common())
    yield f"- {len(unknown)} rows have no structure or no target of their runtime: {listed}."


def beside_vela(models: Path, target: str) -> Iterator[str]:
    """What Vela lays out."""
    yield (
        f"| network | plan of the source file, KiB | peak, KiB | Vela's SRAM for {target}, KiB | "
        "plan / Vela | operators left to the CPU |"
    )
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    without = []
    for row in vela(models, target):
        if isinstance(row, str):
            without.append(f"- {row}.")
            continue
        name, arena, peak, real, left = row
        sizes = " | ".join(map(_kib, (arena, peak, real)))
        yield f"| {name} | {sizes} | {arena / real:.2f} | {left} |"
    yield from ("", *without)


def _by_runtime(rows: list[Compared]) -> Iterator[str]:
    for runtime in dict.fromkeys(row.runtime for row in rows):
        ratios = sorted(row.ratio for row in rows if row.runtime == runtime)
        inside = sum(r.low <= r.published <= r.high for r in rows if r.runtime == runtime)
        spread = f"{ratios[0]:.2f}"
        if len(ratios) > 1:
            spread += f" to {ratios[-1]:.2f}, median {median(ratios):.2f}"
        yield (
            f"- {runtime}: predicted / published {spread}; {inside} of {len(ratios)} "
            "within the interval."
        )


def _ram(row: Compared) -> str:
    if row.low == row.high:
        return _kib(row.predicted)
    return f"{_kib(row.predicted)} ({_kib(row.low)} to {_kib(row.high)})"


def _kib(count: int) -> str:
    return f"{count / 1024:,.1f}"


def _range(counts: list[int]) -> str:
    return f"{_kib(min(counts))} to {_kib(max(counts))}"


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--docs", action="store_true", help="put them into docs/memory.md")
    parser.add_argument("--target", default="ethos-u55-128", help="what Vela compiles for")
    asked = parser.parse_args()
    models = SHARED / "models"
    if not models.is_dir():
        raise SystemExit(f"no models at {models}: set EDGEKIT_SHARED to the shared folder")
    parts = {
        "runtimes": here(models),
        "published": beside_sources(models),
        "vela": beside_vela(models, asked.target),
    }
    for name, lines in parts.items():
        text = "\n".join(lines).strip()
        print(f"{name}\n\n{text}\n", flush=True)
        if asked.docs:
            put_between(DOCS / "memory.md", name, text)


if __name__ == "__main__":
    main()
