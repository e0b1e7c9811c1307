"""Measures a model file on this machine, in a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit.base.errors import EdgekitError, MissingDependencyError, ToolError, from_dict
from edgekit.base.files import existing_file
from edgekit.base.progress import Progress, silent
from edgekit.devices.machine import Machine, machine
from edgekit.devices.statistics import CONFIDENCE, Summary, summarize
from edgekit.graph.read import read_graph
from edgekit.schema.figure import Figure
from edgekit.schema.results import Profile, ProfileReport

_EDGE_TPU_OP = "edgetpu-custom-op"
_GRACE_S = 120.0  # to import the runtime and to load the model
_SLOW_MODEL_FACTOR = 20
_TAIL_CHARACTERS = 1000

# Above these a measurement is called noisy.
_LOAD_PER_CORE = 0.5
_OTHER_CORES = 0.25
_STOLEN_CORES = 0.02
_SPREAD = 1.25
_DRIFT = 0.05
_UNCERTAINTY = 0.05


def bench_file(
    path: Path,
    *,
    threads: int = 1,
    max_seconds: float = 2.0,
    runtime: str | None = None,
    seed: int = 0,
) -> Profile:
    """Measures latency, peak memory and, where there is a meter, energy of a model file.

    A fresh process loads the file, warms it up, and times it on one random sample until the
    median is known to 1% or the time is up.

    Args:
        path: a .tflite, .onnx or .xml file.
        threads: that the runtime may use.
        max_seconds: longest time of the timed runs.
        runtime: a name of the runtimes' registry; by default the one for the file's suffix.
        seed: of the random inputs.

    Returns:
        A profile without target: latency in ms per inference (median and its 95% confidence
        interval), energy in mJ per inference, peak resident memory of the process in bytes;
        quantiles, cold start and the machine are in `details`.

    Raises:
        InputError: the file does not exist, or is not a model.
        MissingDependencyError: the runtime is not installed, or the model needs an accelerator
            or operators that are not here.
        ToolError: the runtime failed, or its process died.
    """
    existing_file(path, what="model file")
    host = machine()
    request = {
        "path": str(path),
        "threads": threads,
        "runtime": runtime,
        "seed": seed,
        "max_seconds": max_seconds,
    }
    try:
        answer = _ask_agent(request, path, _GRACE_S + _SLOW_MODEL_FACTOR * max_seconds)
    except EdgekitError as error:
        raise _missing_operator(path, error) or error from None
    return _profile(path, threads, host, answer)


def bench_files(
    paths: Sequence[Path],
    *,
    device: str = "host",
    threads: int = 1,
    max_seconds: float = 2.0,
    runtime: str | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> ProfileReport:
    """Measures several files one after the other; see `bench_file`.

    Args:
        paths: the files.
        device: "host", this machine.
        threads: that the runtime may use.
        max_seconds: longest time of the timed runs of one file.
        runtime: a name of the runtimes' registry.
        seed: of the random inputs.
        progress: receives the file being measured.

    Raises:
        MissingDependencyError: there is no such device.
        EdgekitError: as `bench_file`, for the first file that fails.
    """
    if device != "host":
        raise MissingDependencyError(
            f"there is no device '{device}'", hint="'host' is this machine"
        )
    profiles = []
    for done, path in enumerate(paths):
        progress(f"measuring {path.name}", done, len(paths))
        profiles.append(
            bench_file(path, threads=threads, max_seconds=max_seconds, runtime=runtime, seed=seed)
        )
    return ProfileReport(profiles=tuple(profiles))


def _ask_agent(request: Mapping[str, Any], path: Path, timeout_s: float) -> dict[str, Any]:
    spawned = {"spawned_ns": time.monotonic_ns()}
    command = [sys.executable, "-m", "edgekit.devices.agent", json.dumps({**request, **spawned})]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=timeout_s, stdin=subprocess.DEVNULL, check=False
        )
    except subprocess.TimeoutExpired:
        raise ToolError(
            f"the measurement took longer than {timeout_s:g} s and was stopped", where=str(path)
        ) from None
    tail = done.stderr.decode(errors="replace").strip()[-_TAIL_CHARACTERS:]
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise ToolError(f"the runtime died ({name})", where=str(path), hint=tail or None)
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise ToolError(
            f"the measurement failed (exit code {done.returncode})",
            where=str(path),
            hint=tail or None,
        ) from None
    if "error" in answer:
        raise from_dict(answer["error"], ToolError)
    return answer


def _missing_operator(path: Path, error: EdgekitError) -> MissingDependencyError | None:
    """The same failure, if its cause is an operator that no runtime here has."""
    try:
        custom = {op.name for op in read_graph(path).ops if op.kind == "custom"}
    except EdgekitError:
        return None
    lacking = sorted(name for name in custom if name in error.message)
    if _EDGE_TPU_OP in lacking:
        return MissingDependencyError(
            "is compiled for the Coral Edge TPU, and this machine has none",
            where=str(path),
            hint="measure the file that it was compiled from, or estimate this one: "
            "edgekit profile FILE --target coral-usb",
        )
    if lacking:
        return MissingDependencyError(
            f"needs the custom operator {', '.join(lacking)}, which is not installed here",
            where=str(path),
            hint="its kernel comes with the software of the accelerator that the file was made "
            "for; edgekit inspect and profile work without it",
        )
    return None


def _profile(path: Path, threads: int, host: Machine, answer: Mapping[str, Any]) -> Profile:
    calls = answer["calls"]
    summary = summarize([nanoseconds / calls / 1e6 for nanoseconds in answer["times_ns"]])
    before, peak = answer["before_bytes"], answer["peak_bytes"]
    return Profile(
        artifact=path.name,
        device=host.name,
        latency_ms=Figure(
            value=summary.median,
            low=summary.low,
            high=summary.high,
            unit="ms",
            origin="measured",
            method=_method(answer, summary, threads),
        ),
        energy_mj=_energy(answer),
        peak_memory_bytes=Figure(
            value=float(peak),
            unit="bytes",
            origin="measured",
            method=f"peak resident size of the whole process; {before} bytes of it were there "
            "before the model was loaded",
        ),
        warnings=tuple(_warnings(host, threads, summary, answer["noise"])),
        details={
            "runtime": answer["runtime"],
            "runtime_version": answer["version"],
            "threads": threads,
            "runs": summary.runs,
            "calls_per_run": calls,
            "p50_ms": summary.median,
            "p90_ms": summary.p90,
            "p99_ms": summary.p99,
            "mean_ms": summary.mean,
            "min_ms": summary.least,
            "drift": summary.drift,
            "cold_start_ms": answer["cold_ms"],
            "peak_rss_bytes": peak,
            "rss_before_load_bytes": before,
            "noise": answer["noise"],
            "machine": host.model_dump(mode="json"),
        },
    )


def _method(answer: Mapping[str, Any], summary: Summary, threads: int) -> str:
    calls = answer["calls"]
    each = f" of {calls} calls" if calls > 1 else ""
    interval = (
        f"{CONFIDENCE:.0%} interval by order statistics"
        if summary.low is not None
        else "too few runs for an interval"
    )
    plural = "s" if threads > 1 else ""
    return (
        f"median of {summary.runs} runs{each} in one process, {interval}; {answer['runtime']} "
        f"{answer['version']}, {threads} thread{plural}, batch 1, warm"
    )


def _energy(answer: Mapping[str, Any]) -> Figure:
    energy = answer["energy"]
    if energy is None:
        return Figure.missing(answer["no_energy"])
    return Figure(
        value=1000 * energy["joules"] / energy["runs"],
        unit="mJ",
        origin="measured",
        method=f"{energy['meter']}; mean of {energy['runs']} inferences",
    )


def _warnings(
    host: Machine, threads: int, summary: Summary, noise: Mapping[str, float] | None
) -> list[str]:
    found = []
    if threads > host.cores:
        found.append(f"{threads} threads on {host.cores} usable cores")
    if host.load_average[0] > _LOAD_PER_CORE * host.cores:
        found.append(f"the load average was {host.load_average[0]:.2f} before the measurement")
    if noise is not None and noise["other_cores"] > _OTHER_CORES:
        found.append(f"other programs kept {noise['other_cores']:.1f} cores busy meanwhile")
    if noise is not None and noise["stolen_cores"] > _STOLEN_CORES:
        found.append(f"the hypervisor took {noise['stolen_cores']:.0%} of a core away")
    if host.governor not in (None, "performance"):
        found.append(f"the CPU frequency governor is '{host.governor}', not 'performance'")
    if summary.p90 > _SPREAD * summary.median:
        found.append(
            f"times are spread: p90 is {summary.p90 / summary.median:.2f} times the median"
        )
    if abs(summary.drift) > _DRIFT:
        way = "slower" if summary.drift > 0 else "faster"
        found.append(f"the second half of the runs was {abs(summary.drift):.0%} {way}")
    if summary.low is not None and summary.uncertainty > _UNCERTAINTY:
        found.append(f"the median is only known to {summary.uncertainty:.0%}")
    return found
