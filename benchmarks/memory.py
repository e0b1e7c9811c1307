"""Predicted memory against what runtimes allocate: `python benchmarks/memory.py [FOLDER]`.

FOLDER holds the shared models (default: ../shared/models, or $EDGEKIT_SHARED/models). LiteRT's
arena is read from the addresses of its tensors, without XNNPACK; TensorFlow Lite Micro's from
print_allocations in a child process. What is not installed is left out, and said so.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

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


def main() -> None:
    """Prints the table."""
    shared = Path(os.environ.get("EDGEKIT_SHARED", "../shared"))
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else shared / "models"
    files = sorted(folder.glob("*.tflite"))
    if not files:
        print(f"no .tflite files in {folder}: nothing to compare")
    for ask, package in ((litert, "ai_edge_litert"), (tflm, "tflite_micro")):
        if importlib.util.find_spec(package) is None:
            print(f"{package} is not installed: left out")
            continue
        for path in files:
            try:
                rows = list(ask(path))
            except (RuntimeError, ValueError, subprocess.CalledProcessError):
                print(f"{path.stem:42} {package} does not run it")
                continue
            for name, planner, predicted, real, source in rows:
                error = 100 * (predicted / real - 1)
                print(f"{name:42} {planner:18} {predicted:9,} {real:9,} {error:+6.2f}%  {source}")


if __name__ == "__main__":
    main()
