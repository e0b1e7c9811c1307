"""Plans of models that end in a layer which lost its name to an output of the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.base.child import Worker
from edgekit.base.errors import InputError
from edgekit.data.dataset import Dataset
from edgekit.schema.plan import QuantizationPlan

pytestmark = pytest.mark.slow


def test_boxes_and_scores_that_are_joined_are_in_the_planned_precision(
    dataset: Dataset, tmp_path: Path
) -> None:
    import keras

    from edgekit.export.exporter import ExportJob, export
    from edgekit.graph.read import read_graph
    from edgekit.models.files import save_model

    layers = keras.layers
    keras.utils.set_random_seed(0)
    x = keras.Input((8, 8, 1), name="x")
    h = layers.Conv2D(4, 3, strides=2, activation="relu", name="conv")(x)
    h = layers.Flatten(name="flat")(h)
    boxes = layers.Dense(4, name="boxes")(h)
    scores = layers.Dense(3, activation="sigmoid", name="scores")(h)
    model = keras.Model(x, layers.Concatenate(name="joined")([boxes, scores]))
    save_model(model, tmp_path / "model.keras")
    np.savez(tmp_path / "calibration.npz", **dataset.calibration.x)  # type: ignore[arg-type]
    heads = dict.fromkeys(("boxes", "scores", "joined"), "fp32")

    def made(layers: dict[str, str], worker: Worker) -> Path:
        plan = QuantizationPlan.model_validate({"precision": "mixed", "layers": layers})
        job = ExportJob(
            tmp_path / "model.keras",
            "tflite",
            "mixed",
            tmp_path / "model.tflite",
            calibration=tmp_path / "calibration.npz",
            plan=plan,
        )
        export(job, worker=worker, reference_x=dataset.test.x)
        return job.output

    with Worker(preload=["tensorflow"]) as worker:
        graph = read_graph(made(heads, worker))
        (join,) = (op for op in graph.ops if op.name == "CONCATENATION")
        assert {graph.tensors[i].dtype for i in (*join.inputs, *join.outputs)} == {"float32"}
        (conv,) = (op for op in graph.ops if op.name == "CONV_2D")
        assert graph.tensors[conv.outputs[0]].dtype == "int8"
        with pytest.raises(InputError, match="'joint'"):
            made({"joint": "fp32"}, worker)
