"""The parts of int8 by ONNX Runtime's quantizer, on graphs written by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.export.integer_nodes import IntegerNodes, integer_nodes, keep_floats
from edgekit.export.native import quantize_onnx
from edgekit.export.onnx_biases import correct_biases
from edgekit.export.onnx_ranges import activation_ranges

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
helper = onnx.helper

RANDOM = np.random.default_rng(0)
KERNEL = RANDOM.normal(0, 0.5, (4, 2, 3, 3)).astype(np.float32)
DENSE = RANDOM.normal(0, 0.5, (4, 4)).astype(np.float32)
BIAS = RANDOM.normal(0, 0.5, 4).astype(np.float32)
WORDS = RANDOM.normal(0, 1, (64, 5, 4)).astype(np.float32)
IMAGES = RANDOM.normal(0, 1, (64, 2, 6, 6)).astype(np.float32)


def graph(nodes: list[Any], shape: tuple[int, ...], output: str, **constants: Any) -> Any:
    """A model of one float input "x" whose nodes are named as what they make."""
    for node in nodes:
        node.name = node.output[0]
    made = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", 1, ["batch", *shape])],
        [helper.make_tensor_value_info(output, 1, None)],
        [onnx.numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def convolutions() -> Any:
    """Two of them, added, pooled, and a classifier."""
    nodes = [
        helper.make_node("Conv", ["x", "k", "b"], ["first"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["first"], ["active"]),
        helper.make_node("Conv", ["x", "k2", "b"], ["second"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["active", "second"], ["sum"]),
        helper.make_node("GlobalAveragePool", ["sum"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b2"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["y"]),
    ]
    return graph(nodes, (2, 6, 6), "y", k=KERNEL, k2=-KERNEL, b=BIAS, w=DENSE, b2=BIAS * 1)


def attention() -> Any:
    """A dense layer with a residual around it, attention to itself, and an output layer."""
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["dense"]),
        helper.make_node("Add", ["dense", "b1"], ["biased"]),
        helper.make_node("Tanh", ["biased"], ["active"]),
        helper.make_node("Add", ["x", "active"], ["residual"]),
        helper.make_node("Transpose", ["residual"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["residual", "turned"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["shares"]),
        helper.make_node("MatMul", ["shares", "residual"], ["mixed"]),
        helper.make_node("MatMul", ["mixed", "w2"], ["y"]),
    ]
    return graph(nodes, (5, 4), "y", w1=DENSE, b1=BIAS, w2=DENSE * 1)


def run(model: Any, x: Any) -> Any:
    session = runtime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": x})[0]


def snr(model: Any, reference: Any, x: Any) -> float:
    wanted = run(reference, x).astype(np.float64)
    return float(10 * np.log10(np.sum(wanted**2) / np.sum((wanted - run(model, x)) ** 2)))


def quantized(tmp_path: Any, model: Any, x: Any, **options: Any) -> Any:
    onnx.save(model, tmp_path / "float.onnx")
    np.savez(tmp_path / "samples.npz", x=x)
    quantize_onnx(
        source=str(tmp_path / "float.onnx"),
        output=str(tmp_path / "int8.onnx"),
        calibration_file=str(tmp_path / "samples.npz"),
        samples=None,
        **options,
    )
    return onnx.load(tmp_path / "int8.onnx")


def fused(model: Any, tmp_path: Any) -> list[str]:
    """The operators that ONNX Runtime runs."""
    options = runtime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]


def test_convolutions_and_what_is_between_them_make_integers_but_the_last_layer_floats() -> None:
    chosen = integer_nodes(convolutions())
    inner = {"first", "active", "second", "sum", "pooled", "flat"}
    assert chosen == IntegerNodes(frozenset(inner | {"logits"}), frozenset(inner))


def test_attention_rounds_only_what_its_products_take() -> None:
    chosen = integer_nodes(attention())
    assert chosen.names == {"dense", "scores", "mixed", "y"}
    assert chosen.makers == {"mixed"}  # read by a layer alone, which rounds it anyway


def test_a_dense_layer_before_another_is_rounded_with_its_activation() -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["first"]),
        helper.make_node("Relu", ["first"], ["active"]),
        helper.make_node("Gemm", ["active", "w", "b"], ["y"]),
    ]
    chosen = integer_nodes(graph(nodes, (4,), "y", w=DENSE, b=BIAS))
    assert chosen.makers == {"first", "active"}
    assert chosen.names == {"first", "active", "y"}


def test_a_tensor_that_a_graph_inside_a_node_reads_stays_float() -> None:
    inside = helper.make_graph(
        [helper.make_node("Identity", ["first"], ["seen"])],
        "inside",
        [],
        [helper.make_tensor_value_info("seen", 1, None)],
    )
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["first"]),
        helper.make_node("Gemm", ["first", "w", "b"], ["second"]),
        helper.make_node("If", ["yes"], ["chosen"], then_branch=inside, else_branch=inside),
        helper.make_node("Add", ["second", "chosen"], ["y"]),
    ]
    model = graph(nodes, (4,), "y", w=DENSE, b=BIAS, yes=np.array(True))
    assert "first" not in integer_nodes(model).makers


@pytest.mark.parametrize(("make", "x"), [(convolutions, IMAGES), (attention, WORDS)])
def test_the_file_computes_the_float_network_with_outputs_that_are_not_rounded(
    tmp_path: Any, make: Any, x: Any
) -> None:
    model = make()
    made = quantized(tmp_path, model, x)
    onnx.checker.check_model(made)
    assert snr(made, model, x) > 25
    makers = {name: node for node in made.graph.node for name in node.output}
    assert makers["y"].op_type == model.graph.node[-1].op_type
    assert [value.name for value in made.graph.output] == ["y"]


def test_the_runtime_computes_each_layer_in_integers(tmp_path: Any) -> None:
    found = fused(quantized(tmp_path, convolutions(), IMAGES), tmp_path)
    assert found.count("QLinearConv") == 2
    assert {"QLinearAdd", "QLinearGlobalAveragePool", "QGemm"} <= set(found)
    assert not {"Conv", "Gemm", "Add"} & set(found)
    found = fused(quantized(tmp_path, attention(), WORDS), tmp_path)
    assert "MatMul" not in found
    assert found.count("MatMulIntegerToFloat") + found.count("QLinearMatMul") == 4
    assert found.count("Softmax") == 1


def test_floats_are_read_as_they_are_where_integers_are_not_needed() -> None:
    nodes = [
        helper.make_node("Tanh", ["x"], ["real"]),
        helper.make_node("QuantizeLinear", ["real", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["rounded"]),
        helper.make_node("MatMul", ["rounded", "w"], ["layer"]),
        helper.make_node("Add", ["layer", "rounded"], ["y"]),
    ]
    scale, zero = np.float32(1 / 127), np.uint8(127)
    model = graph(nodes, (4,), "y", w=DENSE, s=scale, z=zero)
    keep_floats(model, IntegerNodes(frozenset({"layer"}), frozenset()))
    read = {node.name: list(node.input) for node in model.graph.node}
    assert read["layer"] == ["rounded", "w"]
    assert read["y"] == ["layer", "real"]


def test_rounding_that_no_one_needs_goes_and_an_output_keeps_its_name() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["real"]),
        helper.make_node("QuantizeLinear", ["real", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    model = graph(nodes, (4,), "y", w=DENSE, s=np.float32(0.1), z=np.uint8(127))
    keep_floats(model, IntegerNodes(frozenset({"real"}), frozenset()))
    assert [(node.op_type, list(node.output)) for node in model.graph.node] == [("MatMul", ["y"])]
    assert {value.name for value in model.graph.initializer} == {"w"}
    x = WORDS[0]
    np.testing.assert_allclose(run(model, x), x @ DENSE, rtol=1e-5)


def test_ranges_are_those_of_the_samples_or_leave_an_outlier_out() -> None:
    x = WORDS.copy()
    x[0, 0, 0] = 50
    samples = [{"x": x[:32]}, {"x": x[32:]}]
    whole = activation_ranges(attention(), {"dense"}, samples, "minmax", 99.99)
    assert set(whole) == {"x", "dense"}
    assert whole["x"] == pytest.approx((float(x.min()), 50.0))
    product = x @ DENSE
    assert whole["dense"] == pytest.approx((product.min(), product.max()), rel=1e-5)
    cut = activation_ranges(attention(), {"dense"}, samples, "percentile", 99.0)
    assert cut["x"][1] < 5


def test_the_plan_s_ranges_are_in_the_file(tmp_path: Any) -> None:
    x = IMAGES.copy()
    x[0, 0, 0, 0] = 50
    steps = {}
    for how in ("minmax", "percentile"):
        made = quantized(tmp_path, convolutions(), x, calibration=how, percentile=99.0)
        constants = {v.name: onnx.numpy_helper.to_array(v) for v in made.graph.initializer}
        (node,) = (n for n in made.graph.node if "x" in n.input)
        steps[how] = float(constants[node.input[1]])
    assert steps["minmax"] == pytest.approx((50 - x.min()) / 255, rel=1e-4)
    assert steps["percentile"] < steps["minmax"] / 5


@pytest.mark.parametrize(("make", "x"), [(convolutions, IMAGES), (attention, WORDS)])
def test_corrected_biases_bring_the_means_of_layers_back(make: Any, x: Any) -> None:
    """Weights shifted by a few steps stand for an unlucky rounding."""
    model = make()
    name = "k" if make is convolutions else "w1"
    shifted = onnx.ModelProto()
    shifted.CopyFrom(model)
    weights = {value.name: value for value in shifted.graph.initializer}
    exact = onnx.numpy_helper.to_array(weights[name])
    scale = np.float32(np.abs(exact).max() / 127)
    codes = np.clip(np.rint(exact / scale) + 3, -127, 127).astype(np.int8)
    shifted.graph.initializer.remove(weights[name])
    for key, value in {"codes": codes, "step": scale}.items():
        shifted.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), key))
    shifted.graph.node.insert(0, helper.make_node("DequantizeLinear", ["codes", "step"], [name]))
    x = np.abs(x)  # of a mean that the shift does not cancel
    before = snr(shifted, model, x)
    # One bias for two layers in the graph of convolutions: it has to stay.
    if name == "k":
        assert correct_biases(shifted, model, [{"x": x}]) == 0
        own = onnx.numpy_helper.from_array(BIAS, "own")
        shifted.graph.initializer.append(own)
        next(n for n in shifted.graph.node if n.name == "second").input[2] = "own"
    assert correct_biases(shifted, model, [{"x": x[:40]}, {"x": x[40:]}]) > 0
    assert snr(shifted, model, x) > before + 3


def test_layers_whose_weights_were_rounded_before_keep_their_biases(tmp_path: Any) -> None:
    scale = np.abs(DENSE).max(0) / 127
    model = attention()
    for value in model.graph.initializer:
        if value.name in ("w1", "w2"):
            grid = (np.rint(DENSE / scale) * scale).astype(np.float32)
            value.CopyFrom(onnx.numpy_helper.from_array(grid, value.name))
    made = quantized(tmp_path, model, np.abs(WORDS))
    held = {value.name: onnx.numpy_helper.to_array(value) for value in made.graph.initializer}
    assert np.array_equal(held["b1"], BIAS)
