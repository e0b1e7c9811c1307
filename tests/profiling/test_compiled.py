"""Targets whose compiler answers: Vela for the Ethos-U, and what is said where it is missing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from edgekit.base import extras
from edgekit.base.errors import ConversionError, InputError, TargetError
from edgekit.graph.read import read_graph
from edgekit.graph.types import Graph
from edgekit.profiling.check import check_file
from edgekit.profiling.compilers import COMPILERS, Compiled
from edgekit.profiling.compilers.base import run
from edgekit.profiling.compilers.vela import CUSTOM_OPERATOR, compile_file
from edgekit.profiling.profile import profile_file, profile_graph
from edgekit.profiling.sidebyside import profile_files
from edgekit.profiling.targets import all_targets, load_target
from edgekit.schema.target import Target

ETHOS = load_target("ethos-u55-128")
needs_vela = pytest.mark.skipif(not extras.have("ethosu"), reason="vela is not installed")

# Cycles of Vela 5.2, noted by hand from its own summaries (model, target, cycles, SRAM in bytes).
NOTED = (
    ("kws", "ethos-u55-128", 89_900, 22_192),
    ("kws", "ethos-u55-256", 58_340, 22_192),
    ("kws", "ethos-u65-512", 30_704, 22_192),
    ("ad", "ethos-u65-256", 43_118, 63_168),
    ("vww", "ethos-u55-128", 220_870, 74_480),
    ("ic", "ethos-u55-128", 201_747, 51_840),
)


def compile_for(path: Path, target: Target = ETHOS) -> Compiled:
    assert target.compiler is not None
    return compile_file(path, read_graph(path), target.compiler.options)


@needs_vela
@pytest.mark.parametrize(("model", "target", "cycles", "sram"), NOTED)
def test_vela_figures_of_mlperf_tiny(
    shared: Path, model: str, target: str, cycles: int, sram: int
) -> None:
    path = shared / f"models/mlperf_tiny_{model}_int8.tflite"
    spec = load_target(target)
    profile = profile_file(path, spec)
    clock_mhz = 500 if "u55" in target else 1000
    assert profile.latency_ms.origin == "compiled"
    assert profile.latency_ms.value == pytest.approx(cycles / clock_mhz / 1e3)
    assert profile.details["cycles"]["value"] == cycles
    assert profile.details["memory"]["sram"]["value"] == sram
    assert "not silicon" in (profile.latency_ms.method or "")
    assert target in (profile.latency_ms.method or "")
    assert profile.energy_mj.value is None
    assert "energy" in (profile.energy_mj.reason or "")
    assert profile.placement is not None
    assert profile.placement.fallback_ops == 0
    # The cycles of the layers are all of them.
    layers = sum(layer.latency_ms.value or 0.0 for layer in profile.layers)
    assert layers == pytest.approx(profile.latency_ms.value)
    assert profile.peak_memory_bytes.origin == "compiled"


@needs_vela
def test_cycles_go_to_the_layers_of_the_model(shared: Path) -> None:
    profile = profile_file(shared / "models/mlperf_tiny_kws_int8.tflite", ETHOS)
    found = {layer.layer: layer.latency_ms.method for layer in profile.layers}
    assert found["conv2d"] == "26,185 cycles"
    assert found["depthwise_conv2d_3"] == "8,124 cycles"
    assert found["average_pooling2d"] == "5,400 cycles"
    assert found["flatten"] == "0 cycles"


@needs_vela
def test_two_runs_give_the_same_bytes_whatever_the_file_is_called(
    small_tflite: Path, tmp_path: Path
) -> None:
    other = tmp_path / "another name.tflite"
    other.write_bytes(small_tflite.read_bytes())
    first, second = compile_for(small_tflite), compile_for(other)
    assert first.model == second.model
    (tmp_path / "made.tflite").write_bytes(first.model)
    assert CUSTOM_OPERATOR in {op.name for op in read_graph(tmp_path / "made.tflite").ops}


@needs_vela
def test_a_float_model_compiles_and_runs_on_the_cpu_entirely(shared: Path) -> None:
    path = shared / "models/mlperf_tiny_ic_fp32.tflite"
    result = compile_for(path)
    assert result.left_to_cpu == len(result.ops) == 16
    assert all("Float32" in op.found for op in result.ops)
    profile, report = profile_file(path, ETHOS), check_file(path, ETHOS)
    assert report.verdict == "fallback"
    assert {op.where for op in report.ops} == {"cpu"}
    assert profile.latency_ms.value is None
    assert "every operator is left to the CPU" in (profile.latency_ms.reason or "")
    assert profile.peak_memory_bytes.value is None


@needs_vela
def test_a_part_on_the_cpu_is_not_passed_off_as_the_whole(shared: Path) -> None:
    path = shared / "models/coral_deeplabv3_mnv2_dm05_pascal_quant.tflite"
    profile, report = profile_file(path, ETHOS), check_file(path, ETHOS)
    assert profile.latency_ms.value is None
    assert "1 of 72 operators" in (profile.latency_ms.reason or "")
    assert [layer.index for layer in profile.layers if layer.where == "cpu"] == [70]
    assert any("RESIZE" in op.op for op in report.ops if op.where == "cpu")
    assert report.ops[70].findings[0].rule == "resize_by_two"
    assert report.memory["ram_needed"].origin == "compiled"
    assert report.verdict == "does_not_fit"


@needs_vela
def test_what_is_compiled_is_not_compiled_again(small_tflite: Path, tmp_path: Path) -> None:
    made = tmp_path / "made.tflite"
    made.write_bytes(compile_for(small_tflite).model)
    with pytest.raises(InputError, match="compiled already"):
        compile_for(made)
    profile = profile_file(made, ETHOS)
    assert "compiled already" in (profile.latency_ms.reason or "")
    assert {layer.where for layer in profile.layers} == {"npu"}


def test_without_the_compiler_rules_alone_place_and_the_reason_tells_the_extra(
    small_tflite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "have", lambda module: module != "ethosu")
    profile, report = profile_file(small_tflite, ETHOS), check_file(small_tflite, ETHOS)
    for figure in (profile.latency_ms, profile.energy_mj, profile.peak_memory_bytes):
        assert figure.value is None
        assert "pip install 'edgekit[vela]'" in (figure.reason or "")
    assert report.verdict == "ok"
    assert {op.where for op in report.ops} == {"npu"}
    assert report.memory["ram_needed"].origin == "estimated"


def test_a_compiler_that_dies_is_no_success(
    small_tflite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(path: Path, graph: Graph, options: Mapping[str, str]) -> Compiled:
        del graph, options
        code = "import os, signal; print('last words'); os.kill(os.getpid(), signal.SIGSEGV)"
        run(["python3", "-uc", code], title="Vela", where=path, folder=path.parent, timeout_s=30)
        raise AssertionError

    monkeypatch.setattr(COMPILERS, "get", lambda name, where: dies)
    report, profile = check_file(small_tflite, ETHOS), profile_file(small_tflite, ETHOS)
    assert report.verdict == "unsupported"
    assert report.findings[-1].found == "Vela failed (SIGSEGV): last words"
    assert profile.latency_ms.reason == "Vela failed (SIGSEGV): last words"


def test_a_compiler_that_hangs_is_stopped(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"took longer than 0\.2 s"):
        run(["sleep", "30"], title="Vela", where=tmp_path, folder=tmp_path, timeout_s=0.2)


@needs_vela
def test_options_are_the_three_that_say_the_hardware(small_tflite: Path) -> None:
    graph = read_graph(small_tflite)
    with pytest.raises(TargetError, match="accelerator-config"):
        compile_file(small_tflite, graph, {"config": "/etc/passwd"})
    wrong = {"accelerator-config": "ethos-u99", "system-config": "x", "memory-mode": "y"}
    with pytest.raises(ConversionError, match="exit code"):
        compile_file(small_tflite, graph, wrong)


def test_every_target_with_a_compiler_says_how_vela_is_to_be_called() -> None:
    names = {t.name for t in all_targets() if t.compiler and t.compiler.name == "vela"}
    assert {f"ethos-u55-{n}" for n in (32, 64, 128, 256)} <= names
    assert {f"ethos-u65-{n}" for n in (256, 512)} <= names
    assert {f"ethos-u85-{n}" for n in (128, 256, 512, 1024, 2048)} <= names


@needs_vela
@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [t.name for t in all_targets() if t.compiler and t.compiler.name == "vela"]
)
def test_vela_knows_every_configuration(small_tflite: Path, name: str) -> None:
    result = compile_for(small_tflite, load_target(name))
    assert result.cycles
    assert result.left_to_cpu == 0


def test_a_graph_without_its_file_is_not_compiled(small_tflite: Path) -> None:
    profile = profile_graph(read_graph(small_tflite), ETHOS, "made")
    assert profile.latency_ms.reason == "there is no file to compile"


def test_who_waits_for_a_compiler_is_told(
    small_tflite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(path: Path, graph: Graph, options: Mapping[str, str]) -> Compiled:
        raise ConversionError("no luck")

    monkeypatch.setattr(COMPILERS, "get", lambda name, where=None: fails)
    told: list[str] = []

    def progress(text: str, done: float = 0.0, total: float | None = None) -> None:
        told.append(text)

    check_file(small_tflite, ETHOS, progress=progress)
    profile_files([small_tflite], [load_target("pixel-3"), ETHOS], progress=progress)
    assert told == ["compiling for ethos-u55-128"] * 2
