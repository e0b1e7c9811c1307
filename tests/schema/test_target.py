from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from edgekit.base.errors import TargetError
from edgekit.profiling.targets import all_targets, load_target, target_names
from edgekit.schema.documents import json_schema
from edgekit.schema.shipped import shipped_dir
from edgekit.schema.target import parse_target, read_target

ROOT = Path(__file__).parent.parent.parent
TEXT = (shipped_dir("targets") / "raspberry-pi-4.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["recipe", "target"])
def test_the_schema_files_for_editors_are_up_to_date(name: str) -> None:
    stored = json.loads((ROOT / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8"))
    assert stored == json_schema(name), f"edgekit schema {name} > schemas/{name}.schema.json"


@pytest.mark.parametrize("name", target_names())
def test_shipped_targets(name: str) -> None:
    path = shipped_dir("targets") / f"{name}.yaml"
    target = read_target(path)
    assert target.name == name
    first = path.read_text(encoding="utf-8").splitlines()[0]
    schema = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    assert schema is not None
    assert (path.parent / schema[1]).is_file()
    for processor in target.processors:
        for costs in processor.costs.values():
            assert costs.source or costs.origin == "assumed"
    for part in (target.memory, target.power, target.vehicle):
        named = {key.split(".")[0] for key in target.assumed}
        kind = {"MemorySpec": "memory", "PowerSpec": "power", "Vehicle": "vehicle"}
        assert part is None or part.source or kind[type(part).__name__] in named


def test_the_kinds_of_hardware_that_there_must_be() -> None:
    classes = {target.device_class for target in all_targets()}
    assert {"phone", "sbc_cpu", "edgetpu", "mcu", "fpga", "drone"} <= classes


@pytest.mark.parametrize(
    ("old", "new", "line", "message", "hint"),
    [
        ("device_class: sbc_cpu", "device_class: sbc", "device_class", "'sbc'", "sbc_cpu"),
        (
            "channel_multiple: 4",
            "chanel_multiple: 4",
            "chanel",
            "chanel_multiple",
            "channel_multiple",
        ),
        ("ram_bytes: 1073741824", "ram_bytes: -1", "memory", "ram_bytes", ""),
        ("name: raspberry-pi-4", "name: Raspberry Pi", "name:", "name", ""),
        (
            "source: rpi4-brief}", "source: nobody}", "memory: ",
            "'memory.source' is not in 'sources' (mlperf-v2.1, mlperf-v2.0, rpi4-brief)", "",
        ),
        (
            "active_w: {cpu", "active_w: {gpu", "active_w",
            "'power.active_w' must name each processor: cpu (found ['gpu'])", "",
        ),
        (
            "{int8: int8,", "{int8: int16x8,", "precisions:",
            "'precisions.int8' is charged as no processor has costs for (found 'int16x8')", "",
        ),
        ("  - processor: cpu", "  - processor: gpu", "processor: gpu", "no processor", ""),
    ],
)  # fmt: skip
def test_faults_name_their_place(old: str, new: str, line: str, message: str, hint: str) -> None:
    text = TEXT.replace(old, new, 1)
    assert text != TEXT
    with pytest.raises(TargetError) as raised:
        parse_target(text, "board.yaml")
    fault = raised.value
    assert message in fault.message
    assert hint in (fault.hint or "")
    assert fault.where is not None
    number = int(fault.where.split(":")[1])
    assert fault.where.startswith("board.yaml:")
    assert line in text.splitlines()[number - 1]


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(TargetError) as raised:
        load_target("rasberry-pi-4")
    assert "did you mean 'raspberry-pi-4'?" in (raised.value.hint or "")


def test_a_target_file_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT.replace("name: raspberry-pi-4", "name: mine"), encoding="utf-8")
    assert load_target(str(path)).name == "mine"


def test_an_unknown_rule_set_is_a_fault_of_its_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = TEXT.replace("rules: litert-cpu", "rules: litert-cpuu")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TargetError) as raised:
        load_target(str(path))
    line = text[: text.index("rules: litert-cpuu")].count("\n") + 1
    assert (raised.value.where or "").startswith(f"{path}:{line}:")
    assert raised.value.message == "'processors.0.rules': unknown rule set 'litert-cpuu'"
    assert "did you mean 'litert-cpu'?" in (raised.value.hint or "")
