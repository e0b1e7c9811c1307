from __future__ import annotations

from dataclasses import replace

import pytest

from edgekit.graph.types import OpClass
from edgekit.profiling.view import GraphView
from tests.profiling.graphs import GraphMaker, small_cnn


@pytest.mark.parametrize(
    ("dtype", "word"),
    [("int8", "int8"), ("uint8", "int8"), ("float32", "fp32"), ("int16", "int16x8")],
)
def test_the_precision_of_a_file(dtype: str, word: str) -> None:
    assert GraphView(small_cnn(dtype).graph()).precision == word


@pytest.mark.parametrize(
    ("stored", "word"),
    [
        ("int8", "int8-dynamic"),
        ("int4", "int4-weight"),
        ("float16", "fp16"),
        ("float32", "fp32"),
    ],
)
def test_float_activations_with_other_weights(stored: str, word: str) -> None:
    make = GraphMaker((1, 8), "float32")
    make.op("FULLY_CONNECTED", "dense", (1, 4), weights=((4, 8),), dtype="float32",
            weight_dtype=stored, macs=32)  # fmt: skip
    assert GraphView(make.graph()).precision == word


def test_weights_that_pass_through_a_dequantize() -> None:
    make = GraphMaker((1, 8), "float32")
    half = make.tensor((4, 8), "float16", constant=True)
    make.op("DEQUANTIZE", "quantize", (4, 8), dtype="float32", source=half)
    full = make.ops[0].outputs[0]
    make.op("FULLY_CONNECTED", "dense", (1, 4), dtype="float32", source=0, macs=32)
    dense = make.ops[1]
    make.ops[1] = type(dense)(dense.index, dense.name, dense.kind, dense.layer, (0, full),
                              dense.outputs, {}, dense.macs)  # fmt: skip
    view = GraphView(make.graph())
    assert view.precision == "fp16"
    assert view.free == {0}


def test_layers_of_different_precision_are_mixed() -> None:
    make = GraphMaker((1, 8), "float32")
    make.op("FULLY_CONNECTED", "dense", (1, 8), weights=((8, 8),), dtype="float32", macs=64)
    make.op("FULLY_CONNECTED", "dense", (1, 8), weights=((8, 8),), dtype="float32",
            weight_dtype="int8", macs=64)  # fmt: skip
    assert GraphView(make.graph()).precision == "mixed"


def test_onnx_operators_fuse_into_the_convolution_before_them() -> None:
    make = GraphMaker((1, 3, 8, 8), "float32", file_format="onnx")
    make.op("Conv", "conv", (1, 4, 8, 8), weights=((4, 3, 3, 3),), dtype="float32", macs=6912)
    make.op("BatchNormalization", "normalization", (1, 4, 8, 8), weights=((4,),), dtype="float32")
    relu = make.op("Relu", "activation", (1, 4, 8, 8), dtype="float32")
    make.op("Sigmoid", "activation", (1, 4, 8, 8), dtype="float32")
    make.op("Softmax", "activation", (1, 4, 8, 8), dtype="float32", source=relu)
    view = GraphView(make.graph())
    assert view.free == {1, 2}, "the last two share their input, so neither can be fused"
    assert GraphView(make.graph(), for_accelerator=True).free == {1, 2}


@pytest.mark.parametrize(
    ("name", "kind", "fused"),
    [
        ("Softmax", "activation", False), ("LayerNormalization", "normalization", False),
        ("Gelu", "activation", True), ("BatchNormalization", "normalization", True),
    ],
)  # fmt: skip
def test_an_accelerator_fuses_what_computes_each_value_from_one(
    name: str, kind: OpClass, fused: bool
) -> None:
    make = GraphMaker((1, 12, 197, 64), "float16", file_format="onnx")
    make.op("MatMul", "matmul", (1, 12, 197, 197), dtype="float16", macs=12 * 197 * 197 * 64)
    make.op(name, kind, (1, 12, 197, 197), dtype="float16")
    assert GraphView(make.graph(), for_accelerator=True).free == ({1} if fused else set())


@pytest.mark.parametrize("other_reader", [False, True])
def test_silu_in_two_onnx_operators_is_one(*, other_reader: bool) -> None:
    make = GraphMaker((1, 3, 8, 8), "float32", file_format="onnx")
    conv = make.op("Conv", "conv", (1, 4, 8, 8), weights=((4, 3, 3, 3),), dtype="float32",
                   macs=6912)  # fmt: skip
    make.op("Sigmoid", "activation", (1, 4, 8, 8), dtype="float32")
    make.op("Mul", "elementwise", (1, 4, 8, 8), dtype="float32")
    make.ops[-1] = replace(make.ops[-1], inputs=(*make.ops[-1].inputs, conv))
    make.op("Relu", "activation", (1, 4, 8, 8), dtype="float32")
    if other_reader:
        make.op("Neg", "elementwise", (1, 4, 8, 8), dtype="float32", source=conv)
    view = GraphView(make.graph())
    assert view.free == {1}
    assert view.fusion.names == {2: "QuickGelu"}


@pytest.mark.parametrize("other_reader", [False, True])
def test_an_activation_in_parts_is_one_function_in_openvino(*, other_reader: bool) -> None:
    make = GraphMaker((1, 3, 8, 8), "float32", file_format="openvino")
    shape = (1, 4, 8, 8)
    conv = make.op("Convolution", "conv", shape, weights=((4, 3, 3, 3),), dtype="float32",
                   macs=6912)  # fmt: skip
    make.op("Add", "elementwise", shape, weights=((1,),), dtype="float32")
    make.op("Clamp", "activation", shape, dtype="float32")
    make.op("Divide", "elementwise", shape, weights=((1,),), dtype="float32")
    make.op("Multiply", "elementwise", shape, dtype="float32")
    make.ops[-1] = replace(make.ops[-1], inputs=(*make.ops[-1].inputs, conv))
    make.op("MaxPool", "pool", (1, 4, 4, 4), dtype="float32")
    if other_reader:
        make.op("MaxPool", "pool", (1, 4, 4, 4), dtype="float32", source=conv)
    # Else it is a kernel of its own.
    assert GraphView(make.graph()).free == ({2, 3, 4} if other_reader else {1, 2, 3, 4})


@pytest.mark.parametrize("reader", ["Conv", "Concat"])
def test_a_padding_is_part_of_the_convolution_after_it(reader: str) -> None:
    make = GraphMaker((1, 3, 8, 8), "float32", file_format="onnx")
    make.op("Pad", "data", (1, 3, 10, 10), dtype="float32")
    if reader == "Conv":
        make.op("Conv", "conv", (1, 4, 8, 8), weights=((4, 3, 3, 3),), dtype="float32", macs=6912)
    else:
        make.op("Concat", "data", (1, 3, 10, 10), dtype="float32")
    assert GraphView(make.graph()).free == ({0} if reader == "Conv" else frozenset())


def test_tflite_operators_come_fused() -> None:
    make = GraphMaker((1, 8, 8, 3), "float32")
    make.op("CONV_2D", "conv", (1, 8, 8, 4), weights=((4, 3, 3, 3),), dtype="float32", macs=6912)
    make.op("HARD_SWISH", "activation", (1, 8, 8, 4), dtype="float32")
    assert GraphView(make.graph()).free == frozenset()
