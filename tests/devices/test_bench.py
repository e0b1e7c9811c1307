from __future__ import annotations

import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgekit.base.errors import InputError, MissingDependencyError, ModelFileError, ToolError
from edgekit.devices import bench
from edgekit.devices.bench import bench_file, bench_files
from edgekit.devices.machine import machine
from edgekit.devices.statistics import summarize


@pytest.fixture
def onnx_model(tmp_path: Path) -> Path:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "relu",
        [helper.make_tensor_value_info("x", kind, ["batch", 64])],
        [helper.make_tensor_value_info("y", kind, ["batch", 64])],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8, producer_name="test"
    )
    onnx.save(model, tmp_path / "relu.onnx")
    return tmp_path / "relu.onnx"


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Replaces the agent's interpreter by a shell script."""

    def replace(script: str) -> Path:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(sys, "executable", str(path))
        model = tmp_path / "model.onnx"
        model.write_bytes(b"")
        return model

    return replace


def test_a_model_is_measured(onnx_model: Path) -> None:
    profile = bench_file(onnx_model, max_seconds=0.2)
    latency, details = profile.latency_ms, profile.details
    assert (profile.artifact, profile.target, profile.place) == ("relu.onnx", None, "host")
    assert (latency.unit, latency.origin) == ("ms", "measured")
    assert 0 < latency.low <= latency.value <= latency.high < 10
    assert details["min_ms"] <= details["p50_ms"] <= details["p90_ms"] <= details["p99_ms"]
    assert details["runs"] >= 30
    assert details["runtime"] == "onnxruntime"
    cold = details["cold_start_ms"]
    assert cold["total"] > cold["load"] > 0
    assert cold["first_inference"] > latency.value
    assert profile.peak_memory_bytes.value > details["rss_before_load_bytes"] > 1e6
    assert details["machine"]["cores"] == machine().cores
    assert "1 thread" in latency.method


def test_energy_is_never_made_up(onnx_model: Path) -> None:
    profile = bench_file(onnx_model, max_seconds=0.05)
    if profile.energy_mj.value is None:
        assert profile.energy_mj.reason
    else:
        assert "RAPL" in profile.energy_mj.method


def test_several_files_and_progress(onnx_model: Path) -> None:
    said: list[str] = []
    report = bench_files(
        [onnx_model, onnx_model], max_seconds=0.05, progress=lambda text, *_: said.append(text)
    )
    assert len(report.profiles) == 2
    assert said == ["measuring relu.onnx"] * 2


def test_a_runtime_that_crashes_is_named_with_its_signal(child) -> None:
    model = child("echo last words >&2; kill -SEGV $$")
    with pytest.raises(ToolError, match="SIGSEGV") as caught:
        bench_file(model)
    assert caught.value.hint == "last words"
    assert caught.value.where == str(model)


@pytest.mark.parametrize("script", ["exit 3", "echo nonsense"])
def test_a_child_without_an_answer_is_an_error(child, script: str) -> None:
    with pytest.raises(ToolError, match="the measurement failed"):
        bench_file(child(script))


def test_a_child_that_hangs_is_stopped(child, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_GRACE_S", 0.1)
    with pytest.raises(ToolError, match="longer than"):
        bench_file(child("exec sleep 20"), max_seconds=0.01)


def test_bad_files_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        bench_file(tmp_path / "none.onnx")
    (tmp_path / "a.bin").write_bytes(b"x")
    with pytest.raises(InputError, match="unknown kind"):
        bench_file(tmp_path / "a.bin")


@pytest.mark.parametrize("suffix", [".tflite", ".onnx", ".xml"])
def test_random_files_are_clear_errors(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(bytes(range(256)) * 10)
    with pytest.raises((ModelFileError, MissingDependencyError)) as caught:
        bench_file(path)
    assert str(path) in str(caught.value)


def test_an_unknown_device_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingDependencyError, match="no device 'moon'"):
        bench_files([tmp_path], device="moon")


def test_noise_is_told() -> None:
    quiet = machine().model_copy(
        update={"cores": 4, "load_average": (0.1, 0.1, 0.1), "governor": "performance"}
    )
    steady = summarize([1.0, 1.001] * 50)
    calm = {"other_cores": 0.0, "stolen_cores": 0.0}
    assert bench._warnings(quiet, 1, steady, calm) == []
    busy = quiet.model_copy(update={"load_average": (3.0, 1.0, 1.0), "governor": "powersave"})
    shaky = summarize([1.0] * 60 + [1.5] * 40)
    said = " ".join(bench._warnings(busy, 8, shaky, {"other_cores": 1.5, "stolen_cores": 0.1}))
    for word in ("8 threads on 4", "load average was 3.00", "1.5 cores busy", "hypervisor",
                 "powersave", "p90 is", "50% slower", "only known to"):  # fmt: skip
        assert word in said


def test_shared_models_run_or_say_what_is_missing(shared: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    profile = bench_file(shared / "models/mlperf_tiny_kws_int8.tflite", max_seconds=0.1)
    assert 0.001 < profile.latency_ms.value < 100
    with pytest.raises(MissingDependencyError, match="Coral Edge TPU"):
        bench_file(shared / "models/coral_split_concat_edgetpu.tflite")
    posenet = "coral_posenet_mobilenet_v1_075_353_481_16_quant_decoder.tflite"
    with pytest.raises(MissingDependencyError, match="PosenetDecoderOp"):
        bench_file(shared / "models" / posenet)


@pytest.mark.slow
def test_every_shared_tflite_model_is_measured_or_needs_what_is_not_here(shared: Path) -> None:
    pytest.importorskip("ai_edge_litert")

    def measured(path: Path) -> bool:
        try:
            return bench_file(path, max_seconds=0.1).latency_ms.value > 0
        except MissingDependencyError:
            return "edgetpu" in path.name or "posenet" in path.name

    paths = sorted((shared / "models").glob("*.tflite"))
    with ThreadPoolExecutor(2) as two:  # most of the time is the start of processes
        found = dict(zip(paths, two.map(measured, paths), strict=True))
    assert [path.name for path, fine in found.items() if not fine] == []
