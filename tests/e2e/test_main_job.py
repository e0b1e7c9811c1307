"""The main job on real scans, and what the project promises of it."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.e2e.conftest import ROOT, edgekit, edgekit_json

pytestmark = pytest.mark.slow
Run = tuple[Path, dict[str, Any]]


def by_name(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {Path(one["path"]).name: one for one in report["artifacts"]}


def test_the_float_model_reaches_98_percent(digits_run: Run) -> None:
    _, report = digits_run
    assert report["reference_metrics"]["accuracy"] >= 0.98
    assert by_name(report)["digits-cnn-fp32.tflite"]["metrics"]["accuracy"] >= 0.98


def test_all_formats_and_precisions_are_there_and_passed(digits_run: Run) -> None:
    _, report = digits_run
    made = {(one["format"], one["precision"]) for one in report["artifacts"]}
    assert made == {
        ("tflite", "fp32"),
        ("tflite", "fp16"),
        ("tflite", "int8"),
        ("onnx", "fp32"),
        ("onnx", "int8"),
        ("openvino", "fp32"),
        ("openvino", "int8"),
    }
    assert report["passed"]
    assert all(one["parity"]["passed"] for one in report["artifacts"])


def test_int8_stays_within_a_point_and_is_one_network_in_three_formats(digits_run: Run) -> None:
    from edgekit.runtimes.open import open_session
    from edgekit.runtimes.session import run_raw

    _, report = digits_run
    run = Path(report["run"])
    x = {"x": np.load(next(run.glob("stages/data/test*x*.npy")))}
    outputs = {}
    for one in report["artifacts"]:
        if one["precision"] == "int8":
            drop = report["reference_metrics"]["accuracy"] - one["metrics"]["accuracy"]
            assert drop <= 0.010
            with open_session(run / one["path"]) as session:
                (values,) = run_raw(session, x).values()
                outputs[one["format"]] = values.astype(int)
    master = outputs.pop("tflite")
    assert set(outputs) == {"onnx", "openvino"}
    for values in outputs.values():
        steps = np.abs(values - master).max(axis=tuple(range(1, master.ndim)))
        assert np.mean(steps <= 1) >= 0.99


def test_int8_is_much_smaller(digits_run: Run) -> None:
    _, report = digits_run
    files = by_name(report)
    assert (
        files["digits-cnn-fp32.tflite"]["bytes"] >= 3.5 * files["digits-cnn-int8.tflite"]["bytes"]
    )


def test_estimates_say_so_and_a_measurement_is_a_measurement(digits_run: Run) -> None:
    _, report = digits_run
    measured = [profile for profile in report["profiles"] if profile["target"] is None]
    estimated = [profile for profile in report["profiles"] if profile["target"] is not None]
    assert len(measured) == 7
    assert len({profile["target"] for profile in estimated}) >= 6
    for profile in measured:
        assert profile["latency_ms"]["origin"] == "measured"
    for profile in estimated:
        for key in ("latency_ms", "energy_mj"):
            figure = profile[key]
            assert figure["reason"] if figure["value"] is None else figure["method"]
            assert figure["origin"] in (None, "estimated")
    drone = [profile for profile in estimated if profile["target"] == "drone-x500-cm4"]
    assert any(profile["flight_s_per_h"]["value"] > 0 for profile in drone)


def test_a_second_run_comes_from_the_cache(digits_run: Run) -> None:
    runs, report = digits_run
    bundle = Path(report["run"]) / report["bundle"]
    before = bundle.read_bytes()
    again = edgekit_json("run", ROOT / "recipes" / "digits-cnn.yaml", "--runs-dir", runs)
    assert all(stage["cached"] for stage in again["stages"])
    assert again["artifacts"] == report["artifacts"]
    assert bundle.read_bytes() == before


def test_the_run_directory_holds_what_the_design_says(digits_run: Run) -> None:
    _, report = digits_run
    run = Path(report["run"])
    for name in ("recipe.lock.yaml", "report.html", "run.json", "log.jsonl"):
        assert (run / name).stat().st_size > 0
    stored = json.loads((run / "run.json").read_text())
    assert all(stored[key] == report[key] for key in report if key != "stages")
    for one in report["artifacts"]:
        path = run / one["path"]
        assert path.parent.name == "artifacts"
        sidecar = json.loads(path.with_name(f"{path.name}.json").read_text())
        assert sidecar["sha256"] == one["sha256"]
        assert sidecar["preprocessing"]["scale"] == 0.0625
        assert sidecar["labels"] == [str(digit) for digit in range(10)]
    assert not list(run.rglob("*.partial"))
    assert not list(run.rglob(".tmp-*"))


def test_the_bundle_is_verified_and_gated(digits_run: Run, tmp_path: Path) -> None:
    _, report = digits_run
    bundle = Path(report["run"]) / report["bundle"]
    members = set(zipfile.ZipFile(bundle).namelist())
    assert {"manifest.json", "MODEL_CARD.md", "labels.txt", "run.json"} <= members
    assert any(name.startswith("golden/") for name in members)
    assert edgekit("inspect", bundle).returncode == 0
    assert edgekit("gate", bundle).returncode == 0
    assert edgekit("gate", bundle, "--budget", "bytes<=1").returncode == 1
    damaged = tmp_path / "damaged.zip"
    content = bytearray(bundle.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    assert edgekit("gate", damaged).returncode == 2
