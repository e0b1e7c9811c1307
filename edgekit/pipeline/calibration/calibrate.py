"""Makes a target file of measurements on a device."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from edgekit.base.errors import InputError, PreconditionError
from edgekit.base.files import write_text
from edgekit.base.progress import Progress, silent
from edgekit.devices.device import DEVICES
from edgekit.devices.machine import Machine
from edgekit.pipeline.calibration.fits import SOURCE, Fit, fits
from edgekit.pipeline.calibration.journal import Journal, Setting
from edgekit.pipeline.calibration.measure import FORMATS, measure
from edgekit.pipeline.calibration.series import Series
from edgekit.profiling.fit.fitted import rounded
from edgekit.schema.calibration import CalibratedSetting, CalibrationReport
from edgekit.schema.names import Precision
from edgekit.schema.target import (
    MemorySpec,
    Processor,
    RuntimeSpec,
    Source,
    Target,
    Variant,
    Zeros,
    parse_target,
)

_RULES = {
    "litert": "litert-xnnpack",
    "onnxruntime": "onnxruntime-cpu",
    "openvino": "openvino-cpu",
}
_TITLES = {"litert": "LiteRT", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
# They run, but nothing measures them yet.
_UNMEASURED: tuple[Precision, ...] = (
    "fp32", "int8", "fp16", "int8-dynamic", "int16x8", "int4-weight",
)  # fmt: skip
_ENTRIES = 8  # version of what the journal keeps, and of the networks that it is about
_LOAD_PER_CORE = 0.5
_NOISY = 0.15
_LEAST_NETWORKS = 16
_NO_LIMIT_GB_S = 1000.0


def calibrate(
    output: Path,
    *,
    runtimes: Sequence[str] = ("litert", "onnxruntime", "openvino"),
    precisions: Sequence[Precision] = ("fp32", "int8"),
    threads: Sequence[int] = (1,),
    minutes: float = 5.0,
    device: str = "local",
    busy: bool = False,
    progress: Progress = silent,
) -> CalibrationReport:
    """Measures small networks on a device, fits its kernels, and writes its target file.

    A run that was stopped goes on where it was: latencies are kept beside the output until the
    target is written. The first runtime and number of threads are the target's own; the others are
    its variants.

    Args:
        output: the .yaml file to write.
        runtimes: of litert, onnxruntime and openvino.
        precisions: of fp32 and int8.
        threads: numbers of threads.
        minutes: about how long to measure.
        device: a word of `edgekit.devices.device.DEVICES`.
        busy: whether to measure although other programs run.
        progress: receives what is being measured.

    Raises:
        InputError: the output is no .yaml file, or there are more threads than cores.
        PreconditionError: other programs keep the device busy.
        MissingDependencyError: a runtime, or a library that writes its files, is not installed.
        ToolError: a runtime ran none of the networks.
    """
    name = _name(output)
    settings = _settings(runtimes, precisions, threads)
    with closing(DEVICES.get(device)()) as opened:
        host = opened.machine()
        _check(host, threads, busy=busy)
        journal = Journal(
            output.with_name(f".{output.name}.partial"),
            {"entries": _ENTRIES, "machine": host.name, "minutes": minutes},
        )
        series = measure(opened, settings, seconds=60 * minutes, journal=journal, progress=progress)
    versions = {one.setting.runtime: one.version for one in series}
    fitted = fits(series, progress=progress)
    target = _target(name, host, settings, fitted, versions)
    text = target_text(target)
    parse_target(text, str(output))
    write_text(output, text)
    journal.remove()
    return CalibrationReport(
        target=name,
        file=str(output),
        machine=host.name,
        settings=tuple(_summary(one, fitted[one.setting]) for one in series),
        warnings=tuple(_warnings(series)),
    )


def _name(output: Path) -> str:
    if output.suffix not in (".yaml", ".yml"):
        raise InputError(
            "a target is a .yaml file", where=str(output), hint=f"--output {output.name}.yaml"
        )
    name = re.sub(r"[^a-z0-9]+", "-", output.stem.lower()).strip("-")
    return name or "calibrated"


def _settings(
    runtimes: Sequence[str], precisions: Sequence[Precision], threads: Sequence[int]
) -> list[Setting]:
    for what, values, known in (
        ("runtime", runtimes, tuple(FORMATS)),
        ("precision", precisions, ("fp32", "int8")),
    ):
        odd = [value for value in values if value not in known]
        if odd or not values:
            wrong = odd[0] if odd else "none"
            raise InputError(f"{what} '{wrong}' is not calibrated", hint=", ".join(known))
    if not threads or min(threads) < 1:
        raise InputError("a number of threads is 1 or more", where="--threads")
    return [
        Setting(runtime, precision, count)
        for runtime in dict.fromkeys(runtimes)
        for count in dict.fromkeys(threads)
        for precision in dict.fromkeys(precisions)
    ]


def _check(host: Machine, threads: Sequence[int], *, busy: bool) -> None:
    if max(threads) > host.cores:
        raise InputError(f"{max(threads)} threads on {host.cores} usable cores", where="--threads")
    load = host.load_average[0]
    if load > _LOAD_PER_CORE * host.cores and not busy:
        raise PreconditionError(
            f"the device is busy: a load average of {load:.2f} on {host.cores} cores",
            hint="stop the other programs, or measure all the same with --busy",
        )


def _target(
    name: str,
    host: Machine,
    settings: Sequence[Setting],
    fitted: dict[Setting, Fit],
    versions: dict[str, str],
) -> Target:
    variants = []
    for runtime, threads in dict.fromkeys((one.runtime, one.threads) for one in settings):
        own = {
            one.precision: fitted[one]
            for one in settings
            if (one.runtime, one.threads) == (runtime, threads)
        }
        variants.append(
            Variant(
                runtime=RuntimeSpec(
                    name=_TITLES[runtime],
                    version=versions[runtime],
                    threads=threads,
                    formats=(FORMATS[runtime],),
                ),
                rules=_RULES[runtime],
                costs={precision: costs for precision, (costs, _) in own.items()},
                error={precision: error for precision, (_, error) in own.items() if error} or None,
            )
        )
    first, *others = variants
    when = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    return Target(
        name=name,
        title=f"{host.name}, measured on {when}",
        device_class="x86_cpu" if host.architecture in ("x86_64", "AMD64") else "sbc_cpu",
        sources=(
            Source(
                id=SOURCE,
                title=f"edgekit calibrate on {host.cpu}, {host.os}, {host.kernel}, {when}",
                url=f"file:{name}.yaml",
            ),
        ),
        runtime=first.runtime,
        precisions=dict.fromkeys(_UNMEASURED) | {name: name for name in first.costs},
        processors=(Processor(name="cpu", kind="cpu", rules=first.rules, costs=first.costs),),
        variants=tuple(others),
        memory=MemorySpec(
            ram_bytes=host.memory_bytes, bandwidth_gb_s=_NO_LIMIT_GB_S, source=SOURCE
        ),
        zeros=Zeros(effect="smaller_file", why="no kernel was measured with weights of zero"),
        error=first.error,
        assumed={
            "memory.bandwidth_gb_s": "not used: waiting for the memory is in the measured kernels"
        },
    )


def target_text(target: Target) -> str:
    """A target as YAML, tables of kernels as blocks of text."""
    data = target.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    data = {"edgekit_target": 1, **data}
    return str(yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True))


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as a block."""


def _text(dumper: yaml.SafeDumper, text: str) -> Any:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def _summary(series: Series, fit: Fit) -> CalibratedSetting:
    error = fit[1]
    return CalibratedSetting(
        runtime=series.setting.runtime,
        precision=series.setting.precision,
        threads=series.setting.threads,
        networks=len(series.observations),
        failed=dict(series.failed),
        disturbed_pct=rounded(100 * series.disturbed),
        median_pct=error.median_pct if error else None,
        p90_pct=error.p90_pct if error else None,
        family_median_pct=error.family_median_pct if error else None,
        family_p90_pct=error.family_p90_pct if error else None,
    )


def _warnings(series: Sequence[Series]) -> list[str]:
    found = []
    disturbed = float(np.median([one.disturbed for one in series]))
    if disturbed > _NOISY:
        found.append(f"something else ran on the device: it was {disturbed:.0%} slower than quiet")
    without = [one.setting.key for one in series if len(one.observations) < _LEAST_NETWORKS]
    if without:
        found.append(f"few networks were measured for {', '.join(without)}: give it more minutes")
    return found
