"""What a measurement ran on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import psutil

from edgekit.schema.base import Document

# Instruction sets that decide how fast an int8 or fp16 kernel is.
_FEATURES = (
    "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "amx_bf16",
    "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "rvv",
)  # fmt: skip


class Machine(Document):
    """A computer and its state.

    Attributes:
        board: name of the board, where the firmware tells.
        cores: logical processors that this process may use.
        governor: of the CPU frequency; None where the system does not tell.
        frequency_mhz: now, of the first core.
        load_average: runnable processes, mean of the last 1, 5 and 15 minutes.
        virtual: whether a hypervisor runs it: time and energy are less certain.
    """

    cpu: str
    board: str | None = None
    architecture: str
    features: tuple[str, ...] = ()
    cores: int
    physical_cores: int | None = None
    governor: str | None = None
    frequency_mhz: float | None = None
    max_frequency_mhz: float | None = None
    load_average: tuple[float, float, float]
    memory_bytes: int
    available_memory_bytes: int
    virtual: bool = False
    os: str
    kernel: str
    python: str

    @property
    def name(self) -> str:
        """One line: the board or the CPU, and its cores."""
        plural = "s" if self.cores > 1 else ""
        return f"{self.board or self.cpu}, {self.cores} core{plural}"


def machine(root: Path = Path("/")) -> Machine:
    """Describes this machine.

    Args:
        root: where `proc` and `sys` are.
    """
    info = _cpuinfo(root)
    frequency = root / "sys/devices/system/cpu/cpu0/cpufreq"
    flags = f"{info.get('flags', '')} {info.get('Features', '')}".split()
    memory = psutil.virtual_memory()
    return Machine(
        cpu=info.get("model name") or platform.processor() or platform.machine(),
        board=_text(root / "proc/device-tree/model") or info.get("Model"),
        architecture=platform.machine(),
        features=tuple(feature for feature in _FEATURES if feature in flags),
        cores=usable_cores(),
        physical_cores=psutil.cpu_count(logical=False),
        governor=_text(frequency / "scaling_governor"),
        frequency_mhz=_mhz(frequency / "scaling_cur_freq") or _number(info.get("cpu MHz")),
        max_frequency_mhz=_mhz(frequency / "cpuinfo_max_freq"),
        load_average=_load(),
        memory_bytes=memory.total,
        available_memory_bytes=memory.available,
        virtual="hypervisor" in flags,
        os=_os_name(),
        kernel=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
    )


def usable_cores() -> int:
    """Logical processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpuinfo(root: Path) -> dict[str, str]:
    """The keys of the first processor of /proc/cpuinfo, and the board's at its end."""
    found: dict[str, str] = {}
    for line in (_text(root / "proc/cpuinfo") or "").splitlines():
        key, colon, value = line.partition(":")
        if colon:
            found.setdefault(key.strip(), value.strip())
    return found


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip().strip("\0") or None
    except OSError:
        return None


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None


def _mhz(path: Path) -> float | None:
    kilohertz = _number(_text(path))
    return None if kilohertz is None else kilohertz / 1000


def _load() -> tuple[float, float, float]:
    one, five, fifteen = psutil.getloadavg()
    return one, five, fifteen


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return f"{platform.system()} {platform.release()}"
