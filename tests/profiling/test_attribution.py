"""Times of a runtime's operators, divided among a file's."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.devices.quick import quick_operators
from edgekit.graph.read import read_graph
from edgekit.pipeline.calibration.files import write_network
from edgekit.pipeline.calibration.measure import networks
from edgekit.profiling.fit.attribution import parts
from edgekit.profiling.view import GraphView
from edgekit.runtimes.operators import OperatorTime
from edgekit.schema.names import Format

_RUNTIMES: dict[str, Format] = {"onnxruntime": "onnx", "openvino": "openvino"}


def _file(name: str, kind: Format, folder: Path, *, quantized: bool) -> Path:
    network = next(one for one in networks()[0] if one.name == name)
    return write_network(network, kind, folder, quantized=quantized)


def test_fused_operators_and_added_ones_belong_to_what_computes_them(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    view = GraphView(read_graph(_file("inverted-0", "onnx", tmp_path, quantized=False)))
    start = next(op.index for op in view.graph.ops if op.kind == "conv")
    (conv, clip, second) = view.graph.ops[start : start + 3]
    assert clip.index in view.free
    times = [
        OperatorTime((view.graph.ops[0].layer or "",), 0.5),
        OperatorTime((), 1.0),
        OperatorTime((clip.layer or "",), 2.0),
        OperatorTime((second.layer or "", "unknown"), 4.0),
        OperatorTime(("ReorderOutput",), 8.0),
    ]
    found = {index: part for part in parts(view, times) for index in part.operators}
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
    answer = quick_operators(path=str(path), runtime=runtime, threads=1, seconds=0.001)
    times = [OperatorTime(tuple(names), seconds) for names, seconds in answer["operators"]]
    view = GraphView(read_graph(path))
    found = parts(view, times)
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
    answer = quick_operators(path=str(path), runtime="onnxruntime", threads=1, seconds=0.001)
    times = [OperatorTime(tuple(names), seconds) for names, seconds in answer["operators"]]
    found = parts(GraphView(read_graph(path)), times)
    assert all(len(part.operators) == 1 for part in found)
    assert sum(part.runs for part in found) == len(times)


def test_a_runtime_without_a_profiler_tells_nothing(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    assert quick_operators(path=str(path), runtime="litert", threads=1, seconds=0.1) == {
        "operators": []
    }
