"""Google's compiler, by a stand-in on the PATH that prints a log in its format."""

from __future__ import annotations

import shlex
import stat
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.base.errors import (
    ConversionError,
    InputError,
    MissingDependencyError,
    TargetError,
)
from edgekit.graph.read import read_graph
from edgekit.profiling.check import check_file
from edgekit.profiling.compilers import Compiled
from edgekit.profiling.compilers import edgetpu as compiler
from edgekit.profiling.compilers.edgetpu import OperatorStatus, compile_file, parse_log
from edgekit.profiling.profile import profile_file
from edgekit.profiling.targets import load_target

CORAL = load_target("coral-usb")
UNSUPPORTED = "Operation not supported"
# The format of compiler 16, as in https://github.com/google-coral/edgetpu/issues/512.
PRINTED = """Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.

Model compiled successfully in 93 ms.

Input model: model.tflite
Input size: 8.11MiB
Output model: ./model_edgetpu.tflite
Output size: 9.47MiB
On-chip memory used for caching model parameters: 6.86MiB
On-chip memory remaining for caching model parameters: 7.75KiB
Off-chip memory used for streaming uncached model parameters: 1.22MiB
Number of Edge TPU subgraphs: 1
Total number of operations: 3
Operation log: ./model_edgetpu.log

Model successfully compiled but not all operations are supported by the Edge TPU. A percentage of \
the model will instead run on the CPU, which is slower. If possible, consider updating your model \
to use only operations supported by the Edge TPU. For details, visit g.co/coral/model-reqs.
Number of operations that will run on Edge TPU: 1
Number of operations that will run on CPU: 2

Operator                       Count      Status

{table}Compilation child process completed within timeout period.
Compilation succeeded!
"""
# Of compiler 15: https://raw.githubusercontent.com/rajansaini691/retinanet-model-tflite/master/
# tiny_yolo_edgetpu.log, but with its own line breaks; the .log file has nothing else.
LOG_FILE = """Edge TPU Compiler version 14.1.317412892
Input: tiny_yolo.tflite
Output: tiny_yolo_edgetpu.tflite

Operator                       Count      Status

CONCATENATION                  1          More than one subgraph is not supported
MAX_POOL_2D                    6          Mapped to Edge TPU
RESIZE_NEAREST_NEIGHBOR        1          Operation version not supported
CONV_2D                        11         Mapped to Edge TPU
CONV_2D                        2          More than one subgraph is not supported
QUANTIZE                       1          Operation is otherwise supported, but not mapped due to \
some unspecified limitation
QUANTIZE                       1          More than one subgraph is not supported
QUANTIZE                       2          Mapped to Edge TPU
"""


def table(*rows: tuple[str, int, str]) -> str:
    return "".join(f"{op:<30} {count:<10} {status}\n" for op, count, status in rows)


LEFT = table(
    ("RELU", 1, compiler.MAPPED), ("RELU", 1, compiler.ONE_SUBGRAPH), ("ELU", 1, UNSUPPORTED)
)


@pytest.fixture
def source(tflite_files: ModuleType, tmp_path: Path) -> Path:
    """RELU, ELU, RELU in int8."""
    return _chain(tflite_files, tmp_path / "source.tflite", ("RELU", "ELU", "RELU"), 0)


@pytest.fixture
def compiled(tflite_files: ModuleType, tmp_path: Path) -> Path:
    """The same after compilation: only the first is on the Edge TPU."""
    ops = ("custom:edgetpu-custom-op", "ELU", "RELU")
    return _chain(tflite_files, tmp_path / "compiled.tflite", ops, 0)


def _chain(files: ModuleType, path: Path, ops: tuple[str, ...], start: int) -> Path:
    tensors = [
        files.TensorSpec(f"net/t{start + index}", [1, 8], "int8", None, [0.5], [0])
        for index in range(len(ops) + 1)
    ]
    specs = [files.OpSpec(name, [index], [index + 1]) for index, name in enumerate(ops)]
    path.write_bytes(files.build(files.GraphSpec(tensors, specs, [0], [len(ops)])))
    return path


def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / compiler.PROGRAM
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def prints(tmp_path: Path, rows: str, compiled: Path) -> str:
    log = tmp_path / "printed.txt"
    log.write_text(PRINTED.format(table=rows))
    paths = shlex.quote(str(compiled)), shlex.quote(str(log))
    # It is called in a folder of its own: the arguments must be right, or nothing is written.
    return (
        f'[ "$*" = "-s -o . model.tflite" ] && [ -s model.tflite ] || exit 9\n'
        f"cp {paths[0]} model_edgetpu.tflite\ncat {paths[1]}"
    )


def run(path: Path) -> Compiled:
    return compile_file(path, read_graph(path), {})


def test_the_printed_log() -> None:
    log = parse_log(PRINTED.format(table=LEFT))
    assert log.version == "16.0.384591198"
    assert log.memory == {
        "parameters_cached": round(6.86 * 2**20),
        "parameters_streamed": round(1.22 * 2**20),
    }
    assert log.operators == (
        OperatorStatus("RELU", 1, "Mapped to Edge TPU"),
        OperatorStatus("RELU", 1, "More than one subgraph is not supported"),
        OperatorStatus("ELU", 1, "Operation not supported"),
    )


def test_the_log_file_of_an_older_version() -> None:
    log = parse_log(LOG_FILE)
    assert log.version == "14.1.317412892"
    assert log.memory == {}
    assert sum(row.count for row in log.operators) == 25
    assert sum(row.count for row in log.operators if row.mapped) == 19
    assert log.statuses("RESIZE_NEAREST_NEIGHBOR") == ["Operation version not supported"]
    assert log.statuses("QUANTIZE")[0].endswith("not mapped due to some unspecified limitation")
    assert log.statuses("MAX_POOL_2D") == []


@given(st.text())
def test_any_text_gives_a_log_or_our_error(text: str) -> None:
    for whole in (text, f"Edge TPU Compiler version 1\n{text}", PRINTED.format(table=text)):
        try:
            log = parse_log(whole)
        except ConversionError:
            continue
        assert log.operators


def test_the_log_is_mapped_back_to_the_operators(
    tmp_path: Path, source: Path, compiled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, prints(tmp_path, LEFT, compiled))
    result = run(source)
    assert result.compiler == "Edge TPU Compiler 16.0.384591198"
    assert result.model == compiled.read_bytes()
    assert [op.accelerated for op in result.ops] == [True, False, False]
    assert [op.found for op in result.ops] == ["", UNSUPPORTED, compiler.ONE_SUBGRAPH]


def test_a_check_says_whose_word_it_is(
    tmp_path: Path, source: Path, compiled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    predicted = check_file(source, CORAL)
    assert [op.where for op in predicted.ops] == ["edgetpu", "cpu", "cpu"]
    (summary,) = predicted.findings
    assert "1 of 3 operators on the Edge TPU (predicted by rules)" in summary.found
    assert "first break at net" in summary.found
    assert (summary.rule, summary.index, summary.severity) == ("subgraph", 1, "fallback")
    assert predicted.memory["parameters_cached"].origin == "estimated"
    monkeypatch.undo()
    stand_in(tmp_path, monkeypatch, prints(tmp_path, LEFT, compiled))
    report = check_file(source, CORAL)
    assert [op.where for op in report.ops] == ["edgetpu", "cpu", "cpu"]
    (summary,) = report.findings
    assert "by Edge TPU Compiler 16.0.384591198" in summary.found
    cached = report.memory["parameters_cached"]
    assert (cached.value, cached.origin) == (round(6.86 * 2**20), "compiled")
    assert report.memory["ram_needed"].origin == "estimated"  # the host's: not the compiler's


def test_a_check_names_where_prediction_and_compiler_differ(
    tmp_path: Path, tflite_files: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _chain(tflite_files, tmp_path / "two.tflite", ("RELU", "TANH"), 0)
    ops = ("custom:edgetpu-custom-op", "TANH")
    compiled = _chain(tflite_files, tmp_path / "compiled.tflite", ops, 0)
    reason = "Operation is otherwise supported, but not mapped due to some unspecified limitation"
    rows = table(("RELU", 1, compiler.MAPPED), ("TANH", 1, reason))
    stand_in(tmp_path, monkeypatch, prints(tmp_path, rows, compiled))
    report = check_file(source, CORAL)
    assert [op.where for op in report.ops] == ["edgetpu", "cpu"]
    assert report.ops[1].findings[0].found == reason
    assert [finding.rule for finding in report.findings] == ["subgraph", "prediction"]
    assert reason in report.findings[0].found
    assert "1 TANH (predicted edgetpu, compiled cpu)" in report.findings[1].found


def test_a_profile_stays_an_estimate(
    tmp_path: Path, small_tflite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiler has no cost model, and is not asked for one."""
    stand_in(tmp_path, monkeypatch, "exit 1")
    latency = profile_file(small_tflite, CORAL).latency_ms
    assert latency.value
    assert latency.origin == "estimated"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'Compilation failed due to large activation tensors in model.'; exit 1",
         "the Edge TPU compiler failed (exit code 1)"),
        ("kill -9 $$", "the Edge TPU compiler failed (SIGKILL)"),
        ("head -c 3000 /dev/urandom", "the Edge TPU compiler's log has no version"),
        ("echo 'Edge TPU Compiler version 16.0'", "log has no table of operators"),
    ],
)  # fmt: skip
def test_a_compiler_that_fails(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    stand_in(tmp_path, monkeypatch, script)
    with pytest.raises(ConversionError, match="Edge TPU compiler") as caught:
        run(source)
    assert message in str(caught.value)
    report = check_file(source, CORAL)
    assert report.verdict == "unsupported"
    assert report.findings[0].rule == "compiler"
    assert "predicted by rules" in report.findings[1].found


def test_a_compiler_that_hangs_is_stopped(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, "exec sleep 60")
    monkeypatch.setattr(compiler, "_TIMEOUT_S", 0.2)
    with pytest.raises(ConversionError, match=r"took longer than 0\.2 s and was stopped"):
        run(source)


def test_a_log_and_a_file_that_disagree(
    tmp_path: Path, source: Path, compiled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = table(("RELU", 2, compiler.MAPPED), ("ELU", 1, UNSUPPORTED))
    stand_in(tmp_path, monkeypatch, prints(tmp_path, rows, compiled))
    with pytest.raises(ConversionError, match="2 operators mapped by the log, 1 by the file"):
        run(source)


@pytest.mark.parametrize("content", [None, b"TFL3 and no more"])
def test_a_compiled_file_that_is_missing_or_corrupt(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    written = tmp_path / "written"
    if content is not None:
        written.write_bytes(content)
    stand_in(tmp_path, monkeypatch, prints(tmp_path, LEFT, written) + "\ntrue")
    with pytest.raises(ConversionError, match="file cannot be read"):
        run(source)


def test_where_it_is_not_installed(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="not on the PATH") as caught:
        run(source)
    assert "coral.ai" in (caught.value.hint or "")
    graph = read_graph(source)
    with pytest.raises(TargetError, match="no options"):
        compile_file(source, graph, {"min_runtime": "13"})


def test_other_formats_are_refused(tmp_path: Path, source: Path) -> None:
    graph = read_graph(source)
    other = type(graph)("onnx", *[getattr(graph, name) for name in (
        "name", "tensors", "ops", "inputs", "outputs", "file_bytes")])  # fmt: skip
    with pytest.raises(InputError, match="not onnx"):
        compile_file(tmp_path / "model.onnx", other, {})


@pytest.mark.parametrize(
    "name",
    [
        "deeplabv3_mnv2_dm05_pascal_quant",
        "keras_lstm_mnist_ptq",
        "posenet_mobilenet_v1_075_353_481_16_quant_decoder",
    ],
)
def test_googles_own_compiled_files(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The stand-in writes what the compiler wrote; the prediction agrees with it."""
    source = shared / f"models/coral_{name}.tflite"
    twin = shared / f"models/coral_{name}_edgetpu.tflite"
    predicted = check_file(source, CORAL).ops
    counted: dict[tuple[str, str], int] = {}
    for op in predicted:
        key = "CUSTOM" if op.op == "PosenetDecoderOp" else op.op
        status = compiler.MAPPED if op.where == "edgetpu" else UNSUPPORTED
        counted[key, status] = counted.get((key, status), 0) + 1
    rows = table(*((op, count, status) for (op, status), count in counted.items()))
    stand_in(tmp_path, monkeypatch, prints(tmp_path, rows, twin))
    report = check_file(source, CORAL)
    assert [op.where for op in report.ops] == [op.where for op in predicted]
    assert "prediction" not in [finding.rule for finding in report.findings]
