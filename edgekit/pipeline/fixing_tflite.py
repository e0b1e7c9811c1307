"""The workbench of .tflite files: rewritten in the schema's object form, run in LiteRT."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from edgekit.base.child import Worker
from edgekit.base.files import write_bytes
from edgekit.graph.read import read_graph
from edgekit.graph.tflite_edit import TFLiteEditor
from edgekit.graph.types import Graph
from edgekit.pipeline.fixing_bench import Checked, Key, Workbench, difference, with_real
from edgekit.profiling.check import check_graph
from edgekit.profiling.rewrites import REWRITES
from edgekit.runtimes.litert import LiteRTSession
from edgekit.runtimes.session import Arrays, match_names, run_raw, to_model, to_real
from edgekit.schema.artifact import TensorInfo
from edgekit.schema.fixing import Difference
from edgekit.schema.results import CheckReport, Finding
from edgekit.schema.target import Target
from edgekit.verify.samples import random_samples

_KERNELS = {"litert": False, "litert without XNNPACK": True}


class TFLiteBench(Workbench):
    """A .tflite file; a state is its content.

    Results are compared on LiteRT's default kernels and on its own without a delegate, which may
    differ by a step from each other: equal must be equal on both.

    Args:
        path: the file.
        target: of the check.
        given: real samples by input name.
        samples: how many random ones.
        seed: of the random ones.
        scratch: a folder for the candidate.
        worker: a child process to run files in, which one that ends its runtime's process may end;
            None: they run in this process.
    """

    rewrites = REWRITES
    basis = "the file"

    def __init__(
        self,
        path: Path,
        target: Target,
        given: Arrays | None,
        samples: int,
        seed: int,
        scratch: Path,
        worker: Worker | None = None,
    ) -> None:
        self._path, self._target, self._scratch = path, target, scratch
        self._worker = worker
        with LiteRTSession(path) as session:
            self._samples = random_samples(session.inputs, count=samples, seed=seed)
            if given is not None:
                self._samples = _with_real(self._samples, given, session.inputs)
        self._reference = self._outputs(path)

    def start(self) -> bytes:
        """See `Workbench.start`."""
        return self._path.read_bytes()

    def editable(self, state: bytes) -> TFLiteEditor:
        """See `Workbench.editable`."""
        return TFLiteEditor(state, where=str(self._path))

    def finished(self, copy: TFLiteEditor) -> bytes:
        """See `Workbench.finished`."""
        return copy.content()

    def check(self, state: bytes) -> Checked:
        """See `Workbench.check`."""
        path = self._file(state)
        graph = read_graph(path)
        report = check_graph(graph, self._target, self._path.name, path=path)
        return Checked(report, finding_keys(graph, report))

    def compare(self, state: bytes) -> Difference:
        """See `Workbench.compare`."""
        found = self._outputs(self._file(state))
        worst = [
            difference(_named(one[0], other[0]), other[0], (_named(one[1], other[1]), other[1]))
            for one, other in zip(found, self._reference, strict=True)
        ]
        largest = max(worst, key=lambda one: one.relative)
        return largest.model_copy(update={"kernels": tuple(_KERNELS)})

    def write(self, state: bytes, path: Path) -> None:
        """See `Workbench.write`."""
        write_bytes(path, state)

    def _file(self, state: bytes) -> Path:
        path = self._scratch / "candidate.tflite"
        path.unlink(missing_ok=True)
        path.write_bytes(state)
        return path

    def _outputs(self, path: Path) -> list[tuple[Arrays, Arrays]]:
        """Raw and real outputs, by kernels."""
        if self._worker is None:
            return _recorded(path, self._samples)
        given, made = self._scratch / "samples.npz", self._scratch / "outputs.npz"
        np.savez(given, **{str(n): a for n, a in enumerate(self._samples.values())})  # type: ignore[arg-type]
        names = self._worker.call(
            "edgekit.pipeline.fixing_tflite:record",
            model=str(path), names=list(self._samples), samples=str(given), output=str(made),
        )  # fmt: skip
        with np.load(made, allow_pickle=False) as arrays:
            return [
                (
                    {name: arrays[f"{kernels}-{n}-raw"] for n, name in enumerate(names)},
                    {name: arrays[f"{kernels}-{n}-real"] for n, name in enumerate(names)},
                )
                for kernels in range(len(_KERNELS))
            ]


def record(*, model: str, names: list[str], samples: str, output: str) -> list[str]:
    """Runs samples through a file on every kind of kernels. Called in a child, which may die of it.

    Returns:
        Names of the outputs.
    """
    with np.load(samples, allow_pickle=False) as arrays:
        x = {name: arrays[str(n)] for n, name in enumerate(names)}
    found = _recorded(Path(model), x)
    np.savez(
        output,
        **{  # type: ignore[arg-type]
            f"{kernels}-{n}-{kind}": array
            for kernels, pair in enumerate(found)
            for kind, outputs in zip(("raw", "real"), pair, strict=True)
            for n, array in enumerate(outputs.values())
        },
    )
    return list(found[0][0])


def _recorded(path: Path, samples: Arrays) -> list[tuple[Arrays, Arrays]]:
    found = []
    for alone in _KERNELS.values():
        with LiteRTSession(path, keep_tensors=alone) as session:
            raw = run_raw(session, samples)
            real = {info.name: to_real(raw[info.name], info) for info in session.outputs}
        found.append((raw, real))
    return found


def finding_keys(graph: Graph, report: CheckReport) -> dict[Key, Finding]:
    """The findings of a report by rule and by the name of the operator's first output.

    Where files give one name to several tensors, the findings are counted.
    """
    keys: dict[Key, Finding] = {}
    seen: Counter[tuple[str, str]] = Counter()
    faults: list[tuple[int | None, Finding]] = [(None, finding) for finding in report.findings]
    faults += [(op.index, finding) for op in report.ops for finding in op.findings]
    for index, finding in faults:
        outputs = () if index is None else graph.ops[index].outputs
        name = graph.tensors[outputs[0]].name if outputs else ""
        keys[finding.rule, name, seen[finding.rule, name]] = finding
        seen[finding.rule, name] += 1
    return keys


def _named(found: Arrays, wanted: Arrays) -> Arrays:
    """Outputs by the names of others: without a signature, names are those of tensors."""
    return dict(zip(wanted, found.values(), strict=True))


def _with_real(made_up: Arrays, given: Arrays, infos: tuple[TensorInfo, ...]) -> Arrays:
    """Random and real samples, in the model's own dtypes.

    Raises:
        DataError: the real ones do not fit the inputs.
    """
    real = match_names(tuple(info.name for info in infos), given)
    return with_real(
        {info.name: to_model(made_up[info.name], info) for info in infos},
        {info.name: to_model(real[info.name], info) for info in infos},
    )
