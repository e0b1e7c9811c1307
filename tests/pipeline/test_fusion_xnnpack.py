"""What edgekit believes that XNNPACK computes of a .tflite file in one kernel.

LiteRT does not tell its operators. What is expected here was seen in the times of these networks:
of those that are one kernel, all take as long as the first operator alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.graph.read import read_graph
from edgekit.pipeline.calibration.files import write_network
from edgekit.pipeline.calibration.network import Network
from edgekit.profiling.fit.kernels import Observation
from edgekit.profiling.kernels.factors import factors
from edgekit.profiling.view import GraphView
from edgekit.schema.kernels import KernelRows, KernelTable

pytest.importorskip("ai_edge_litert")
_SHAPE = (1, 14, 14, 16)


def _sigmoid_times_itself(network: Network) -> None:
    network.binary("mul", 0, network.unary("logistic", 0))


def _sigmoid_of_another(network: Network) -> None:
    network.binary("mul", network.unary("tanh", 0), network.unary("logistic", 0))


def _sigmoid_read_twice(network: Network) -> None:
    gate = network.unary("logistic", 0)
    network.binary("mul", 0, gate)
    network.binary("add", 0, gate)


def _three_functions(network: Network) -> None:
    network.unary("tanh", network.unary("logistic", network.unary("tanh", 0)))


def _factors(network: Network) -> None:
    network.unary("scale", network.unary("logistic", 0))


def _clamped_convolution(network: Network) -> None:
    network.unary("relu6", network.depthwise(0, 3, 1, "relu"))


def _clamped_sum(network: Network) -> None:
    network.unary("relu", network.unary("shift", 0))


def _padded_convolution(network: Network) -> None:
    network.conv(network.pad(0), 8, 3, 2, valid=True)


def _padded_twice(network: Network) -> None:
    network.conv(network.pad(0), 8, 3, 2)


def _padded_pool(network: Network) -> None:
    network.pool(network.pad(0), "max_pool", 3, 2, valid=True)


def _kernels(build: Callable[[Network], None], folder: Path, *, quantized: bool) -> list[str]:
    network = Network("made", _SHAPE, "made")
    build(network)
    path = write_network(network, "tflite", folder, quantized=quantized)
    made = Observation("made", "made", GraphView(read_graph(path)), 1.0)
    return [shape.kernel for shape in made.shapes if shape is not None]


@pytest.mark.parametrize(
    ("build", "quantized", "kernels"),
    [
        (_sigmoid_times_itself, True, ["lookup"]),
        (_sigmoid_times_itself, False, ["LOGISTIC", "MUL"]),
        (_sigmoid_of_another, True, ["lookup", "lookup", "MUL"]),
        (_sigmoid_read_twice, True, ["lookup", "MUL", "ADD"]),
        (_three_functions, True, ["lookup"]),
        (_three_functions, False, ["TANH", "LOGISTIC", "TANH"]),
        (_factors, True, ["lookup", "MUL"]),
        (_clamped_convolution, False, ["depthwise"]),
        (_clamped_convolution, True, ["depthwise", "RELU6"]),
        (_clamped_sum, False, ["ADD", "RELU"]),
        (_padded_convolution, False, ["conv"]),
        (_padded_convolution, True, ["conv"]),
        (_padded_twice, False, ["PAD", "conv"]),
        (_padded_pool, False, ["PAD", "MAX_POOL_2D"]),
    ],
)
def test_operators_in_one_kernel(
    build: Callable[[Network], None], quantized: bool, kernels: list[str], tmp_path: Path
) -> None:
    assert _kernels(build, tmp_path, quantized=quantized) == kernels


@pytest.mark.parametrize("columns", [16, 17])
def test_a_dense_layer_of_one_tile_has_a_table_of_its_own(columns: int, tmp_path: Path) -> None:
    def build(network: Network) -> None:
        network.dense(network.reshape(0, (1, 14 * 14 * 16)), columns)

    name = "dense" if columns > 16 else "dense_tile"
    assert _kernels(build, tmp_path, quantized=False)[-1] == name


def test_a_table_charges_nothing_for_what_is_within_another_kernel(tmp_path: Path) -> None:
    network = Network("made", _SHAPE, "made")
    _sigmoid_times_itself(network)
    path = write_network(network, "tflite", tmp_path, quantized=True)
    made = Observation("made", "made", GraphView(read_graph(path)), 1.0)
    (shape,) = (shape for shape in made.shapes if shape is not None)
    rows = KernelRows(
        lengths=(1.0,) * len(shape.features), spread=0.3, rows=((*shape.features, 2.0),)
    )
    table = KernelTable(offset=1.5, kernels={"lookup": rows})
    found = factors(made.view, made.loads, [table] * 2)
    assert [round(one.value, 1) for one in found] == [2.0, 0.0]
    assert made.view.free == frozenset()  # other processors compute both
