"""The ONNX rewrites keep the meaning, checked in ONNX Runtime without its own optimizations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.runtimes.metadata import IoRecord
from edgekit.schema.artifact import TensorInfo

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

SHAPE = (1, 2, 4, 4)


def model(
    body: list[tuple[str, dict[str, Any]]],
    grids: list[tuple[float, int]],
    out_shape: tuple[int, ...],
) -> tuple[Any, IoRecord]:
    """int8 x, DequantizeLinear, body[0], QuantizeLinear, DequantizeLinear, body[1], ... int8 y."""
    nodes, constants = [], []
    name = "x"
    for index, (scale, zero) in enumerate(grids):
        for key, value in (("s", np.float32(scale)), ("z", np.int8(zero))):
            constants.append(onnx.numpy_helper.from_array(np.array(value), f"{key}{index}"))
        if index > 0:
            last = index == len(grids) - 1
            nodes.append(
                onnx.helper.make_node(
                    "QuantizeLinear",
                    [name, f"s{index}", f"z{index}"],
                    ["y" if last else f"q{index}"],
                )
            )
            name = f"q{index}"
        if index < len(body):
            nodes.append(
                onnx.helper.make_node(
                    "DequantizeLinear", [name, f"s{index}", f"z{index}"], [f"d{index}"]
                )
            )
            op, attributes = body[index]
            nodes.append(onnx.helper.make_node(op, [f"d{index}"], [f"b{index}"], **attributes))
            name = f"b{index}"
    int8 = onnx.TensorProto.INT8
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [onnx.helper.make_tensor_value_info("x", int8, SHAPE)],
        [onnx.helper.make_tensor_value_info("y", int8, out_shape)],
        constants,
    )
    opset = onnx.helper.make_opsetid("", 18)
    record = IoRecord(
        inputs=(TensorInfo(name="x", shape=SHAPE, dtype="int8"),),
        outputs=(TensorInfo(name="y", shape=out_shape, dtype="int8"),),
    )
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), record


def run(made: Any, x: np.ndarray, *, optimize: bool = False) -> np.ndarray:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(made.SerializeToString(), options)
    return np.asarray(session.run(None, {"x": x})[0])


def ops(made: Any) -> list[str]:
    return [node.op_type for node in made.graph.node]


def samples(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-128, 128, SHAPE).astype(np.int8)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    zeros=st.tuples(*[st.integers(-128, 127)] * 3),
    scales=st.tuples(*[st.sampled_from([0.25, 0.1, 0.007])] * 3),
    op=st.sampled_from(["Relu", "Neg", "Sigmoid", "Abs"]),
)
def test_uint8_inside_means_the_same(
    seed: int, zeros: tuple[int, ...], scales: tuple[float, ...], op: str
) -> None:
    from edgekit.export.qdq import refine

    made, record = model(
        [(op, {}), ("Transpose", {"perm": [0, 1, 3, 2]})],
        list(zip(scales, zeros, strict=True)),
        SHAPE,
    )
    x = samples(seed)
    before = run(made, x)
    refine(made, record)
    onnx.checker.check_model(made, full_check=True)
    inside = {i.name: i.data_type for i in made.graph.initializer}
    assert onnx.TensorProto.UINT8 in inside.values()
    np.testing.assert_array_equal(run(made, x), before)
    # ONNX Runtime's fused kernels multiply by the reciprocal of a step, which turns ties.
    apart = run(made, x, optimize=True).astype(int) - before
    assert np.abs(apart).max() <= 1


@pytest.mark.parametrize(("zero", "dropped"), [(-128, True), (-100, False)])
def test_a_relu_goes_without_a_trace_only_where_the_quantization_saturates_at_zero(
    zero: int, dropped: bool
) -> None:
    from edgekit.export.qdq import refine

    made, record = model([("Relu", {})], [(0.1, 5), (0.1, zero)], SHAPE)
    x = samples(0)
    before = run(made, x)
    refine(made, record)
    assert "Relu" not in ops(made)
    assert ("Clip" not in ops(made)) == dropped
    np.testing.assert_array_equal(run(made, x), before)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), zero=st.integers(-128, 127))
def test_averages_round_as_tflite_does(seed: int, zero: int) -> None:
    """TFLite's reference kernel: the integer sum, divided, halves away from the integer zero."""
    from edgekit.export.qdq import refine

    made, record = model(
        [("AveragePool", {"kernel_shape": [4, 4]})], [(0.05, zero), (0.05, zero)], (1, 2, 1, 1)
    )
    refine(made, record)
    x = samples(seed)
    x[0, 0] = 0
    x[0, 0].flat[:8] = 1 if seed % 2 else -1  # 8 of 16: exactly a half
    total = x.astype(int).sum(axis=(2, 3), keepdims=True)
    wanted = np.sign(total) * ((np.abs(total) + 8) // 16)
    for optimize in (False, True):
        np.testing.assert_array_equal(run(made, x, optimize=optimize), wanted)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), zeros=st.tuples(*[st.integers(-128, 127)] * 2))
@pytest.mark.parametrize("same_scale", [True, False])
@pytest.mark.parametrize("channels_last", [True, False])
def test_means_over_an_image_become_the_integer_pooling(
    seed: int, zeros: tuple[int, int], same_scale: bool, channels_last: bool
) -> None:
    from edgekit.export.qdq import refine

    first = (0.05, zeros[0])
    made, record = model(
        [("ReduceMean", {"keepdims": 0})],
        [first, first if same_scale else (0.03, zeros[1])],
        (1, 2),
    )
    nodes = made.graph.node
    nodes[1].input.append("axes")
    axes = np.array([1, 2] if channels_last else [2, 3])
    made.graph.initializer.append(onnx.numpy_helper.from_array(axes, "axes"))
    order = [0, 2, 3, 1] if channels_last else [0, 1, 2, 3]
    nodes.insert(0, onnx.helper.make_node("Transpose", ["x"], ["moved"], perm=order))
    nodes[1].input[0] = "moved"
    onnx.checker.check_model(made, full_check=True)
    x = samples(seed)
    before = run(made, x)
    refine(made, record)
    onnx.checker.check_model(made, full_check=True)
    assert "GlobalAveragePool" in ops(made)
    assert not {"ReduceMean", "Transpose"} & set(ops(made))
    for optimize in (False, True):
        # Halves go the other way than ONNX says: away from zero.
        assert np.abs(run(made, x, optimize=optimize).astype(int) - before).max() <= 1
    if same_scale:
        np.testing.assert_array_equal(run(made, x), run(made, x, optimize=True))


def test_a_model_that_computes_with_integers_keeps_int8() -> None:
    from edgekit.export.qdq import refine

    made, record = model([("Relu", {})], [(0.1, 0), (0.1, 0)], SHAPE)
    made.graph.node[-1].output[0] = "inner"
    made.graph.node.append(onnx.helper.make_node("Max", ["inner", "inner"], ["y"]))
    x = samples(1)
    before = run(made, x)
    refine(made, record)
    assert not any(i.data_type == onnx.TensorProto.UINT8 for i in made.graph.initializer)
    np.testing.assert_array_equal(run(made, x), before)
