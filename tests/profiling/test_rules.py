"""The engine, the pages, and the sets whose rules are arithmetic."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.graph.read import read_graph
from edgekit.graph.types import Op, Tensor
from edgekit.profiling.check import check_graph
from edgekit.profiling.rulebook import COMMAND, page_text, target_rules
from edgekit.profiling.rules import RULE_SETS, OpView
from edgekit.profiling.rules.base import Geometry, ceil_div, geometry, power_of_two
from edgekit.profiling.targets import all_targets, load_target
from edgekit.profiling.view import GraphView
from edgekit.schema.quantization import Quantization
from edgekit.schema.results import Finding, Severity
from edgekit.schema.target import Target
from tests.profiling.graphs import GraphMaker, small_cnn

ROOT = Path(__file__).parents[2]


def broken(make: GraphMaker, name: str, index: int = -1) -> dict[str, Finding]:
    """What a rule set finds about one operator, by rule."""
    graph = make.graph()
    found = RULE_SETS.get(name).findings(OpView(GraphView(graph), graph.ops[index]))
    return {finding.rule: finding for finding in found}


def with_rules(name: str) -> Target:
    """A target whose only processor has other rules."""
    target = load_target("raspberry-pi-4")
    processor = target.processors[0].model_copy(update={"rules": name})
    return target.model_copy(update={"processors": (processor,)})


def convolution(
    kernel: tuple[int, int] = (3, 3), channels: tuple[int, int] = (16, 16), dtype: str = "int8",
    name: str = "CONV_2D", **attributes: Any,
) -> GraphMaker:  # fmt: skip
    make = GraphMaker((1, 8, 8, channels[0]), dtype)
    shape = (channels[1], *kernel, channels[0])
    if name == "DEPTHWISE_CONV_2D":
        shape = (1, *kernel, channels[1])
    kind: Any = "depthwise" if name == "DEPTHWISE_CONV_2D" else "conv"
    make.op(name, kind, (1, 8, 8, channels[1]), weights=(shape,), dtype=dtype, **attributes)
    return make


def quantized(make: GraphMaker, index: int, scale: float, zero_point: int = 0) -> GraphMaker:
    tensor = make.tensors[index]
    make.tensors[index] = Tensor(
        index, tensor.name, tensor.shape, tensor.dtype, Quantization((scale,), (zero_point,)),
        tensor.constant,
    )  # fmt: skip
    return make


def test_a_finding_names_its_operator_and_layer() -> None:
    report = check_graph(small_cnn("float32").graph(), load_target("coral-usb"), "made")
    for op in report.ops:
        assert op.findings
        for finding in op.findings:
            assert (finding.op, finding.index, finding.layer) == (op.op, op.index, op.layer)
    plain = json.loads(report.model_dump_json())
    assert plain["ops"][0]["findings"][0]["layer"] == "layer0"


def test_a_slow_operator_stays_where_it_is() -> None:
    report = check_graph(small_cnn().graph(), with_rules("litert-xnnpack"), "made")
    assert report.verdict == "ok"
    found = {op.op: [(f.rule, f.severity) for f in op.findings] for op in report.ops}
    assert found["SOFTMAX"] == [("float_only", "slow")]
    assert found["FULLY_CONNECTED"] == []
    assert {op.where for op in report.ops} == {"cpu"}


def test_slow_findings_do_not_hide_what_blocks() -> None:
    make = GraphMaker((1, 4), "float32")
    make.op("FlexErf", "custom", (1, 4), dtype="float32")
    report = check_graph(make.graph(), with_rules("litert-xnnpack"), "made")
    assert report.verdict == "unsupported"
    assert [(f.rule, f.severity) for f in report.ops[0].findings] == [("flex", "unsupported")]


def test_an_operator_off_the_list_is_one_finding() -> None:
    make = GraphMaker((1, 4), "float32", file_format="onnx")
    make.op("NonZero", "other", (1, 4), dtype="float32")
    assert set(broken(make, "tensorrt")) == {"operator"}
    assert broken(make, "onnxruntime-xnnpack")["operator"].severity == "slow"


@pytest.mark.parametrize(
    ("rules", "rule"), [("cubeai", "quantizers"), ("onnxruntime-cpu", "standard_domain")]
)
def test_quantizers_of_qonnx_are_read_by_dataflow_compilers_only(rules: str, rule: str) -> None:
    make = GraphMaker((1, 8), "float32", file_format="onnx")
    make.op("Quant", "quantize", (1, 8), dtype="float32", weights=((), (), ()))
    make.op("QuantizeLinear", "quantize", (1, 8), weights=((), ()))
    assert list(broken(make, rules, 0)) == [rule]
    assert broken(make, rules, 0)[rule].severity == "blocks"
    assert broken(make, rules, 1) == {}
    assert broken(make, "hls4ml", 0) == {}


def test_every_rule_has_a_source_an_operator_list_and_a_severity() -> None:
    for name in RULE_SETS.names():
        rules = RULE_SETS.get(name)
        tables = [rules, *([rules.fast] if rules.fast else [])]
        for table in tables:
            ids = [entry.id for entry in table.rules]
            assert len(ids) == len(set(ids))
            for entry in table.rules:
                assert (entry.source or table.source).startswith("https://")
                assert entry.severity in get_args(Severity)
                assert not table.takes or entry.ops <= table.takes, entry.id


@pytest.mark.parametrize("target", all_targets(), ids=lambda target: target.name)
def test_the_page_of_a_target_is_made_from_its_rules(target: Target) -> None:
    page = ROOT / "docs/ops" / f"{target.name}.md"
    assert page.is_file(), f"no page: {COMMAND}"
    assert page.read_text() == page_text(target_rules(target)), f"out of date: {COMMAND}"


def test_there_is_no_page_without_a_target() -> None:
    pages = {page.stem for page in (ROOT / "docs/ops").glob("*.md")}
    assert pages <= {target.name for target in all_targets()}


def test_a_rule_set_never_raises(shared: Path) -> None:
    """All sets on all files, whatever their format."""
    files = [
        path for kind in ("tflite", "onnx") for path in sorted(shared.glob(f"models/*.{kind}"))
    ]
    assert len(files) > 20
    seen = 0
    for path in files:
        graph = read_graph(path)
        view = GraphView(graph)
        for name in RULE_SETS.names():
            rules = RULE_SETS.get(name)
            for op in graph.ops:
                found = rules.findings(OpView(view, op))
                assert all(finding.found and finding.allowed for finding in found)
                assert all(finding.index == op.index for finding in found)
                seen += 1
    assert seen > 5000


@given(
    st.sampled_from(sorted(RULE_SETS.names())),
    st.sampled_from(["CONV_2D", "MUL", "SOFTMAX", "QUANTIZE", "Conv", "Resize", "Softmax", "GRU"]),
    st.lists(st.one_of(st.none(), st.integers(1, 70)), max_size=5),
    st.lists(st.lists(st.integers(1, 9), max_size=5), max_size=3),
    st.sampled_from(["int8", "float32", "int16", "string"]),
)
def test_no_shape_makes_a_rule_raise(
    name: str, op: str, shape: list[int | None], weights: list[list[int]], dtype: str
) -> None:
    """Operators of broken files, too, which may have no tensors."""
    make = GraphMaker(tuple(shape), dtype)
    kind: Any = "conv" if op in ("CONV_2D", "Conv") else "other"
    make.op(op, kind, tuple(shape), weights=tuple(map(tuple, weights)), dtype=dtype)
    broken(make, name)
    made, whole = make.graph(), make.ops[0]
    for less in (replace(whole, inputs=()), replace(whole, outputs=())):
        graph = replace(made, ops=(less,))
        RULE_SETS.get(name).findings(OpView(GraphView(graph), graph.ops[0]))


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
    make = GraphMaker((1, inputs), "int8")
    make.op("FULLY_CONNECTED", "dense", (1, outputs), weights=((outputs, inputs),))
    found = broken(make, "hls4ml").get("unrolled_multiplications")
    assert (found is not None) == (inputs * outputs > 4096)
    if found:
        reuse = int(found.found.rsplit(" ", 1)[1])
        assert (reuse - 1) * 4096 < inputs * outputs <= reuse * 4096


def test_hls4ml_streams_large_maps() -> None:
    make = GraphMaker((1, 65, 65, 1), "int8")
    make.op("RELU", "activation", (1, 65, 65, 1))
    assert broken(make, "hls4ml")["parallel_maps"].severity == "slow"


@pytest.mark.parametrize(
    ("make", "rules"),
    [
        (convolution(stride_h=4, stride_w=1), {"small_strides"}),
        (convolution(stride_h=3, stride_w=3), set()),
        (convolution(name="DEPTHWISE_CONV_2D"), set()),
        (convolution((3, 5), name="DEPTHWISE_CONV_2D"), {"depthwise_width"}),
        (convolution(channels=(8, 16), name="DEPTHWISE_CONV_2D"), {"one_multiplier"}),
        (convolution(name="DEPTHWISE_CONV_2D", stride_h=2, dilation_h_factor=2),
         {"dilation_or_stride"}),
        (convolution(dtype="float32"), {"quantized"}),
    ],
)  # fmt: skip
def test_the_hexagon_delegates_restrictions(make: GraphMaker, rules: set[str]) -> None:
    assert set(broken(make, "hexagon")) == rules


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


@given(st.floats(1e-30, 1e30))
def test_powers_of_two(scale: float) -> None:
    near = 2.0 ** round(math.log2(scale))
    assert power_of_two(near)
    assert not power_of_two(near * 1.001)


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


def test_powers_of_two_are_positive_and_finite() -> None:
    assert not any(map(power_of_two, (0.0, -1.0, float("inf"), float("nan"))))


@given(st.integers(0, 10**6), st.integers(1, 1000))
def test_ceil_div(value: int, divisor: int) -> None:
    assert (ceil_div(value, divisor) - 1) * divisor < value <= ceil_div(value, divisor) * divisor


def test_geometry_is_one_for_both_layouts() -> None:
    nhwc = convolution((3, 5), (4, 8), stride_h=2, stride_w=1)
    nchw = GraphMaker((1, 4, 8, 8), "float32", file_format="onnx")
    nchw.op("Conv", "conv", (1, 8, 8, 8), weights=((8, 4, 3, 5),), strides=[2, 1])
    found = []
    for make in (nhwc, nchw):
        graph = make.graph()
        found.append(geometry(OpView(GraphView(graph), graph.ops[0])))
    assert found == [Geometry((3, 5), (2, 1), (1, 1), (4, 8))] * 2


def test_geometry_of_a_pool_and_of_nothing() -> None:
    make = GraphMaker((1, 8, 8, 4))
    make.op("MAX_POOL_2D", "pool", (1, 4, 4, 4), filter_height=2, filter_width=3, stride_h=2)
    graph = make.graph()
    assert geometry(OpView(GraphView(graph), graph.ops[0])) == Geometry(
        (2, 3), (2, 1), (1, 1), (4, 4)
    )
    empty = Op(0, "CONV_2D", "conv", "", (), ())
    assert geometry(OpView(GraphView(graph), empty)) is None
