"""How long `edgekit profile` takes for one file on many targets, after start-up.

    python benchmarks/profile_speed.py [FILE] [--targets 40] [--repeats 5]

Without a file, a graph of 150 operators like a MobileNet's is profiled. Shipped targets are
repeated until there are as many as asked for. Prints the median of reading the target files and of
profiling, and fails if TensorFlow was imported.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from edgekit.graph.read import read_graph
from edgekit.graph.types import Graph, Op, OpClass, Port, Tensor
from edgekit.profiling.profile import Subject, profile_subject
from edgekit.profiling.targets import _load_shipped, load_target, target_names
from edgekit.schema.target import Target


def chain(operators: int) -> Graph:
    """Expanding, depthwise and projecting convolutions in turn."""
    side, narrow, wide = 28, 32, 192
    tensors = [Tensor(0, "x", (1, side, side, narrow), "int8")]
    ops: list[Op] = []
    for number in range(operators):
        step = number % 3
        inputs, outputs = (narrow, wide, wide)[step], (wide, wide, narrow)[step]
        kernel = 3 if step == 1 else 1
        shape = (1, 3, 3, wide) if step == 1 else (outputs, 1, 1, inputs)
        per_output = 9 if step == 1 else inputs
        source = len(tensors) - 1
        tensors.append(Tensor(source + 1, f"w{number}", shape, "int8", None, constant=True))
        tensors.append(Tensor(source + 2, f"y{number}", (1, side, side, outputs), "int8"))
        kind: OpClass = "depthwise" if step == 1 else "pointwise"
        name = "DEPTHWISE_CONV_2D" if step == 1 else "CONV_2D"
        attributes = {"stride_h": 1, "stride_w": 1, "padding": "SAME", "kernel": kernel}
        ops.append(
            Op(number, name, kind, f"layer{number}", (source, source + 1), (source + 2,),
               attributes, side * side * outputs * per_output)
        )  # fmt: skip
    size = sum(tensor.bytes for tensor in tensors if tensor.constant)
    output = Port("y", len(tensors) - 1)
    return Graph("tflite", "chain", tuple(tensors), tuple(ops), (Port("x", 0),), (output,), size)


def seconds(action: Callable[[], object], repeats: int) -> float:
    """Median wall time."""
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def main(arguments: Sequence[str]) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--targets", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    names = list(itertools.islice(itertools.cycle(target_names()), options.targets))
    targets: list[Target] = []

    def load() -> None:
        for name in names:
            _load_shipped.cache_clear()
            targets.append(load_target(name))

    def profile() -> None:
        graph = read_graph(options.file) if options.file else chain(150)
        subject = Subject(graph, "model.tflite")
        for target in targets:
            profile_subject(subject, target)

    print(f"{len(names)} targets ({len(set(names))} different): "
          f"reading their files {seconds(load, 1):.2f} s, "
          f"profiling {seconds(profile, options.repeats):.2f} s")  # fmt: skip
    if "tensorflow" in sys.modules:
        raise SystemExit("TensorFlow was imported")


if __name__ == "__main__":
    main(sys.argv[1:])
