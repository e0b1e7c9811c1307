"""Recipes with `fallback` and `mixed_precision`, to every format, with what the files hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.cli.main import run
from edgekit.export.layer_precision import layer_precisions
from edgekit.graph.read import read_graph

pytestmark = pytest.mark.slow

LAYERS = ("conv0", "conv1", "conv2", "conv3", "logits")
FORMATS = {"tflite": ".tflite", "onnx": ".onnx", "openvino": ".xml"}
RECIPE = """
name: {name}
data: {{source: "npz:data.npz"}}
model: net.keras
train: {{epochs: 0}}
compress: [{{{name}: {{{options}}}}}]
export: [{{format: tflite, precision: mixed}}, {{format: onnx, precision: mixed}},
  {{format: openvino, precision: mixed}}]
verify: {{limits: {{mixed: {{min_snr_db: {snr}}}}}}}
bench: {{enabled: false}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained network, of which int8 breaks what is between two convolutions, and its data."""
    import keras

    from tests.compress.conftest import blobs

    path = tmp_path_factory.mktemp("mixed")
    samples = blobs(1200, 0)
    np.savez(path / "data.npz", x=samples.x["x"], y=samples.y)
    keras.utils.set_random_seed(1)
    layers = keras.layers
    h = x = keras.Input((8, 8, 1), name="x")
    for name, filters in zip(LAYERS, (8, 12, 12, 12), strict=False):
        h = layers.Conv2D(filters, 3, padding="same", activation="relu", name=name)(h)
    h = layers.GlobalAveragePooling2D(name="mean")(h)
    model = keras.Model(x, layers.Dense(3, name="logits")(h))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.005), loss)
    model.fit(samples.x["x"][:600], samples.y[:600], epochs=12, batch_size=16, verbose=0)
    # Channels over three decades, which leaves the function as it is.
    scale = 10.0 ** np.random.default_rng(0).uniform(-3, 0, 12)
    first, second = model.get_layer("conv1"), model.get_layer("conv2")
    first.set_weights([values * scale for values in first.get_weights()])
    second.kernel.assign(second.kernel / scale[:, None])
    model.save(path / "net.keras")
    return path


def onnx_layers(file: Path) -> list[tuple[str, str]]:
    """Of each layer with a kernel, in order, the types of what it takes and of its kernel.

    Whether integers have a sign is the runtime's affair: it is left out.
    """
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(file).graph
    makers = {name: node for node in graph.node for name in node.output}
    stored = {one.name: onnx.TensorProto.DataType.Name(one.data_type) for one in graph.initializer}

    def kind(name: str) -> str:
        """The type that a value has been rounded to; that of its storage for a constant."""
        while name in makers:
            node = makers[name]
            if node.op_type == "DequantizeLinear":
                return stored[node.input[2]].removeprefix("U")
            if node.op_type not in ("Transpose", "Reshape", "Squeeze"):
                return "FLOAT"
            name = node.input[0]
        return stored[name]

    weighted = [node for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    return [(kind(node.input[0]), kind(node.input[1])) for node in weighted]


def openvino_kernels(file: Path) -> list[str]:
    """Of each layer with a kernel, in order, the type that its kernel is stored in."""
    openvino = pytest.importorskip("openvino")
    found = []
    for node in openvino.Core().read_model(file).get_ordered_ops():
        if node.get_type_name() in ("Convolution", "MatMul"):
            source = node.input_value(1).get_node()
            while source.get_type_name() != "Constant":
                source = source.input_value(0).get_node()
            found.append(source.get_element_type().get_type_name())
    return found


@pytest.mark.parametrize(
    ("name", "options", "snr"),
    [
        ("fallback", "max_drop: 0.5, to: fp32", 10),  # its own limit by default
        ("mixed_precision", "size_ratio: 0.6", 5),  # promises the size
    ],
)
def test_from_a_recipe_to_files_that_hold_the_plan(
    name: str, options: str, snr: int, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = folder / f"{name}.yaml"
    recipe.write_text(RECIPE.format(name=name, options=options, snr=snr))
    code = run(["run", str(recipe), "--runs-dir", str(folder / "runs"), "--quiet", "--json"])
    text = capfd.readouterr().out
    assert code == 0, text[-2000:]
    report: dict[str, Any] = json.loads(text)
    home = folder / "runs" / report["run"]
    files = {one["format"]: home / one["path"] for one in report["artifacts"]}
    assert {kind: file.suffix for kind, file in files.items()} == FORMATS
    (plan,) = home.glob("stages/compress-*/*.plan.json")
    planned = json.loads(plan.read_text())["layers"]
    assert planned.get("conv2") == "fp32"
    wanted = {layer: planned.get(layer, "int8") for layer in LAYERS}
    assert set(wanted.values()) == {"int8", *planned.values()}

    told = layer_precisions(read_graph(files["tflite"]), (*LAYERS, "mean"))
    assert {layer: told[layer] for layer in LAYERS} == wanted
    types = {"int8": ("INT8", "INT8"), "int16x8": ("INT16", "INT8"), "fp32": (None, "FLOAT")}
    for layer, (takes, kernel) in zip(LAYERS, onnx_layers(files["onnx"]), strict=True):
        assert kernel == types[wanted[layer]][1], layer
        assert wanted[layer] == "fp32" or takes == types[wanted[layer]][0], layer
    kernels = openvino_kernels(files["openvino"])
    assert kernels == ["f32" if wanted[layer] == "fp32" else "i8" for layer in LAYERS]

    data = ["--reference", str(folder / "net.keras"), "--data", str(folder / "data.npz")]
    limits = ["--min-snr-db", str(snr), "--quiet", "--json"]
    assert run(["verify", *map(str, files.values()), *data, *limits]) == 0
    results = json.loads(capfd.readouterr().out)["results"]
    assert len(results) == len(FORMATS)
    for one in results:
        assert one["metrics"]["accuracy"] >= one["reference_metrics"]["accuracy"] - 0.01
