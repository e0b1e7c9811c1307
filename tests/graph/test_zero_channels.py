from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgekit.graph.read import read_graph
from edgekit.graph.types import Graph, Op, Tensor
from edgekit.graph.zero_channels import with_zero_channels, without_zero_channels

RELU = {"fused_activation_function": "RELU"}
NONE = {"fused_activation_function": "NONE"}


def chain(
    *, bias: float = 0.0, attributes: dict[str, str] = RELU
) -> tuple[Graph, dict[int, NDArray[Any]]]:
    """1x1 convolution to four channels, depthwise, dense; the first two filters have only zeros."""
    values = {
        1: np.ones((4, 1, 1, 3), np.float32),
        2: np.full(4, bias, np.float32),
        4: np.ones((1, 3, 3, 4), np.float32),
        5: np.zeros(4, np.float32),
        8: np.ones((2, 4), np.float32),
    }
    values[1][:2] = 0
    shapes = {0: (1, 8, 8, 3), 3: (1, 8, 8, 4), 6: (1, 8, 8, 4), 7: (1, 4), 9: (1, 2)}
    shapes |= {index: array.shape for index, array in values.items()}
    tensors = [
        Tensor(i, f"t{i}", shapes[i], "float32", constant=i in values) for i in range(len(shapes))
    ]
    ops = (
        Op(0, "CONV_2D", "pointwise", "", (0, 1, 2), (3,), attributes, 64 * 12),
        Op(1, "DEPTHWISE_CONV_2D", "depthwise", "", (3, 4, 5), (6,), RELU, 64 * 36),
        Op(2, "MEAN", "reduce", "", (6,), (7,)),
        Op(3, "FULLY_CONNECTED", "dense", "", (7, 8), (9,), NONE, 8),
    )
    return Graph("tflite", "chain", tuple(tensors), ops, (), (), 0), values


def marked(graph: Graph) -> dict[int, int]:
    return {t.index: t.zero_channels for t in graph.tensors if t.zero_channels}


def test_zero_filters_make_zero_channels_as_far_as_channels_stay_apart() -> None:
    graph, values = chain()
    assert marked(with_zero_channels(graph, values.__getitem__)) == {3: 2, 6: 2, 7: 2}


@pytest.mark.parametrize(
    ("bias", "attributes", "zero"),
    [(-1.0, RELU, True), (1.0, RELU, False), (-1.0, NONE, False), (0.0, NONE, True)],
)
def test_the_bias_decides(bias: float, attributes: dict[str, str], zero: bool) -> None:
    graph, values = chain(bias=bias, attributes=attributes)
    assert bool(marked(with_zero_channels(graph, values.__getitem__))) is zero


def test_a_filter_of_zero_inputs_only_is_zero_too() -> None:
    graph, values = chain()
    values[8][0, 2:] = 0  # its other two inputs are the zero channels
    assert marked(with_zero_channels(graph, values.__getitem__))[9] == 1


def test_without_them_is_less_work() -> None:
    graph, values = chain()
    lean = without_zero_channels(with_zero_channels(graph, values.__getitem__))
    assert [op.macs for op in lean.ops] == [64 * 6, 64 * 18, 0, 4]
    assert [t.shape for t in lean.tensors] == [
        (1, 8, 8, 3), (2, 1, 1, 3), (2,), (1, 8, 8, 2), (1, 3, 3, 2), (2,), (1, 8, 8, 2), (1, 2),
        (2, 2), (1, 2),
    ]  # fmt: skip


def test_a_graph_without_any_stays_as_it_is() -> None:
    graph, values = chain(bias=1.0)
    assert without_zero_channels(with_zero_channels(graph, values.__getitem__)) is graph


@pytest.mark.parametrize("seed", [0, 1])
def test_litert_computes_zeros_there(shared: Path, seed: int) -> None:
    """Every tensor of MLPerf Tiny's MobileNetV1 has at least as many channels of only zeros."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    path = shared / "models" / "mlperf_tiny_vww_int8.tflite"
    graph = read_graph(path)
    runtime = Interpreter(
        str(path),
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
    )
    runtime.allocate_tensors()
    data = np.random.default_rng(seed).integers(-128, 128, (1, 96, 96, 3)).astype(np.int8)
    runtime.set_tensor(runtime.get_input_details()[0]["index"], data)
    runtime.invoke()
    counted = 0
    for index, count in marked(graph).items():
        quantization = graph.tensors[index].quantization
        assert quantization is not None
        real = runtime.get_tensor(index).astype(int) - quantization.zero_point[0]
        assert count <= (real == 0).reshape(-1, real.shape[-1]).all(axis=0).sum()
        counted += count
    assert counted == 1868
    assert without_zero_channels(graph).macs == 4_122_908
