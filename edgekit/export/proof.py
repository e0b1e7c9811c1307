"""What a converted file computes on its real runtime, held against its references."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit.base.errors import InputError, ParityError
from edgekit.base.files import sha256_file
from edgekit.runtimes.metadata import IoRecord
from edgekit.runtimes.open import open_session
from edgekit.runtimes.session import Arrays, run_raw
from edgekit.schema.artifact import Preprocessing, Sidecar, TensorInfo
from edgekit.schema.names import Format, Precision
from edgekit.schema.recipe import Limits
from edgekit.schema.results import VerifyResult
from edgekit.verify.parity import compare, master_limits
from edgekit.verify.samples import random_samples

_HINT = "the converted file computes something else; give other limits only if that is meant"


class Master:
    """An int8 or mixed .tflite file: its tensors, and its outputs on the samples."""

    def __init__(self, path: Path, x: Arrays | None, precision: Precision) -> None:
        self.path = path
        with open_session(path) as session:
            self.inputs, self.outputs = session.inputs, session.outputs
            if precision == "int8" and not all(info.dtype == "int8" for info in self.outputs):
                raise InputError(
                    "the master of int8 files is a .tflite file with int8 outputs",
                    where=str(path),
                    hint="edgekit export --format tflite --precision int8 makes one",
                )
            self.x = random_samples(session.inputs) if x is None else x
            self.results = run_raw(session, self.x)
        self.record = IoRecord(inputs=self.inputs, outputs=self.outputs).model_dump_json()


class Proof:
    """A converted file's outputs on its real runtime, to hold against references."""

    def __init__(self, made: Path, output: Path, x: Arrays | None) -> None:
        self._made, self._output = made, output
        with open_session(made) as session:
            self._inputs, self._outputs = session.inputs, session.outputs
            self._runtime = f"{session.runtime} {session.version}"
            self.x = random_samples(session.inputs) if x is None else x
            self._results = run_raw(session, self.x)

    def against(
        self,
        reference: Arrays,
        name: str,
        limits: Limits,
        *,
        infos: tuple[TensorInfo, ...] = (),
        simulated: bool = False,
    ) -> VerifyResult:
        """The parity with a reference.

        Raises:
            ParityError: a limit is broken.
        """
        result = compare(
            self._results,
            reference,
            artifact=self._output.name,
            reference_name=name,
            infos=self._outputs,
            limits=limits,
            reference_infos=infos,
            simulated=simulated,
        )
        if not result.passed:
            raise ParityError(
                f"parity with {name} failed: {'; '.join(result.failures)}",
                where=self._output.name,
                hint=_HINT,
            )
        return result

    def against_master(self, master: Master, limits: Limits) -> VerifyResult:
        """The parity with the master, counted in steps where its outputs are int8."""
        held = master_limits(limits, master.outputs)
        return self.against(master.results, master.path.name, held, infos=master.outputs)

    def sidecar(
        self,
        format: Format,  # noqa: A002 the word used everywhere
        precision: Precision,
        parity: Mapping[str, VerifyResult],
        provenance: Mapping[str, Any],
        *,
        preprocessing: Preprocessing | None = None,
        labels: tuple[str, ...] = (),
    ) -> Sidecar:
        """The sidecar of the proven file."""
        files = {p.name: sha256_file(p) for p in sorted(self._made.parent.iterdir())}
        return Sidecar(
            file=self._made.name,
            files=files,
            format=format,
            precision=precision,
            bytes=sum(p.stat().st_size for p in self._made.parent.iterdir()),
            sha256=files[self._made.name],
            inputs=self._inputs,
            outputs=self._outputs,
            preprocessing=preprocessing,
            labels=labels,
            provenance=dict(provenance),
            parity={
                "runtime": self._runtime,
                **{name: result.model_dump(mode="json") for name, result in parity.items()},
            },
        )
