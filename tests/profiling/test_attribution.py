"""Times of a runtime's operators, divided among a file's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.devices.quick import quick_operators
from edgekit.graph.read import read_graph
from edgekit.pipeline.calibration.files import write_network
from edgekit.pipeline.calibration.measure import networks
from edgekit.profiling.fit.attribution import Part, parts
from edgekit.profiling.fit.named import told
from edgekit.profiling.view import GraphView
from edgekit.runtimes.operators import OperatorTime
from edgekit.schema.names import Format

_RUNTIMES: dict[str, Format] = {"onnxruntime": "onnx", "openvino": "openvino"}


def _file(name: str, kind: Format, folder: Path, *, quantized: bool) -> Path:
    network = next(one for one in networks()[0] if one.name == name)
    return write_network(network, kind, folder, quantized=quantized)


def _measured(path: Path, runtime: str) -> tuple[GraphView, list[OperatorTime], list[Part]]:
    answer = quick_operators(path=str(path), runtime=runtime, threads=1, seconds=0.001)
    times = [OperatorTime(tuple(names), *rest) for names, *rest in answer["operators"]]
    view = GraphView(read_graph(path))
    return view, times, parts(view, told(view, times))


def _renamed(path: Path, name: Callable[[int, str], str]) -> Path:
    """The same file, after a constant, with other names for its operators."""
    import onnx

    model = onnx.load(path)
    for place, node in enumerate(model.graph.node):
        node.name = name(place, node.name)
    value = onnx.numpy_helper.from_array(np.zeros(1, np.float32))
    model.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["unused"], value=value))
    onnx.save(model, path.with_name("renamed.onnx"))
    return path.with_name("renamed.onnx")


def test_fused_operators_and_added_ones_belong_to_what_computes_them(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    view = GraphView(read_graph(_file("inverted-0", "onnx", tmp_path, quantized=False)))
    start = next(op.index for op in view.graph.ops if op.kind == "conv")
    (conv, clip, second) = view.graph.ops[start : start + 3]
    assert clip.index in view.free
    times = [
        OperatorTime((view.graph.ops[0].node,), 0.5),
        OperatorTime((), 1.0),
        OperatorTime((clip.node,), 2.0),
        OperatorTime((second.node, "unknown"), 4.0),
        OperatorTime(("ReorderOutput",), 8.0),
    ]
    found = {index: part for part in parts(view, told(view, times)) for index in part.operators}
    assert found[conv.index].seconds == 3.0
    assert found[second.index].seconds == 12.0
    live = {op.index for op in view.graph.ops[start:]} - view.free
    assert found.keys() >= live  # those that no time is told of are in the part before them


@pytest.mark.parametrize("runtime", _RUNTIMES)
@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("name", ["mobilenet-0", "inverted-0", "resnet-0", "efficient-0"])
def test_what_a_runtime_tells_is_known_operator_by_operator(
    name: str, runtime: str, tmp_path: Path, *, quantized: bool
) -> None:
    pytest.importorskip(runtime)
    pytest.importorskip("onnx")
    path = _file(name, _RUNTIMES[runtime], tmp_path, quantized=quantized)
    view, times, found = _measured(path, runtime)
    assert sum(part.seconds for part in found) == pytest.approx(sum(t.seconds for t in times))
    kinds = ("conv", "depthwise", "pointwise")
    convolutions = {op.index for op in view.graph.ops if op.kind in kinds}
    alone = {index for part in found if len(part.operators) == 1 for index in part.operators}
    assert convolutions - view.free <= alone
    covered = [index for part in found for index in part.operators]
    assert sorted(covered) == sorted({op.index for op in view.graph.ops} - view.free)


@pytest.mark.parametrize(
    ("name", "quantized"),
    [
        ("densenet-0", False),
        ("nasnet-0", False),
        ("mobilenet-v3-0", True),
        ("segmentation-0", True),
    ],
)
def test_times_of_operators_that_onnxruntime_names_itself_go_to_those_they_come_from(
    name: str, tmp_path: Path, *, quantized: bool
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    path = _file(name, "onnx", tmp_path, quantized=quantized)
    _, times, found = _measured(path, "onnxruntime")
    assert all(len(part.operators) == 1 for part in found)
    assert sum(part.runs for part in found) == len(times)


@pytest.mark.parametrize(
    "name", [lambda place, own: f"net_1/layer_{place // 6}/{own}", lambda _place, _own: ""]
)
@pytest.mark.parametrize("quantized", [False, True])
def test_operators_of_one_layer_or_without_names_are_told_apart(
    name: Callable[[int, str], str], tmp_path: Path, *, quantized: bool
) -> None:
    """Converters name an operator by its layer and what it computes there, or not at all."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    path = _file("resnet-0", "onnx", tmp_path, quantized=quantized)
    _, _, named = _measured(path, "onnxruntime")
    _, _, found = _measured(_renamed(path, name), "onnxruntime")
    assert {one.operators: one.runs for one in found} == {p.operators: p.runs for p in named}


def test_operators_that_share_a_name_are_told_apart_by_their_order_if_all_have_times(
    tmp_path: Path,
) -> None:
    pytest.importorskip("onnx")
    path = _renamed(
        _file("resnet-0", "onnx", tmp_path, quantized=False),
        lambda _place, own: "conv" if own.startswith("conv") else own,
    )
    view = GraphView(read_graph(path))
    convolutions = [op.index for op in view.graph.ops if op.node == "conv"]
    assert len(convolutions) > 2
    times = [OperatorTime(("conv",), float(place)) for place in range(len(convolutions))]
    assert [one.operators for one in told(view, times)] == [(index,) for index in convolutions]
    (one, *_) = told(view, times[:-1])
    assert one.operators == tuple(convolutions)


def test_a_runtime_without_a_profiler_tells_nothing(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    assert quick_operators(path=str(path), runtime="litert", threads=1, seconds=0.1) == {
        "operators": []
    }
