"""The engine, the pages, and what rules are made of."""

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
from edgekit.graph.types import Op
from edgekit.profiling.check import check_graph
from edgekit.profiling.rule_targets import documented
from edgekit.profiling.rulebook import COMMAND, page_text, target_rules
from edgekit.profiling.rules import RULE_SETS, OpView
from edgekit.profiling.rules.base import Geometry, ceil_div, geometry, power_of_two
from edgekit.profiling.targets import all_targets, load_target, target_names
from edgekit.profiling.view import GraphView
from edgekit.schema.results import Severity
from edgekit.schema.target import Target
from tests.profiling.graphs import GraphMaker, small_cnn
from tests.profiling.rule_cases import broken, convolution

ROOT = Path(__file__).parents[2]


def with_rules(name: str) -> Target:
    """A target whose only processor has other rules."""
    target = load_target("raspberry-pi-4")
    processor = target.processors[0].model_copy(update={"rules": name})
    return target.model_copy(update={"processors": (processor,)})


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


@pytest.mark.parametrize("target", documented(), ids=lambda target: target.name)
def test_the_page_of_a_target_is_made_from_its_rules(target: Target) -> None:
    page = ROOT / "docs/ops" / f"{target.name}.md"
    assert page.is_file(), f"no page: {COMMAND}"
    assert page.read_text() == page_text(target_rules(target)), f"out of date: {COMMAND}"


def test_there_is_no_page_without_a_target_or_a_rule_set() -> None:
    pages = {page.stem for page in (ROOT / "docs/ops").glob("*.md")}
    assert pages == {target.name for target in documented()}


def test_every_rule_set_has_a_page() -> None:
    documents = [target_rules(target) for target in documented()]
    shown = {entry.table.name for document in documents for entry in document.processors}
    assert shown == set(RULE_SETS.names())
    assert not set(RULE_SETS.names()) & set(target_names())  # one argument means either


def test_rule_sets_say_what_files_they_are_about() -> None:
    for name in RULE_SETS.names():
        rules = RULE_SETS.get(name)
        assert rules.name == name
        assert rules.fallback is None or rules.fallback in RULE_SETS.names()
    for target in all_targets():
        first = RULE_SETS.get(target.processors[0].rules)
        assert set(target.runtime.formats) <= set(first.formats), target.name


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


@given(st.floats(1e-30, 1e30))
def test_powers_of_two(scale: float) -> None:
    near = 2.0 ** round(math.log2(scale))
    assert power_of_two(near)
    assert not power_of_two(near * 1.001)


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
