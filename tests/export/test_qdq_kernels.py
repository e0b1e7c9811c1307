"""After the rewrites ONNX Runtime computes in integers, and what the graph meant before."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.export.qdq import refine
from edgekit.runtimes.metadata import IoRecord
from edgekit.schema.artifact import TensorInfo

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
helper = onnx.helper

SHAPE = (1, 3, 6, 6)
INT8 = onnx.TensorProto.INT8
Grid = tuple[float, int]


class Quantized:
    """A quantize-dequantize model under construction, int8, channels first."""

    def __init__(self, grid: Grid = (0.05, -128), shape: tuple[int, ...] = SHAPE) -> None:
        self.shape = shape
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.x = self.node("DequantizeLinear", ["x", *self.grid(grid)])

    def constant(self, value: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.asarray(value), name))
        return name

    def grid(self, grid: Grid) -> list[str]:
        return [self.constant(np.float32(grid[0])), self.constant(np.int8(grid[1]))]

    def node(self, op: str, inputs: list[str], **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    def rounded(self, name: str, grid: Grid) -> str:
        """Integers on a grid, and what they stand for."""
        return self.node("DequantizeLinear", [self.codes(name, grid), *self.grid(grid)])

    def codes(self, name: str, grid: Grid) -> str:
        return self.node("QuantizeLinear", [name, *self.grid(grid)])

    def stored(self, codes: np.ndarray, grid: Grid) -> str:
        return self.node("DequantizeLinear", [self.constant(codes), *self.grid(grid)])

    def conv(self, name: str, **attributes: Any) -> str:
        random = np.random.default_rng(0)
        weights = self.stored(random.integers(-127, 128, (3, 3, 3, 3)).astype(np.int8), (0.01, 0))
        return self.node("Conv", [name, weights], **attributes)

    def model(self, name: str, grid: Grid, shape: tuple[int, ...]) -> tuple[Any, IoRecord]:
        self.nodes.append(helper.make_node("QuantizeLinear", [name, *self.grid(grid)], ["y"]))
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("x", INT8, self.shape)],
            [helper.make_tensor_value_info("y", INT8, shape)],
            self.constants,
        )
        opset = helper.make_opsetid("", 18)
        made = helper.make_model(graph, opset_imports=[opset], ir_version=8)
        onnx.checker.check_model(made, full_check=True)
        record = IoRecord(
            inputs=(TensorInfo(name="x", shape=self.shape, dtype="int8"),),
            outputs=(TensorInfo(name="y", shape=shape, dtype="int8"),),
        )
        return made, record


def run(model: Any, x: np.ndarray, *, optimize: bool = False) -> np.ndarray:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options)
    return np.asarray(session.run(None, {"x": x})[0])


def kernels(model: Any) -> list[str]:
    """What ONNX Runtime computes; of quantize and dequantize nodes those of x and y are left."""
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        ort.InferenceSession(model.SerializeToString(), options)
        nodes = onnx.load(options.optimized_model_filepath).graph.node
    found = [node.op_type for node in nodes]
    for op in ("DequantizeLinear", "QuantizeLinear"):
        for _ in range(2):
            found.remove(op)
    return [op for op in found if op != "Transpose"]


def refined(model: Any, record: IoRecord) -> Any:
    made = onnx.ModelProto()
    made.CopyFrom(model)
    refine(made, record)
    onnx.checker.check_model(made, full_check=True)
    return made


def samples(seed: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)


def ops(model: Any) -> list[str]:
    return [node.op_type for node in model.graph.node]


@settings(max_examples=20, deadline=None)
@given(
    op=st.sampled_from(["Add", "Mul"]),
    seed=st.integers(0, 1000),
    zeros=st.tuples(*[st.integers(-128, 127)] * 3),
    alone=st.booleans(),
)
def test_constants_of_sums_and_products_have_the_activations_type(
    op: str, seed: int, zeros: tuple[int, ...], alone: bool
) -> None:
    drawn = Quantized((0.05, zeros[0]))
    row = np.random.default_rng(seed).integers(-128, 128, (3, 1, 1)).astype(np.int8)
    constant = drawn.stored(row, (0.03, zeros[1]))
    name = drawn.node(op, [drawn.x, constant])
    if not alone:  # another reader, which is not to see another constant
        name = drawn.node("Sub", [drawn.rounded(name, (0.1, zeros[2])), constant])
    model, record = drawn.model(name, (0.1, zeros[2]), SHAPE)
    made = refined(model, record)
    x = samples(seed)
    np.testing.assert_array_equal(run(made, x), run(model, x))
    assert f"QLinear{op}" in kernels(made)
    stored = {value.data_type for value in made.graph.initializer if value.dims}
    assert stored == ({onnx.TensorProto.UINT8} if alone else {onnx.TensorProto.UINT8, INT8})


@pytest.mark.parametrize("op", ["Add", "Mul"])
@pytest.mark.parametrize("grid", [(0.05, -3, 0.02), (0.011, -128, 0.004), (0.3, 40, 0.17)])
def test_sums_and_products_of_all_pairs_of_integers(
    op: str, grid: tuple[float, int, float]
) -> None:
    """The kernel multiplies by a reciprocal where the graph divides: near ties may be ties."""
    every = np.arange(-128, 128, dtype=np.int8)
    shape = (1, 256, 16, 16)
    drawn = Quantized(grid[:2], shape)
    constant = drawn.stored(every.reshape(256, 1, 1), (grid[2], 7))
    most = (256 * grid[0]) * (256 * grid[2]) if op == "Mul" else 256 * (grid[0] + grid[2])
    model, record = drawn.model(drawn.node(op, [drawn.x, constant]), (most / 265.83, 5), shape)
    made = refined(model, record)
    assert kernels(made) == [f"QLinear{op}"]
    x = np.broadcast_to(every.reshape(16, 16), shape).copy()
    apart = run(made, x, optimize=True).astype(int) - run(model, x)
    assert np.abs(apart).max() <= 1
    assert np.count_nonzero(apart) <= 4


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), zeros=st.tuples(*[st.integers(-128, 127)] * 2))
@pytest.mark.parametrize("same_scale", [True, False])
def test_means_that_keep_their_axes_become_the_integer_pooling(
    seed: int, zeros: tuple[int, int], same_scale: bool
) -> None:
    """As in a squeeze and excitation block, where the image is read a second time."""
    first = (0.05, zeros[0])
    second = first if same_scale else (0.03, zeros[1])
    drawn = Quantized(first)
    axes = drawn.constant(np.array([2, -1]))
    mean = drawn.rounded(drawn.node("ReduceMean", [drawn.x, axes], keepdims=1), second)
    model, record = drawn.model(drawn.node("Mul", [drawn.x, mean]), (0.1, 3), SHAPE)
    made = refined(model, record)
    assert "ReduceMean" not in ops(made)
    assert kernels(made) == ["QLinearGlobalAveragePool", "QLinearMul"]
    x = samples(seed)
    for optimize in (False, True):
        # Halves of means of the same scale go the other way than ONNX says: away from zero.
        apart = run(made, x, optimize=optimize).astype(int) - run(model, x)
        assert np.abs(apart).max() <= 1 + 255 * 0.05 * 0.05 / 0.1


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 1000),
    zero=st.integers(-127, 100),
    bounds=st.sampled_from([("Relu",), ("Clip", 0.0, 6.0), ("Clip", -1.0, 0.7), ("Clip", 0.5)]),
)
def test_what_the_grid_does_not_saturate_is_clipped_in_integers(
    seed: int, zero: int, bounds: tuple[Any, ...]
) -> None:
    op, *limits = bounds
    drawn = Quantized()
    limits = [drawn.constant(np.float32(limit)) for limit in limits]
    name = drawn.node(op, [drawn.conv(drawn.x), *limits])
    model, record = drawn.model(name, (0.031, zero), (1, 3, 4, 4))
    made = refined(model, record)
    assert "Relu" not in ops(made)
    assert kernels(made) == ["QLinearConv", "Clip"]
    x = samples(seed)
    np.testing.assert_array_equal(run(made, x), run(model, x))
    assert np.abs(run(made, x, optimize=True).astype(int) - run(model, x)).max() <= 1


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 1000),
    zero=st.sampled_from([-128, -127, -20, 0, 126, 127]),
    value=st.sampled_from([0.0, 0.4, -100.0]),
    ends=st.lists(st.integers(0, 2), min_size=4, max_size=4),
    reader=st.sampled_from(["Conv", "MaxPool", "Neg"]),
    rectified=st.booleans(),
)
def test_padding_is_of_integers_or_left_to_the_layer(
    seed: int, zero: int, value: float, ends: list[int], reader: str, rectified: bool
) -> None:
    grid = (0.05, zero)
    drawn = Quantized(grid)
    image = drawn.rounded(drawn.node("Relu", [drawn.x]), grid) if rectified else drawn.x
    pads = drawn.constant(np.array([0, 0, *ends[:2], 0, 0, *ends[2:]]))
    padded = drawn.node("Pad", [image, pads, drawn.constant(np.float32(value))])
    name = drawn.rounded(padded, grid)
    high, wide = (6 + ends[axis] + ends[axis + 2] for axis in (0, 1))
    if reader == "Conv":
        name = drawn.conv(name, pads=[1, 0, 1, 0])
        wide -= 2
    elif reader == "MaxPool":
        name = drawn.node("MaxPool", [name], kernel_shape=[3, 3], pads=[0, 0, 1, 1])
        high, wide = high - 1, wide - 1
    else:
        name = drawn.node("Neg", [name])
    model, record = drawn.model(name, (0.06, 4), (1, 3, high, wide))
    made = refined(model, record)
    x = samples(seed)
    np.testing.assert_array_equal(run(made, x), run(model, x))
    fill = min(max(round(value / 0.05) + zero, -128), 127)
    least = fill <= (zero if rectified else -128)
    left = {"Conv": fill == zero, "MaxPool": least, "Neg": False}[reader]
    if reader == "MaxPool" and max(ends[0], ends[1], ends[2] + 1, ends[3] + 1) > 2:
        left = False  # windows of nothing but padding
    assert ("Pad" in ops(made)) == (not left)
    if reader == "Conv":
        assert [op for op in kernels(made) if op not in ("Pad", "Clip")] == ["QLinearConv"]


def test_what_only_moves_integers_keeps_its_type() -> None:
    drawn = Quantized()
    pads = drawn.constant(np.array([0, 0, 1, 1, 0, 0, 1, 1]))
    model, record = drawn.model(drawn.node("Pad", [drawn.x, pads]), (0.05, -128), (1, 3, 8, 8))
    made = refined(model, record)
    assert ops(made) == ["Pad"]
    np.testing.assert_array_equal(run(made, samples(0)), run(model, samples(0)))
