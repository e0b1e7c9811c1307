from __future__ import annotations

from pathlib import Path

import psutil

from edgekit.devices.machine import machine

CPUINFO_PI = """\
processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid asimdhp asimddp
CPU part\t: 0xd08

processor\t: 1
Features\t: fp asimd

Hardware\t: BCM2835
Model\t\t: Raspberry Pi 4 Model B Rev 1.4
"""
CPUINFO_X86 = """\
processor\t: 0
model name\t: Example CPU @ 2.00GHz
cpu MHz\t\t: 2394.374
flags\t\t: fpu avx2 avx512_vnni hypervisor
"""


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_board_and_its_governor(tmp_path: Path) -> None:
    frequency = "sys/devices/system/cpu/cpu0/cpufreq"
    root = write(
        tmp_path,
        {
            "proc/cpuinfo": CPUINFO_PI,
            "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
            f"{frequency}/scaling_governor": "ondemand\n",
            f"{frequency}/scaling_cur_freq": "600000\n",
            f"{frequency}/cpuinfo_max_freq": "1800000\n",
        },
    )
    found = machine(root)
    assert found.board == "Raspberry Pi 4 Model B Rev 1.4"
    assert found.name.startswith("Raspberry Pi 4 Model B Rev 1.4, ")
    assert (found.governor, found.frequency_mhz, found.max_frequency_mhz) == ("ondemand", 600, 1800)
    assert found.features == ("asimd", "asimdhp", "asimddp")
    assert not found.virtual


def test_a_virtual_x86_machine(tmp_path: Path) -> None:
    found = machine(write(tmp_path, {"proc/cpuinfo": CPUINFO_X86}))
    assert found.cpu == "Example CPU @ 2.00GHz"
    assert found.virtual
    assert found.features == ("avx2", "avx512_vnni")
    assert found.frequency_mhz == 2394.374
    assert found.governor is None


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    found = machine(write(tmp_path, {"sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "?"}))
    assert found.cpu
    assert found.frequency_mhz is None


def test_this_machine() -> None:
    found = machine()
    assert 1 <= found.cores <= (psutil.cpu_count() or 1)
    assert found.memory_bytes == psutil.virtual_memory().total
    assert len(found.load_average) == 3
