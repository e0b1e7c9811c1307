from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgekit.cli.main import run
from edgekit.profiling.targets import load_target, target_names
from edgekit.schema.shipped import shipped_dir


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["targets", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["targets"]
    assert [target["name"] for target in listed] == target_names()
    assert run(["targets"]) == 0
    assert "raspberry-pi-4" in capsys.readouterr().out


def test_one_target(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["targets", "show", "raspberry-pi-4", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["reference"][0]["runtime"] == "TFLite v2.7.1 (ruy)"
    assert shown["error"]["int8"]["median_pct"] < 5
    for name in target_names():
        assert run(["targets", "show", name]) == 0
        assert name in capsys.readouterr().out


def test_a_target_shows_its_fit_and_its_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "240")
    assert run(["targets", "show", "raspberry-pi-4"]) == 0
    shown = capsys.readouterr().out
    errors = load_target("raspberry-pi-4").error
    assert errors
    coverage = f"covers {errors['int8'].coverage_pct:.0f}%"
    for words in ("parameters cpu-int8", "leave one family out: median", "another source, unseen",
                  coverage, "spread of power", "pJ/MAC", "error of energy"):  # fmt: skip
        assert words in shown
    assert run(["targets", "show", "drone-x500-cm4"]) == 0
    assert "brakes with 3 m/s2" in capsys.readouterr().out


def test_validation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shipped = shipped_dir("targets") / "pixel-3.yaml"
    assert run(["targets", "validate", str(shipped)]) == 0
    broken = tmp_path / "broken.yaml"
    text = shipped.read_text(encoding="utf-8").replace("device_class: phone", "device_class: fone")
    broken.write_text(text, encoding="utf-8")
    capsys.readouterr()
    assert run(["targets", "validate", str(broken), "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["type"] == "TargetError"
    assert error["where"].startswith(f"{broken}:5:")
    assert "phone" in error["hint"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["show"],
        ["validate"],
        ["show", "nowhere"],
        ["validate", "missing.yaml"],
        ["rank"],
        ["rank", "missing.tflite"],
        ["rank", "missing.tflite", "--class", "toaster"],
    ],
)
def test_bad_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["targets", *arguments]) == 2
    assert "Traceback" not in capsys.readouterr().err


def ranked(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    assert run(["targets", "rank", *arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)["targets"]


def test_which_board_to_buy(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kws = str(shared / "models/mlperf_tiny_kws_int8.tflite")
    limits = ["--max-latency-ms", "20", "--max-mj", "5"]
    found = ranked(capsys, kws, *limits, "--no-compile")
    assert {one["target"] for one in found} == set(target_names())
    order = ["ok", "over", "unknown"]
    groups = [order.index(one["verdict"]) for one in found]
    assert groups == sorted(groups)
    fit = [one for one in found if one["verdict"] == "ok"]
    assert [one["rank"] for one in fit] == list(range(1, len(fit) + 1))
    assert "stm32-h7a3-cubeai" in {one["target"] for one in fit}
    latencies = [one["latency_ms"]["value"] for one in fit]
    assert latencies == sorted(latencies)
    assert max(latencies) <= 20
    assert all(one["energy_mj"]["value"] <= 5 for one in fit)
    assert all(one["reason"] for one in found if one["verdict"] != "ok")
    ethos = next(one for one in found if one["target"] == "ethos-u55-128")
    assert "--no-compile" in ethos["reason"]

    by_energy = [one for one in ranked(capsys, kws, *limits, "--no-compile", "--by", "energy")
                 if one["verdict"] == "ok"]  # fmt: skip
    energies = [one["energy_mj"]["value"] for one in by_energy]
    assert energies == sorted(energies)


def test_only_one_class_and_none_that_fits(
    shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vww = str(shared / "models/mlperf_tiny_vww_int8.tflite")
    found = ranked(capsys, vww, "--class", "mcu", "--max-latency-ms", "0.01", code=1)
    assert {one["device_class"] for one in found} == {"mcu"}
    assert {one["verdict"] for one in found} <= {"over", "unknown"}
    assert run(["targets", "rank", vww, "--class", "mcu"]) == 0
    assert "targets fit" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "pixel-3"], "'list' lists all, not pixel-3"),
        (["list", "--max-mj", "5"], "are for 'rank'"),
        (["show", "pixel-3", "--no-compile"], "are for 'rank'"),
    ],
)
def test_what_an_action_does_not_take_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["targets", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_near_name_is_not_lost_among_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["targets", "show", "corl-usb"]) == 2
    assert capsys.readouterr().err.endswith("did you mean 'coral-usb'?\n")


def test_the_list_as_json_has_the_errors_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["targets", "--json"]) == 0
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)["targets"]}
    errors = load_target("pixel-3").error or {}
    assert found["pixel-3"]["median_error_pct"] == {n: e.median_pct for n, e in errors.items()}
    assert found["gap9"]["median_error_pct"] == {}
