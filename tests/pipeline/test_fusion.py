"""What edgekit believes that a runtime fuses, beside the graph that the runtime really made."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.graph.read import read_graph
from edgekit.pipeline.calibration.files import write_network
from edgekit.pipeline.calibration.measure import networks
from edgekit.profiling.view import GraphView
from edgekit.runtimes.openvino import compile_options
from edgekit.schema.names import Format

_PLAIN = {
    "QLinearConv": "Conv", "FusedConv": "Conv", "NhwcMaxPool": "MaxPool", "QLinearAdd": "Add",
    "QLinearAveragePool": "AveragePool", "QLinearMul": "Mul", "QLinearSigmoid": "Sigmoid",
    "QLinearGlobalAveragePool": "GlobalAveragePool", "QLinearSoftmax": "Softmax",
    "QLinearConcat": "Concat", "QGemm": "Gemm", "FusedGemm": "Gemm", "MatMul": "Gemm",
    "FusedMatMul": "Gemm", "QLinearMatMul": "Gemm", "Upsample": "Resize", "Scale": "Conv",
}  # fmt: skip
_LAYOUT = {"ReorderInput", "ReorderOutput", "Transpose", "Reshape", "Flatten"}


def _written(name: str, kind: Format, folder: Path, *, quantized: bool) -> Path:
    found = next(network for network in networks()[0] if network.name == name)
    return write_network(found, kind, folder, quantized=quantized)


def _live(path: Path) -> Counter[str]:
    view = GraphView(read_graph(path))
    live = [op for op in view.graph.ops if op.index not in view.free]
    found: Counter[str] = Counter()
    for op in live:
        name = view.fusion.names.get(op.index, op.name)
        copies = view.fusion.steps.get(op.index, 0) if op.name == "DequantizeLinear" else 0
        found[_PLAIN.get(name, name)] += (1 + copies) * (name not in _LAYOUT)
    return +found


def _onnxruntime_nodes(path: Path) -> list[str]:
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(path.with_suffix(".optimized"))
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    model = onnx.load(path.with_suffix(".optimized"))
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        "mobilenet-0", "inverted-0", "resnet-0", "inception-0", "vgg-0", "tiny-0", "tiny-1",
        "densenet-0", "segmentation-0", "transformer-0", "nasnet-3",
    ],
)  # fmt: skip
def test_onnxruntime_runs_the_operators_that_are_not_fused(
    name: str, tmp_path: Path, *, quantized: bool
) -> None:
    path = _written(name, "onnx", tmp_path, quantized=quantized)
    nodes = _onnxruntime_nodes(path)
    ran = Counter(_PLAIN.get(node, node) for node in nodes if node not in _LAYOUT)
    assert _live(path) == ran


@pytest.mark.parametrize("name", ["resnet-0", "inception-0", "densenet-0", "add-0"])
def test_onnxruntime_changes_layouts_about_as_often(name: str, tmp_path: Path) -> None:
    path = _written(name, "onnx", tmp_path, quantized=False)
    changes = sum(node in ("ReorderInput", "ReorderOutput") for node in _onnxruntime_nodes(path))
    view = GraphView(read_graph(path))
    moved = [view.graph.ops[index] for index in view.fusion.moved]
    found = sum(len(op.inputs) if op.name == "Concat" else 1 for op in moved)
    assert found == pytest.approx(changes, abs=1 + changes // 5)


@pytest.mark.parametrize(
    "name", ["mobilenet-0", "resnet-0", "inception-0", "nasnet-0", "max_pool-0"]
)
def test_onnxruntime_moves_channels_of_integers_as_often(name: str, tmp_path: Path) -> None:
    path = _written(name, "onnx", tmp_path, quantized=True)
    moved = GraphView(read_graph(path)).fusion.moved
    transposed = _onnxruntime_nodes(path).count("Transpose")
    assert abs(len(moved) - transposed) <= 0.25 * transposed + 1
    assert bool(moved) == (transposed > 1)  # a map of one place is not moved


def test_transpositions_of_integers_that_meet_cancel(tmp_path: Path) -> None:
    path = _written("convnext-0", "onnx", tmp_path, quantized=True)
    view = GraphView(read_graph(path))
    written = [op.index for op in view.graph.ops if op.name == "Transpose"]
    assert written
    assert view.free.issuperset(written)
    assert _onnxruntime_nodes(path).count("Transpose") == 1  # before the head


def test_a_convolution_goes_over_its_result_again_for_clips_and_sums(tmp_path: Path) -> None:
    view = GraphView(read_graph(_written("inverted-0", "onnx", tmp_path, quantized=False)))
    steps = [view.fusion.steps.get(op.index, 0) for op in view.graph.ops if op.name == "Conv"]
    assert steps[:7] == [1, 1, 1, 0, 1, 1, 1]  # the seventh adds the output of the fourth


@pytest.mark.parametrize(("name", "step"), [("autoencoder-0", 1), ("autoencoder-1", 0)])
def test_dense_layers_of_integers_scale_each_column_where_weights_ask(
    name: str, step: int, tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx")
    path = _written(name, "onnx", tmp_path, quantized=True)
    view = GraphView(read_graph(path))
    live = [op for op in view.graph.ops if op.index not in view.free and op.kind == "dense"]
    assert live
    assert {view.fusion.steps.get(op.index, 0) for op in live} == {step}
    assert _onnxruntime_nodes(path).count("QGemm") == len(live)
    optimized = onnx.load(path.with_suffix(".optimized")).graph
    sizes = {one.name: len(one.dims) for one in optimized.initializer}
    scales = {sizes[node.input[4]] for node in optimized.node if node.op_type == "QGemm"}
    assert scales == {step}  # dimensions: of one scale there is none


@pytest.mark.parametrize("form", ["alone", "in parts"])
def test_hard_swish_costs_a_convolution_less_than_swish_in_openvino(
    form: str, tmp_path: Path
) -> None:
    """In straight lines it takes a few instructions, where an exponential takes tens."""
    ov = pytest.importorskip("openvino")
    ops = ov.opset15
    image = ops.parameter([1, 8, 16, 16], np.float32)
    weights = np.ones((16, 8, 1, 1), np.float32)
    convolved = ops.convolution(image, weights, [1, 1], [0, 0], [0, 0], [1, 1])
    if form == "alone":
        functions = [ops.hswish(convolved), ops.swish(convolved)]
    else:
        limited = ops.clamp(ops.add(convolved, np.float32(3)), 0.0, 6.0)
        sixth = ops.multiply(limited, np.full((1,), 1 / 6, np.float32))
        functions = [
            ops.multiply(convolved, sixth),
            ops.multiply(convolved, ops.sigmoid(convolved)),
        ]
    counts = []
    for number, function in enumerate(functions):
        path = tmp_path / f"{number}.xml"
        ov.save_model(ov.Model([function], [image]), path, compress_to_fp16=False)
        view = GraphView(read_graph(path))
        (live,) = [op for op in view.graph.ops if op.index not in view.free]
        counts.append(view.fusion.steps[live.index])
    assert counts == [3, 8]


def _openvino_nodes(name: str, folder: Path, *, quantized: bool) -> tuple[Path, list[Any]]:
    """A network's file, and what OpenVINO runs of it."""
    openvino = pytest.importorskip("openvino")
    path = _written(name, "openvino", folder, quantized=quantized)
    compiled = openvino.Core().compile_model(str(path), "CPU", compile_options(1))
    return path, compiled.get_runtime_model().get_ops()


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("name", ["resnet-0", "strided-0", "preactivated-0", "inception-0"])
def test_openvino_computes_no_values_that_strides_leave_out(
    name: str, tmp_path: Path, *, quantized: bool
) -> None:
    path, nodes = _openvino_nodes(name, tmp_path, quantized=quantized)
    computed = Counter(
        math.prod(node.get_output_shape(0))
        for node in nodes
        if node.get_rt_info()["layerType"].astype(str) == "Convolution"
    )
    view = GraphView(read_graph(path))
    convolutions = [op for op in view.graph.ops if op.name in ("Convolution", "GroupConvolution")]
    outputs = [view.tensors(op.outputs)[0] for op in convolutions if op.index not in view.free]
    assert Counter(map(view.elements, outputs)) == computed


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize(
    "name",
    ["mobilenet-0", "inverted-0", "resnet-0", "densenet-1", "efficient-0", "nasnet-0", "tiny-0"],
)
def test_openvino_runs_the_operators_that_are_not_fused(
    name: str, tmp_path: Path, *, quantized: bool
) -> None:
    path, nodes = _openvino_nodes(name, tmp_path, quantized=quantized)
    ran: Counter[str] = Counter()
    for node in nodes:
        facts = node.get_rt_info()
        if facts["originalLayersNames"].astype(str):
            ran[facts["layerType"].astype(str)] += 1
    live = _live(path)
    assert live["Convolution"] + live["GroupConvolution"] == ran["Convolution"]
    assert live["MaxPool"] + live["AvgPool"] == ran["Pooling"]
    assert live["Concat"] == ran["Concatenation"]
    known = ("Add", "Multiply", "Sigmoid", "Relu", "Clamp")
    elementwise = sum(live[name] for name in live if name.partition("+")[0] in known)
    quantizers = ran["FakeQuantize"] if quantized else 0  # take factors and sums into theirs
    assert ran["Eltwise"] <= elementwise <= ran["Eltwise"] + quantizers


@pytest.mark.parametrize(
    ("name", "conversions"),
    [
        ("dense-8", 0),
        ("dense-24", 1),
        ("autoencoder-1", 0),
        ("scores-0", 2),
        ("scores-1", 1),
        ("pointwise-5", 1),
        ("tiny-0", 2),
    ],
)
def test_openvino_reads_and_writes_integers_of_dense_layers_as_they_are(
    name: str, conversions: int, tmp_path: Path
) -> None:
    path, nodes = _openvino_nodes(name, tmp_path, quantized=True)
    ran = Counter(node.get_rt_info()["layerType"].astype(str) for node in nodes)
    live = _live(path)
    assert live["Convert"] == ran["FakeQuantize"] + ran["Convert"] == conversions
    view = GraphView(read_graph(path))
    dense = (op for op in view.graph.ops if op.kind == "dense" and op.index not in view.free)
    assert ran["FullyConnected"] == sum(1 for _ in dense)
