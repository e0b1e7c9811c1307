"""Files compiled for an accelerator: nothing on this machine runs them.

What is proven of such a file is what its master, the .tflite file that it was compiled from, has
shown; of the compiled file itself: that operators of the accelerator are in it, and that inputs and
outputs are those of the master. The sidecar says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit.base.errors import ConversionError, InputError
from edgekit.base.extras import versions
from edgekit.base.files import sha256_file
from edgekit.export.base import sidecar_path
from edgekit.graph.read import read_graph
from edgekit.graph.types import Graph, Port
from edgekit.profiling.compilers import COMPILERS, Compiled
from edgekit.profiling.placement import COMPILED
from edgekit.profiling.targets import load_target
from edgekit.schema.artifact import Preprocessing, Sidecar, TensorInfo
from edgekit.schema.names import Format
from edgekit.schema.target import Target


def compiled_for(
    format: Format,  # noqa: A002 the word used everywhere
    target_name: str | None,
) -> tuple[Target, dict[str, str]]:
    """The target to compile for, and what its compiler is told.

    Raises:
        InputError: no target is given, it is unknown, or its compiler is another.
    """
    if target_name is None:
        raise InputError(
            f"{format} files are compiled for a target, which is not given",
            where="--target",
            hint="for example --target ethos-u55-128",
        )
    target = load_target(target_name)
    if target.compiler is None or target.compiler.name != format:
        raise InputError(
            f"files for {target.name} are not made by {format}",
            where="--target",
            hint="for example --target ethos-u55-128",
        )
    return target, target.compiler.options


def compile_master(
    master: Path,
    format: Format,  # noqa: A002 the word used everywhere
    target_name: str | None,
    output: Path,
    *,
    provenance: Mapping[str, Any],
    preprocessing: Preprocessing | None = None,
    labels: tuple[str, ...] = (),
) -> Sidecar:
    """Compiles an int8 .tflite file for a target and writes the result to `output`.

    Args:
        master: the .tflite file.
        format: name of the compiler, and of the format.
        target_name: name or .yaml file of the target.
        output: the file to write.
        provenance: for the sidecar.
        preprocessing: for the sidecar; None: the master's.
        labels: for the sidecar; none: the master's.

    Returns:
        The sidecar, not yet written.

    Raises:
        InputError: no target is given, or its compiler is another; or the master is not a .tflite
            file that can be compiled.
        ConversionError: the compiler failed, or left every operator to the CPU, or the file does
            not have the inputs and outputs of its master.
        MissingDependencyError: the compiler is not installed.
    """
    target, options = compiled_for(format, target_name)
    source = read_graph(master)
    result = COMPILERS.get(format)(master, source, options)
    output.write_bytes(result.model)
    made = read_graph(output)
    own = sum(op.name in COMPILED for op in made.ops)
    if not own:
        raise ConversionError(
            f"{result.compiler} left every operator to the CPU: the file would gain nothing",
            where=str(master),
            hint=f"edgekit check {master.name} --target {target.name} tells why",
        )
    inputs, outputs = _ports(source, source.inputs), _ports(source, source.outputs)
    if _shapes(inputs) != _shapes(_ports(made, made.inputs)) or _shapes(outputs) != _shapes(
        _ports(made, made.outputs)
    ):
        raise ConversionError(
            f"inputs or outputs are not those of the master after {result.compiler}",
            where=str(master),
        )
    proof = _proof(master)
    return Sidecar(
        file=output.name,
        files={output.name: sha256_file(output)},
        format=format,
        precision="int8",
        bytes=len(result.model),
        sha256=sha256_file(output),
        inputs=proof.inputs if proof else inputs,
        outputs=proof.outputs if proof else outputs,
        preprocessing=preprocessing or (proof.preprocessing if proof else None),
        labels=labels or (proof.labels if proof else ()),
        provenance={
            **provenance,
            "master": master.name,
            "master_sha256": sha256_file(master),
            "target": target.name,
            "compiler": f"{result.compiler} for {result.configuration}",
            "versions": versions("edgekit", "ethos-u-vela"),
        },
        parity={
            **_parity(master, proof),
            "compiled": _evidence(result, made, own),
        },
    )


def _proof(master: Path) -> Sidecar | None:
    """The sidecar of the master with the parity that it has passed, if there is one."""
    try:
        proof = Sidecar.model_validate_json(sidecar_path(master).read_text())
    except (OSError, ValueError):
        return None
    return proof if proof.sha256 == sha256_file(master) else None  # else of another file


def _parity(master: Path, proof: Sidecar | None) -> dict[str, Any]:
    """What the master has passed, and that it was the master."""
    if proof is None:
        return {"runtime": f"none: {master.name} came without a parity check of its own"}
    passed = {key: value for key, value in proof.parity.items() if key != "runtime"}
    runtime = f"{proof.parity.get('runtime')}, of the master {proof.file}: no runtime here"
    return {"runtime": f"{runtime} runs the compiled file", **passed}


def _evidence(result: Compiled, made: Graph, own: int) -> dict[str, Any]:
    """What was looked at in the compiled file."""
    return {
        "accelerator_operators": own,
        "cpu_operators": len(made.ops) - own,
        "operators_left_to_cpu": result.left_to_cpu,
        "memory_bytes": dict(result.memory),
        "cycles": result.cycles,
        "same_inputs_and_outputs": True,
    }


def _ports(graph: Graph, ports: tuple[Port, ...]) -> tuple[TensorInfo, ...]:
    tensors = [(port.name, graph.tensors[port.tensor]) for port in ports]
    return tuple(
        TensorInfo(
            name=name, shape=tensor.shape, dtype=tensor.dtype, quantization=tensor.quantization
        )
        for name, tensor in tensors
    )


def _shapes(infos: tuple[TensorInfo, ...]) -> list[tuple[Any, ...]]:
    """What must not change; compilers fix a free batch, and may drop signature names."""
    return [(info.shape[1:], info.dtype, info.quantization) for info in infos]
