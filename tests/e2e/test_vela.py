"""Files compiled for an Ethos-U: from a recipe, and from the Keras file that it trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.graph.read import read_graph
from tests.e2e.conftest import edgekit_json

TARGET = "ethos-u55-128"
NPU_OPERATOR = "ethos-u"


@pytest.mark.slow
def test_vela_from_a_recipe_and_from_a_keras_file(
    recipe: Callable[..., Path], tmp_path: Path
) -> None:
    path = recipe(
        export=f"[{{format: tflite, precision: int8}}, {{format: vela, target: {TARGET}}}]",
        targets=f"[{TARGET}, raspberry-pi-4]",
        bench="{enabled: false}",
    )
    report = edgekit_json("run", path, "--runs-dir", tmp_path / "runs")
    assert report["passed"], report["failures"]
    run = Path(report["run"])
    files = {one["format"]: one for one in report["artifacts"]}
    assert set(files) == {"tflite", "vela"}
    assert files["vela"]["parity"] == {
        **files["tflite"]["parity"], "artifact": files["vela"]["parity"]["artifact"]
    }  # fmt: skip
    compiled = read_graph(run / files["vela"]["path"])
    assert NPU_OPERATOR in [op.name for op in compiled.ops]
    assert len(compiled.ops) < len(read_graph(run / files["tflite"]["path"]).ops)

    # What runs on the NPU has no plan of ours; the CPU's is in the report, with its peak.
    assert [plan["target"] for plan in report["memory"]] == ["raspberry-pi-4"]
    (plan,) = report["memory"]
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Memory over time" in page
    assert f"at operator {plan['peak']['index']}, {plan['peak']['op']}" in page

    samples = np.concatenate([np.load(one) for one in run.glob("stages/data/calibration*x*.npy")])
    np.savez(tmp_path / "samples.npz", x=samples)
    out = tmp_path / "out"
    made = edgekit_json(
        "export", run / "stages/train/model.keras", "--format", "vela", "--target", TARGET,
        "--data", tmp_path / "samples.npz", "-o", out,
    )["artifacts"]  # fmt: skip
    (sidecar,) = made
    assert (sidecar["format"], sidecar["precision"]) == ("vela", "int8")
    assert sidecar["file"] == f"model-int8-{TARGET}.tflite"
    assert sidecar["parity"]["compiled"]["accelerator_operators"] >= 1
    assert sidecar["parity"]["model"]["passed"]
    # The master is not asked for, so not kept.
    assert sorted(one.name for one in out.iterdir()) == [
        sidecar["file"], f"{sidecar['file']}.json"
    ]  # fmt: skip
    assert NPU_OPERATOR in [op.name for op in read_graph(out / sidecar["file"]).ops]
