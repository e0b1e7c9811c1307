"""Vendors' restrictions: the limits that they publish, from both sides."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.graph.types import Tensor
from edgekit.schema.quantization import Quantization
from tests.profiling.graphs import GraphMaker
from tests.profiling.rule_cases import broken, convolution, quantized


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 9000), st.integers(1, 9000))
def test_the_dpus_limits(height: int, width: int, inputs: int, outputs: int) -> None:
    """Table 1 of UG1414, DPUCZDX8G_ISA1_B4096."""
    found = set(broken(convolution((height, width), (inputs, outputs)), "dpu"))
    assert ("kernel_size" in found) == (height > 16 or width > 16)
    assert ("weight_bank" in found) == (height * width * -(-inputs // 16) > 2048)
    assert ("output_channels" in found) == (outputs > 4096)
    assert ("full_lanes" in found) == (outputs % 16 != 0)


@given(st.integers(1, 16), st.integers(1, 16), st.integers(1, 4096))
def test_the_dpus_weight_banks_limit_no_depthwise_convolution(
    height: int, width: int, channels: int
) -> None:
    """EfficientNet-EdgeTPU's widest are 5x5 with 1,856 channels, and its times show no CPU."""
    make = convolution((height, width), (channels, channels), name="DEPTHWISE_CONV_2D")
    assert not {"weight_bank", "kernel_size", "output_channels"} & set(broken(make, "dpu"))


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 4), st.integers(1, 5000))
def test_the_dpus_strides_and_dilation(down: int, across: int, dilation: int, inputs: int) -> None:
    make = convolution(
        (3, 3), (inputs, 16), stride_h=down, stride_w=across, dilation_h_factor=dilation,
        dilation_w_factor=1,
    )  # fmt: skip
    found = set(broken(make, "dpu"))
    assert ("strides" in found) == (max(down, across) > 8)
    assert ("dilated_channels" in found) == (dilation > 1 and dilation * inputs > 4096)


@given(st.integers(-40, 10), st.integers(-128, 127))
def test_the_dpu_takes_powers_of_two_without_a_zero_point(exponent: int, zero_point: int) -> None:
    make = quantized(convolution(), 0, 2.0**exponent, zero_point)
    assert ("power_of_two_scales" in broken(make, "dpu")) == (zero_point != 0)
    make = quantized(convolution(), 0, 1.01 * 2.0**exponent)
    finding = broken(make, "dpu")["power_of_two_scales"]
    assert finding.severity == "requantized"


@given(st.integers(1, 300), st.integers(1, 300))
def test_hls4mls_reuse_factor(inputs: int, outputs: int) -> None:
    make = GraphMaker((1, inputs), "int8", file_format="onnx")
    make.op("Gemm", "dense", (1, outputs), weights=((outputs, inputs),))
    found = broken(make, "hls4ml").get("unrolled_multiplications")
    assert (found is not None) == (inputs * outputs > 4096)
    if found:
        reuse = int(found.found.rsplit(" ", 1)[1])
        assert (reuse - 1) * 4096 < inputs * outputs <= reuse * 4096


def test_hls4ml_streams_large_maps() -> None:
    make = GraphMaker((1, 1, 65, 65), "int8", file_format="onnx")
    make.op("Relu", "activation", (1, 1, 65, 65))
    assert broken(make, "hls4ml")["parallel_maps"].severity == "slow"


@pytest.mark.parametrize(
    ("name", "kind", "before", "after", "more", "rule"),
    [
        ("Exp", "elementwise", (1, 4), (1, 4), {}, "operator"),
        ("ConvTranspose", "conv", (1, 3, 4, 4), (1, 3, 8, 8), {}, "operator"),
        ("MaxPool", "pool", (1, 3, 4, 4, 4), (1, 3, 2, 2, 2), {}, "one_or_two_dimensions"),
        ("Resize", "resize", (1, 3, 4, 4), (1, 3, 8, 8), {"mode": "linear"}, "nearest"),
        ("Resize", "resize", (1, 3, 4, 4), (1, 3, 8, 8), {"mode": "nearest"}, None),
        ("Softmax", "activation", (1, 4), (1, 4), {}, None),
    ],
)
def test_hls4mls_layers(
    name: str, kind: Any, before: Any, after: Any, more: dict[str, Any], rule: str | None
) -> None:
    make = GraphMaker(before, "float32", file_format="onnx")
    make.op(name, kind, after, dtype="float32", **more)
    assert list(broken(make, "hls4ml")) == ([rule] if rule else [])


@pytest.mark.parametrize(
    ("name", "kind", "before", "after", "rule"),
    [
        ("SUB", "elementwise", (1, 4, 4, 16), (1, 4, 4, 16), "element_wise"),
        ("RSQRT", "elementwise", (1, 4, 4, 1), (1, 4, 4, 1), "element_wise"),
        ("MUL", "elementwise", (1, 4, 4, 16), (1, 4, 4, 16), None),
        ("MEAN", "reduce", (1, 4, 4, 16), (1, 16), None),
        ("MEAN", "reduce", (1, 4, 4, 16), (1, 1, 1, 16), None),
        ("MEAN", "reduce", (1, 4, 4, 16), (1, 4, 4, 1), "reductions"),
        ("MEAN", "reduce", (1, 4, 16), (1, 4, 1), "reductions"),
        ("ARG_MAX", "reduce", (1, 4, 4, 16), (1, 4, 4), "reductions"),
        ("RESIZE_BILINEAR", "resize", (1, 4, 4, 16), (1, 8, 8, 16), None),
        ("RESIZE_BILINEAR", "resize", (1, 4, 4, 16), (1, 6, 6, 16), "whole_resizes"),
    ],
)
def test_what_a_dpu_leaves_to_the_cpu(
    name: str, kind: Any, before: Any, after: Any, rule: str | None
) -> None:
    make = GraphMaker(before)
    make.op(name, kind, after)
    assert list(broken(make, "dpu")) == ([rule] if rule else [])


@pytest.mark.parametrize(("dtype", "taken"), [("int8", True), ("float32", True), ("uint8", False)])
@pytest.mark.parametrize("rules", ["tflm", "tflm-cmsis-nn"])
def test_microcontrollers_have_no_kernels_of_uint8(rules: str, dtype: str, taken: bool) -> None:
    found = broken(convolution(dtype=dtype), rules)
    assert ("signed_kernels" in found) != taken


@pytest.mark.parametrize(
    ("make", "rules"),
    [
        (convolution(stride_h=4, stride_w=1), {"small_strides"}),
        (convolution(stride_h=3, stride_w=3), set()),
        (convolution(name="DEPTHWISE_CONV_2D"), set()),
        (convolution((3, 5), name="DEPTHWISE_CONV_2D"), set()),
        (convolution(channels=(8, 16), name="DEPTHWISE_CONV_2D"), {"one_multiplier"}),
        (convolution(channels=(1, 16), name="DEPTHWISE_CONV_2D"), set()),
        (convolution(channels=(1, 16), name="DEPTHWISE_CONV_2D", dilation_h_factor=2),
         {"one_multiplier"}),
        (convolution(dilation_h_factor=2), {"no_dilation"}),
        (convolution(version=3), set()),
        (convolution(version=4), {"known_version"}),
        (convolution(fused_activation_function="TANH"), {"fused_relu"}),
        (convolution(name="DEPTHWISE_CONV_2D", stride_h=2, dilation_h_factor=2),
         {"dilation_or_stride"}),
        (convolution(dtype="float32"), {"quantized"}),
    ],
)  # fmt: skip
def test_the_hexagon_delegates_restrictions(make: GraphMaker, rules: set[str]) -> None:
    assert set(broken(make, "hexagon")) == rules


@pytest.mark.parametrize(
    ("attributes", "rule"),
    [
        ({}, None),
        ({"version": 4}, None),
        ({"version": 5}, "known_version"),
        ({"keep_num_dims": True}, "dense_form"),
        ({"weights_format": "SHUFFLED4x16INT8"}, "dense_form"),
    ],
)
def test_dense_layers_of_the_hexagon_delegate(attributes: dict[str, Any], rule: str | None) -> None:
    make = GraphMaker((1, 8))
    make.op("FULLY_CONNECTED", "dense", (1, 4), weights=((4, 8),), **attributes)
    assert list(broken(make, "hexagon")) == ([rule] if rule else [])


def test_the_hexagon_delegate_resizes_to_65() -> None:
    for size, rules in ((65, set()), (66, {"small_resize"})):
        make = GraphMaker((1, 8, 8, 4))
        make.op("RESIZE_BILINEAR", "resize", (1, size, 8, 4))
        assert set(broken(make, "hexagon")) == rules


def qdq(zero_point: int = 0, dtype: str = "int8", scales: int = 1) -> GraphMaker:
    """An ONNX convolution of a dequantized activation."""
    make = GraphMaker((1, 4, 8, 8), dtype, file_format="onnx")
    parameters = Quantization((0.1,) * scales, (zero_point,) * scales, 1 if scales > 1 else None)
    make.tensors[0] = Tensor(0, "x", (1, 4, 8, 8), dtype, parameters)
    make.op("DequantizeLinear", "quantize", (1, 4, 8, 8), dtype="float32")
    make.op("Conv", "conv", (1, 8, 8, 8), weights=((8, 4, 3, 3),), dtype="float32")
    return make


@pytest.mark.parametrize(
    ("make", "rules"),
    [
        (qdq(), set()),
        (qdq(zero_point=3), {"symmetric"}),
        (qdq(dtype="uint8"), {"signed"}),
        (qdq(scales=4), {"tensor_scales"}),
    ],
)
def test_tensorrt_takes_symmetric_int8(make: GraphMaker, rules: set[str]) -> None:
    assert set(broken(make, "tensorrt")) == rules


def test_tensorrt_takes_convolutions_of_images() -> None:
    make = GraphMaker((1, 4, 8), "float32", file_format="onnx")
    make.op("Conv", "conv", (1, 8, 8), weights=((8, 4, 3),), dtype="float32")
    assert set(broken(make, "tensorrt")) == {"two_or_three_dimensions"}


@pytest.mark.parametrize(
    ("op", "kind", "dtype", "rules"),
    [
        ("CONV_2D", "conv", "int8", set()),
        ("CONV_2D", "conv", "int16", set()),
        ("CONV_2D", "conv", "float32", {"int8_or_int16_kernel"}),
        ("SVDF", "recurrent", "int16", {"int8_kernel"}),
        ("MEAN", "reduce", "int8", {"optimized_operator"}),
        ("RESHAPE", "data", "float32", set()),
    ],
)
def test_what_cmsis_nn_has_kernels_for(op: str, kind: Any, dtype: str, rules: set[str]) -> None:
    make = GraphMaker((1, 8, 8, 4), dtype)
    make.op(op, kind, (1, 8, 8, 4), dtype=dtype)
    found = broken(make, "tflm-cmsis-nn")
    assert set(found) == rules
    assert all(finding.severity == "slow" for finding in found.values())


def test_cmsis_nn_adds_equal_shapes() -> None:
    make = GraphMaker((1, 8, 8, 4))
    make.op("ADD", "elementwise", (1, 8, 8, 4), weights=((1, 1, 1, 4),))
    assert set(broken(make, "tflm-cmsis-nn")) == {"no_broadcast"}
    assert "one_multiplier" in broken(
        convolution(channels=(4, 8), name="DEPTHWISE_CONV_2D"), "tflm-cmsis-nn"
    )


@pytest.mark.parametrize(
    ("name", "shape", "attributes", "rule"),
    [
        ("Softmax", (2, 10), {}, "batch_of_one"),
        ("Resize", (1, 4, 8, 8), {"mode": "cubic"}, "resize_mode"),
        ("Relu", (1, 4, None, 8), {}, "static_shapes"),
        ("If", (1, 4), {}, "constant_input"),
        ("Abs", (1, 4), {}, "operator"),
    ],
)
def test_rknns_restrictions(name: str, shape: Any, attributes: Any, rule: str) -> None:
    make = GraphMaker(shape, "float32", file_format="onnx")
    make.op(name, "other", shape, dtype="float32", **attributes)
    assert set(broken(make, "rknn")) == {rule}


@pytest.mark.parametrize(
    ("name", "before", "after", "attributes", "rules"),
    [
        ("MUL", (1, 8, 1), (1, 8, 8), {}, {"broadcast"}),
        ("SLICE", (1, 2, 3, 4, 5), (1, 1, 3, 4, 5), {}, {"slice_rank"}),
        ("SOFTMAX", (1, 4), (1, 4), {"beta": 2.0}, {"plain_softmax"}),
        ("SQUEEZE", (1, 1, 4), (1, 4), {}, {"operator"}),
        ("STRIDED_SLICE", (1, 8, 8, 4), (1, 8, 4), {"shrink_axis_mask": 4}, {"plain_slice"}),
        ("RELU", (1, None, 4), (1, None, 4), {}, {"static_shapes"}),
        ("RELU", (1, 4), (1, 4), {"fused_activation_function": "SIGN_BIT"}, {"fused_activation"}),
        ("RELU", (1, 4), (1, 4), {}, set()),
    ],
)
def test_the_gpu_delegates_restrictions(
    name: str, before: Any, after: Any, attributes: Any, rules: set[str]
) -> None:
    make = GraphMaker(before, "float32")
    weights = ((1, 1, 8),) if name == "MUL" else ()
    make.op(name, "other", after, dtype="float32", weights=weights, **attributes)
    assert set(broken(make, "litert-gpu")) == rules


def test_npus_want_a_fixed_batch() -> None:
    make = GraphMaker((None, 4), "float32", file_format="onnx")
    make.op("Relu", "activation", (None, 4), dtype="float32")
    assert set(broken(make, "openvino-npu")) == {"static_shapes"}
    assert set(broken(make, "qnn-htp")) == {"static_shapes", "quantized"}
    assert broken(make, "openvino-gpu") == {}


@pytest.mark.parametrize(
    ("rules", "name", "shape", "constants", "attributes", "rule"),
    [
        ("onnxruntime-coreml", "MaxPool", (1, 4, 8), (), {}, "two_dimensional_pools"),
        (
            "onnxruntime-coreml",
            "Conv",
            (1, 4, 8, 8, 8),
            ((4, 4, 3, 3, 3),),
            {},
            "flat_convolutions",
        ),
        ("onnxruntime-coreml", "DepthToSpace", (1, 4, 8, 8), (), {"mode": "CRD"}, "depth_first"),
        ("onnxruntime-coreml", "Softmax", (1, 4), (), {}, "operator"),
        ("onnxruntime-nnapi", "Resize", (1, 4, 8), (), {}, "two_dimensional"),
        ("onnxruntime-nnapi", "Erf", (1, 4), (), {}, "operator"),
        ("onnxruntime-xnnpack", "Softmax", (1, 4, 8), (), {"axis": 1}, "last_axis"),
        ("onnxruntime-xnnpack", "MatMul", (1, 4, 8), ((8, 8),), {}, "matrices"),
        ("onnxruntime-xnnpack", "Resize", (1, 4, 8, 8), (), {"mode": "nearest"}, "bilinear"),
    ],
)
def test_the_providers_of_onnx_runtime(
    rules: str, name: str, shape: Any, constants: Any, attributes: Any, rule: str
) -> None:
    make = GraphMaker(shape, "float32", file_format="onnx")
    make.op(name, "other", shape, dtype="float32", weights=constants, **attributes)
    assert set(broken(make, rules)) == {rule}


def test_providers_want_constant_weights() -> None:
    make = GraphMaker((1, 4, 8, 8), "float32", file_format="onnx")
    made = make.op("Relu", "activation", (1, 4, 8, 8), dtype="float32")
    make.op("Conv", "conv", (1, 4, 8, 8), dtype="float32")
    make.ops[1] = replace(make.ops[1], inputs=(0, made))
    for name in ("onnxruntime-coreml", "onnxruntime-nnapi", "onnxruntime-xnnpack", "tensorrt"):
        assert set(broken(make, name)) == {"constant_weights"}, name


@pytest.mark.parametrize("rules", ["edgetpu", "hexagon", "tflm-coralmicro"])
@pytest.mark.parametrize("scales", [1, 4])
def test_readers_of_before_2024_take_one_scale_of_dense_weights(rules: str, scales: int) -> None:
    make = GraphMaker((1, 8))
    make.op("FULLY_CONNECTED", "dense", (1, 4), weights=((4, 8),))
    weights = make.ops[0].inputs[1]
    found = Quantization((0.1,) * scales, (0,) * scales, 0 if scales > 1 else None)
    make.tensors[weights] = replace(make.tensors[weights], quantization=found)
    assert list(broken(make, rules)) == ([] if scales == 1 else ["dense_one_scale"])
