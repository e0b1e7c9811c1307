"""Files compiled by Vela: what is looked at, and what the sidecar says of the proof."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from edgekit.base import extras
from edgekit.base.errors import ConversionError, InputError, MissingDependencyError
from edgekit.base.files import sha256_file
from edgekit.export.exporter import derive_from_tflite, sidecar_path
from edgekit.graph.read import read_graph
from edgekit.pipeline.stages import assess
from edgekit.pipeline.stages.export import Wanted, wanted
from edgekit.pipeline.stages.export import stage as export_stage
from edgekit.profiling.targets import load_target
from edgekit.schema.artifact import Sidecar
from edgekit.schema.recipe import ExportSpec, Recipe

pytestmark = pytest.mark.skipif(not extras.have("ethosu"), reason="vela is not installed")
TARGET = "ethos-u55-128"


def compile_to(source: Path, output: Path, target: str | None = TARGET) -> Sidecar:
    return derive_from_tflite(source, "vela", output, target=target)


def test_a_third_party_file_is_compiled_and_claims_no_parity(
    small_tflite: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out" / "small-vela.tflite"
    sidecar = compile_to(small_tflite, output)
    assert sidecar == Sidecar.model_validate_json(sidecar_path(output).read_text())
    assert (sidecar.format, sidecar.precision) == ("vela", "int8")
    assert sidecar.sha256 == sha256_file(output)
    assert [op.name for op in read_graph(output).ops] == ["ethos-u"]
    assert sidecar.provenance["master_sha256"] == sha256_file(small_tflite)
    assert sidecar.provenance["target"] == TARGET
    assert "model" not in sidecar.parity
    assert "without a parity check" in sidecar.parity["runtime"]
    assert sidecar.parity["compiled"]["accelerator_operators"] == 1
    assert sidecar.parity["compiled"]["operators_left_to_cpu"] == 0
    assert [info.name for info in sidecar.inputs] == ["image"]


def test_the_proof_is_that_of_the_master(small_tflite: Path, tmp_path: Path) -> None:
    figures = {"snr_db": 31.5, "reference": "model.keras", "passed": True}
    proof = Sidecar(
        file=small_tflite.name, files={}, format="tflite", precision="int8", bytes=1,
        sha256=sha256_file(small_tflite), inputs=(), outputs=(), labels=("a", "b"),
        parity={"runtime": "litert 2", "model": figures},
    )  # fmt: skip
    sidecar_path(small_tflite).write_text(proof.model_dump_json())
    sidecar = compile_to(small_tflite, tmp_path / "made.tflite")
    assert sidecar.parity["model"] == figures
    assert "no runtime here runs the compiled file" in sidecar.parity["runtime"]
    assert small_tflite.name in sidecar.parity["runtime"]
    assert sidecar.labels == ("a", "b")
    # A sidecar of another file proves nothing.
    sidecar_path(small_tflite).write_text(
        proof.model_copy(update={"sha256": "0" * 64}).model_dump_json()
    )
    assert "model" not in compile_to(small_tflite, tmp_path / "made.tflite").parity


def test_a_file_that_gains_nothing_is_not_made(shared: Path, tmp_path: Path) -> None:
    output = tmp_path / "made.tflite"
    with pytest.raises(ConversionError, match="every operator to the CPU"):
        compile_to(shared / "models/mlperf_tiny_ic_fp32.tflite", output)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("target", "message"), [(None, "a target"), ("raspberry-pi-4", "not made by vela")]
)
def test_a_target_that_vela_compiles_for(
    small_tflite: Path, tmp_path: Path, target: str | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        compile_to(small_tflite, tmp_path / "out" / "made.tflite", target)
    assert not list(tmp_path.glob("out/*"))


def test_without_vela_the_extra_is_named(
    small_tflite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "have", lambda module: module != "ethosu")
    with pytest.raises(MissingDependencyError) as raised:
        compile_to(small_tflite, tmp_path / "made.tflite")
    assert raised.value.hint == "pip install 'edgekit[vela]'"


def test_in_a_recipe_it_is_int8_and_names_its_target() -> None:
    spec = ExportSpec.model_validate({"format": "vela", "target": TARGET})
    assert spec.precision == ("int8",)
    for wrong in (
        {"format": "vela"},
        {"format": "tflite", "target": TARGET},
        {"format": "vela", "target": TARGET, "precision": "fp32"},
    ):
        with pytest.raises(ValidationError):
            ExportSpec.model_validate(wrong)


def test_a_recipe_assesses_the_master_on_the_targets_own() -> None:
    recipe = Recipe.model_validate(
        {
            "name": "r", "data": {"source": "digits"}, "model": {"name": "mlp"},
            "export": [{"format": "vela", "target": TARGET}], "targets": [TARGET, "raspberry-pi-4"],
        }
    )  # fmt: skip
    master, compiled = wanted(recipe)
    assert master == Wanted("tflite", "int8")
    assert compiled.file_name("r") == f"r-int8-{TARGET}.tflite"
    assert export_stage(compiled, recipe, "train").inputs[-1] == "export-tflite-int8"
    targets = (load_target(TARGET), load_target("raspberry-pi-4"))
    made = {stage.group: stage for stage in assess.stages(compiled, recipe, targets, {})}
    assert "bench" not in made
    for stage in made.values():
        assert stage.inputs[:2] == ("export-tflite-int8", f"export-{compiled.key}")
    assert [found["name"] for found in made["profile"].settings["targets"]] == [TARGET]
