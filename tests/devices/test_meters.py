from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.devices.meters import find_meter

RANGE = 262_143_328_850


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """Two packages, each with a core domain that is part of it, and a psys zone."""
    for zone in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0", "intel-rapl:1:0"):
        directory = tmp_path / "class/powercap" / zone
        directory.mkdir(parents=True)
        (directory / "energy_uj").write_text("1000000\n")
        (directory / "max_energy_range_uj").write_text(f"{RANGE}\n")
    return tmp_path


def set_counter(sysfs: Path, zone: str, microjoules: int) -> None:
    (sysfs / "class/powercap" / zone / "energy_uj").write_text(f"{microjoules}\n")


def test_joules_are_those_of_the_packages_alone(sysfs: Path) -> None:
    meter, _ = find_meter(sysfs)
    assert meter is not None
    before = meter.read()
    set_counter(sysfs, "intel-rapl:0", 4_500_000)
    set_counter(sysfs, "intel-rapl:1", 1_250_000)
    set_counter(sysfs, "intel-rapl:0:0", 99_000_000)
    assert meter.joules(before, meter.read()) == pytest.approx(3.75)


def test_a_counter_that_wraps(sysfs: Path) -> None:
    meter, _ = find_meter(sysfs)
    assert meter is not None
    set_counter(sysfs, "intel-rapl:0", RANGE - 1_000_000)
    before = meter.read()
    set_counter(sysfs, "intel-rapl:0", 500_000)
    assert meter.joules(before, meter.read()) == pytest.approx(1.5)


def test_no_counters_no_meter(tmp_path: Path) -> None:
    assert find_meter(tmp_path) == (None, "no energy meter on this machine")


def test_broken_counters_are_no_meter(sysfs: Path) -> None:
    (sysfs / "class/powercap/intel-rapl:1/energy_uj").write_text("")
    meter, reason = find_meter(sysfs)
    assert meter is None
    assert "cannot be read" in reason


def test_counters_for_root_only_are_no_meter(sysfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *args: object, **kwargs: object) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", refuse)
    meter, reason = find_meter(sysfs)
    assert meter is None
    assert "root only" in reason
