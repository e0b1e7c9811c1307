"""Small .tflite files with something to fix, and what `--fix` makes of them."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.graph.tflite import read_buffer
from edgekit.graph.tflite_edit import TFLiteEditor
from edgekit.pipeline.fixing import fix_model
from edgekit.pipeline.fixing_tflite import TFLiteBench
from edgekit.profiling.rewrites import REWRITES, Change, Site
from edgekit.profiling.targets import load_target
from edgekit.runtimes.litert import LiteRTSession
from edgekit.runtimes.session import Arrays, run_raw
from edgekit.schema.fixing import FixReport
from edgekit.schema.results import Finding
from edgekit.schema.target import Target

files = importlib.import_module("tests.tflite_files")


def target_with(rules: str) -> Target:
    """A target with one processor, of these rules, that takes every precision."""
    board = load_target("raspberry-pi-4")
    first = board.processors[0].model_copy(update={"rules": rules})
    return board.model_copy(update={"processors": (first,)})


@dataclass
class Net:
    """A graph that is written down operator by operator; tensors are numbered as they come."""

    seed: int = 0
    tensors: list[Any] = field(default_factory=list)
    ops: list[Any] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)

    def tensor(
        self,
        shape: tuple[int, ...],
        scale: float | None = None,
        zero: int = 0,
        *,
        free: bool = False,
        dtype: str | None = None,
    ) -> int:
        """A computed tensor: int8 with a scale, else float32."""
        kind = dtype or ("int8" if scale else "float32")
        spec = files.TensorSpec(f"t{len(self.tensors)}", list(shape), kind)
        if scale:
            spec.scale, spec.zero_point = [scale], [zero]
        if free:
            spec.signature = [-1, *shape[1:]]
        self.tensors.append(spec)
        return len(self.tensors) - 1

    def given(self, shape: tuple[int, ...], *arguments: Any, **more: Any) -> int:
        """An input of the graph."""
        index = self.tensor(shape, *arguments, **more)
        self.inputs.append(index)
        return index

    def constant(
        self, values: Any, scale: float | list[float] | None = None, zero: int = 0, axis: int = 0
    ) -> int:
        """A constant of the dtype of `values`."""
        array = np.asarray(values)
        scales = [] if scale is None else list(np.atleast_1d(scale).astype(float))
        self.tensors.append(
            files.TensorSpec(
                f"t{len(self.tensors)}", list(array.shape), array.dtype.name, array.tobytes(),
                scales, [zero] * len(scales), axis,
            )
        )  # fmt: skip
        return len(self.tensors) - 1

    def op(self, name: str, inputs: list[int], output: int, options: str = "", **more: Any) -> int:
        """An operator; its output."""
        self.ops.append(files.OpSpec(name, inputs, [output], more, options))
        return output

    def content(self, *outputs: int) -> bytes:
        """The file."""
        return bytes(
            files.build(files.GraphSpec(self.tensors, self.ops, self.inputs, list(outputs)))
        )


@dataclass(frozen=True)
class Pair:
    """A file before and after, to run both."""

    before: bytes
    after: bytes
    folder: Path

    @property
    def ops(self) -> list[str]:
        """Names of the operators of the fixed file."""
        return [op.name for op in read_buffer(self.after).ops]

    def outputs(self, seed: int = 99) -> tuple[Arrays, Arrays]:
        """Raw outputs of both files in LiteRT, on random integers or floats over a wide range."""
        return run(self.before, self.folder, seed), run(self.after, self.folder, seed)

    def assert_equal(self) -> None:
        """Both files give the same bits."""
        one, other = self.outputs()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])

    def most_steps(self) -> int:
        """The largest difference of the integers that both files give."""
        pairs = zip(*(list(outputs.values()) for outputs in self.outputs()), strict=True)
        return max(int(np.abs(a.astype(int) - b.astype(int)).max()) for a, b in pairs)

    def assert_near(self, relative: float) -> None:
        """Both files give nearly the same, relative to the largest value."""
        for one, other in zip(*(list(o.values()) for o in self.outputs()), strict=True):
            scale = np.abs(one.astype(float)).max()
            assert np.abs(one.astype(float) - other.astype(float)).max() <= relative * scale


@dataclass(frozen=True)
class Fixed(Pair):
    """A pair with its report."""

    report: FixReport

    @property
    def standing(self) -> list[str]:
        """Rules that are still broken."""
        after = self.report.after
        found = [*after.findings, *(f for op in after.ops for f in op.findings)]
        return [finding.rule for finding in found]

    def why(self, rule: str) -> str:
        """Why a finding stands."""
        return next(e.why for e in self.report.findings if e.finding.rule == rule and e.why) or ""


def run(content: bytes, folder: Path, seed: int) -> Arrays:
    """Raw outputs on random inputs that use all of an integer's range."""
    pytest.importorskip("ai_edge_litert")
    path = folder / "run.tflite"
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    rng = np.random.default_rng(seed)
    with LiteRTSession(path) as session:
        x = {}
        for info in session.inputs:
            shape = (16, *(size or 1 for size in info.shape[1:]))
            if np.issubdtype(info.dtype, np.integer):
                x[info.name] = rng.integers(-128, 128, shape).astype(info.dtype)
            else:
                x[info.name] = rng.normal(0, 2, shape).astype(info.dtype)
        return run_raw(session, x)


def fix(content: bytes, target: str, folder: Path, *, inexact: bool = False, **more: Any) -> Fixed:
    """Fixes a file for a shipped target, or for one of a rule set (`rules:NAME`)."""
    pytest.importorskip("ai_edge_litert")
    path = folder / "model.tflite"
    path.write_bytes(content)
    name = target.removeprefix("rules:")
    aim = target_with(name) if name != target else load_target(target)
    bench = TFLiteBench(path, aim, None, 8, 0, folder)
    report, state = fix_model(bench, aim, allow_inexact=inexact, **more)
    return Fixed(content, state, folder, report)


def apply(
    name: str,
    content: bytes,
    folder: Path,
    *,
    index: int = 0,
    target: str = "coral-usb",
    **arguments: Any,
) -> tuple[Change, Pair]:
    """Applies one rewrite to an operator of a file, whatever a target says."""
    finding = Finding(rule="", found="", allowed="", severity="fallback", fix="", index=index)
    editor = TFLiteEditor(content)
    change = REWRITES.get(name).apply(Site(editor, finding, load_target(target), arguments))
    return change, Pair(content, editor.content(), folder)
