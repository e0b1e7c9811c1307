"""Dense layers with one scale, for targets that refuse several."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.base.child import Worker
from edgekit.base.errors import InputError
from edgekit.export.base import ExportJob
from edgekit.export.exporter import export
from edgekit.export.tflite import TfliteExporter
from edgekit.graph.tflite import read_tflite
from edgekit.pipeline.export_files import export_files
from edgekit.pipeline.stages import export as stages
from edgekit.pipeline.stages.compress import stages as compress_stages
from edgekit.profiling.check import check_file, check_graph
from edgekit.profiling.dense_scales import refusing_dense_scales
from edgekit.profiling.targets import load_target
from edgekit.schema.recipe import PassSpec, Recipe


def test_corals_compiler_and_older_runtimes_refuse_a_scale_an_output() -> None:
    names = ("coral-usb", "raspberry-pi-4", "stm32-l4r5-tflm", "coral-dev-board-micro")
    found = refusing_dense_scales(load_target(name) for name in names)
    assert found == ("coral-usb", "coral-dev-board-micro")


def test_the_targets_of_a_recipe_decide() -> None:
    recipe = Recipe.model_validate(
        {
            "name": "r", "data": {"source": "digits"}, "model": {"name": "mlp"},
            "export": [{"format": "tflite", "precision": ["int8", "fp32"]}],
        }
    )  # fmt: skip
    targets = [load_target("raspberry-pi-4"), load_target("coral-usb")]
    whole, real = stages.wanted(recipe)
    assert stages.stage(whole, recipe, "train", targets).settings["dense_one_scale"] == [
        "coral-usb"
    ]
    assert "dense_one_scale" not in stages.stage(real, recipe, "train", targets).settings
    assert "dense_one_scale" not in stages.stage(whole, recipe, "train", targets[:1]).settings


class Recorder(Worker):
    """Converts nothing, and keeps whether dense layers were to have one scale."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[bool] = []

    def call(self, function: str, **arguments: Any) -> Any:
        if function.endswith("tflite:convert"):
            self.asked.append(arguments["dense_one_scale"])
            return {}
        return ""


def trained(path: Path, *, one_scale: bool) -> Path:
    """A file that looks like one that `qat` has trained."""
    words = str(one_scale).lower()
    with zipfile.ZipFile(path, "w") as archive:
        config = f'{{"class_name": "edgekit>FakeQuant", "dense_one_scale": {words}}}'
        archive.writestr("config.json", config)
    return path


def test_what_was_trained_in_several_scales_keeps_them(tmp_path: Path) -> None:
    recorder, output = Recorder(), tmp_path / "m.tflite"
    job = ExportJob(trained(tmp_path / "m.keras", one_scale=False), "tflite", "int8", output,
                    dense_one_scale=("coral-usb",))  # fmt: skip
    decided = TfliteExporter().convert(job, output, recorder)
    assert recorder.asked == [False]
    assert "coral-usb" in decided["warnings"][0]
    assert "check --fix" in decided["warnings"][0]


@pytest.mark.parametrize("names", [("coral-usb",), ()])
def test_what_was_trained_in_one_scale_keeps_it_whoever_asks(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    recorder, output = Recorder(), tmp_path / "m.tflite"
    job = ExportJob(trained(tmp_path / "m.keras", one_scale=True), "tflite", "int8", output,
                    dense_one_scale=names)  # fmt: skip
    decided = TfliteExporter().convert(job, output, recorder)
    assert recorder.asked == [True]
    assert decided == {"dense_scales": {"each": "layer", "for": list(names)}}


def test_a_stage_that_compresses_is_another_for_such_targets(tmp_path: Path) -> None:
    specs = (PassSpec(name="qat"),)
    found = [
        compress_stages(specs, targets, None, 0, tmp_path)[0].settings.get("dense_one_scale")
        for targets in ((load_target("raspberry-pi-4"),), (load_target("coral-usb"),))
    ]
    assert found == [None, ["coral-usb"]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model with a convolution and a dense layer of outputs of unlike size; its samples."""
    import keras

    from edgekit.models.files import save_model

    keras.utils.set_random_seed(0)
    x = keras.Input((6, 6, 3), name="x")
    y = keras.layers.Conv2D(8, 3, activation="relu", name="conv")(x)
    dense = keras.layers.Dense(5, name="head")
    made = keras.Model(x, dense(keras.layers.Flatten()(y)))
    kernel, bias = dense.get_weights()
    dense.set_weights([kernel * np.linspace(1, 3, 5), bias])
    folder = tmp_path_factory.mktemp("dense")
    save_model(made, folder / "m.keras")
    np.savez(folder / "x.npz", x=np.random.default_rng(0).normal(size=(40, 6, 6, 3)))
    return folder / "m.keras", folder / "x.npz"


def scales(path: Path) -> dict[str, int]:
    """How many scales the weights of each operator have."""
    graph = read_tflite(path)
    return {
        op.name: len(weights.quantization.scale)
        for op in graph.ops
        if op.name in ("CONV_2D", "FULLY_CONNECTED")
        for weights in [graph.tensors[op.inputs[1]]]
        if weights.quantization
    }


@pytest.mark.slow
def test_a_job_that_names_such_targets_gets_one_scale(
    model: tuple[Path, Path], tmp_path: Path, worker: Worker
) -> None:
    source, samples = model
    found: dict[tuple[str, ...], Any] = {}
    for names in ((), ("coral-usb",)):
        output = tmp_path / f"{len(names)}.tflite"
        job = ExportJob(
            source, "tflite", "int8", output, calibration=samples, dense_one_scale=names
        )
        found[names] = export(job, worker=worker).provenance
        assert scales(output) == {"CONV_2D": 8, "FULLY_CONNECTED": 1 if names else 5}
        report = check_file(output, load_target("coral-usb"))
        assert report.verdict == ("ok" if names else "fallback")
    assert "dense_scales" not in found[()]
    assert found["coral-usb",]["dense_scales"] == {"each": "layer", "for": ["coral-usb"]}


@pytest.mark.slow
def test_the_command_takes_the_target_for_it(model: tuple[Path, Path], tmp_path: Path) -> None:
    source, samples = model
    asked: dict[str, Any] = {"formats": ["tflite"], "precisions": ["int8"], "data": samples}
    with pytest.raises(InputError, match="compiled for a target"):
        export_files(source, **asked, output=tmp_path, target="raspberry-pi-4")
    made = export_files(source, **asked, output=tmp_path, target="coral-usb").artifacts[0]
    assert scales(tmp_path / made.file)["FULLY_CONNECTED"] == 1


@pytest.mark.slow
def test_predicted_graphs_have_the_scales_of_the_export(model: tuple[Path, Path]) -> None:
    from edgekit.models.files import load_model
    from edgekit.models.graph import model_graph

    target = load_target("coral-usb")
    for simple, verdict in ((False, "fallback"), (True, "ok")):
        graph = model_graph(load_model(model[0]), precision="int8", dense_one_scale=simple)
        assert check_graph(graph, target, "m").verdict == verdict
