from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from edgekit.graph.types import Graph
from edgekit.profiling.check import check_file, check_graph
from edgekit.profiling.rules import RULE_SETS
from edgekit.profiling.rules.edgetpu import RULES as EDGETPU
from edgekit.profiling.targets import all_targets, load_target
from tests.profiling.graphs import GraphMaker, small_cnn

CORAL = load_target("coral-usb")


def found(graph: Graph, target: str = "coral-usb") -> list[tuple[str, ...]]:
    report = check_graph(graph, load_target(target), "made")
    return [tuple(finding.rule for finding in op.findings) for op in report.ops]


def test_a_plain_int8_network_is_mapped_entirely() -> None:
    report = check_graph(small_cnn().graph(), CORAL, "made")
    assert report.verdict == "ok"
    assert {op.where for op in report.ops} == {"edgetpu"}


def test_a_float_network_stays_on_the_host() -> None:
    report = check_graph(small_cnn("float32").graph(), CORAL, "made")
    assert report.verdict == "fallback"
    assert {op.where for op in report.ops} == {"cpu"}
    finding = report.ops[0].findings[0]
    assert finding.rule == "eight_bit"
    assert "is float32" in finding.found
    assert "8-bit" in finding.allowed
    assert finding.severity == "fallback"
    assert "int8" in finding.fix


def test_what_follows_an_unmapped_operator_stays_behind() -> None:
    make = small_cnn()
    make.ops[2] = type(make.ops[2])(2, "CUMSUM", "reduce", "x", make.ops[2].inputs,
                                    make.ops[2].outputs)  # fmt: skip
    report = check_graph(make.graph(), CORAL, "made")
    assert [op.where for op in report.ops] == ["edgetpu"] * 2 + ["cpu"] * 4
    assert report.ops[2].findings[0].rule == "operator"
    assert [op.findings[0].rule for op in report.ops[3:]] == ["partition"] * 3


def test_a_float_input_is_converted_on_the_host_and_blocks_nothing() -> None:
    make = GraphMaker((1, 8, 8, 4), "float32")
    make.op("QUANTIZE", "quantize", (1, 8, 8, 4))
    make.op("CONV_2D", "pointwise", (1, 8, 8, 4), weights=((4, 1, 1, 4),), macs=1024)
    report = check_graph(make.graph(), CORAL, "made")
    assert [op.where for op in report.ops] == ["cpu", "edgetpu"]


@pytest.mark.parametrize(
    ("name", "shape_in", "shape_out", "attributes", "rule"),
    [
        ("CONV_2D", (1, 8, 8, 4), (1, 8, 8, 4), {"dilation_w_factor": 2, "dilation_h_factor": 1},
         "equal_dilation"),
        ("MAX_POOL_2D", (1, 8, 8, 4), (1, 4, 4, 4), {"fused_activation_function": "RELU"},
         "no_fused_activation"),
        ("SOFTMAX", (1, 16_001), (1, 16_001), {}, "small_softmax"),
        ("SOFTMAX", (1, 4, 10), (1, 4, 10), {}, "small_softmax"),
        ("MEAN", (1, 8, 8, 6), (1, 8, 8), {}, "mean_channels"),
        ("MEAN", (2, 8, 8, 6), (8, 8, 6), {}, "three_dimensions"),
        ("RESIZE_BILINEAR", (1, 1, 1, 4), (1, 33, 33, 4), {}, "small_resize"),
        ("FULLY_CONNECTED", (4, 8), (4, 8), {}, "dense_one_dimension"),
        ("FULLY_CONNECTED", (1, 8), (1, 8), {"weights_format": "SHUFFLED4x16INT8"},
         "dense_one_dimension"),
        ("SQUEEZE", (1, 8, 1, 4), (1, 8, 4), {}, "leading_squeeze"),
        ("STRIDED_SLICE", (1, 8, 8, 4), (1, 4, 4, 4), {"new_axis_mask": 1}, "plain_slice"),
        ("PAD", (1, 8, 4), (2, 8, 4), {}, "batch_untouched"),
        ("ADD", (1, None, 4), (1, None, 4), {}, "static_shapes"),
        ("ARG_MAX", (1, 8), (1,), {}, "operator"),
    ],
)  # fmt: skip
def test_edge_tpu_restrictions(
    name: str, shape_in: Any, shape_out: Any, attributes: dict[str, Any], rule: str
) -> None:
    make = GraphMaker(shape_in)
    weights = {"CONV_2D": ((4, 3, 3, 4),), "FULLY_CONNECTED": ((8, 8),)}.get(name, ())
    make.op(name, "other", shape_out, weights=weights, **attributes)
    assert rule in found(make.graph())[0]


@pytest.mark.parametrize(
    ("name", "shape_in", "shape_out"),
    [
        ("MEAN", (1, 8, 8, 6), (1, 6)),
        ("MEAN", (1, 8, 8, 8), (1, 8, 8)),
        ("RESIZE_BILINEAR", (1, 8, 8, 4), (1, 16, 16, 4)),
        ("SOFTMAX", (1, 16_000), (1, 16_000)),
        ("SQUEEZE", (1, 1, 8), (8,)),
        ("ADD", (None, 8, 8, 4), (None, 8, 8, 4)),
    ],
)
def test_what_the_edge_tpu_takes(name: str, shape_in: Any, shape_out: Any) -> None:
    make = GraphMaker(shape_in)
    make.op(name, "other", shape_out)
    assert found(make.graph()) == [()]


def test_the_edge_tpu_takes_the_published_operators(shared: Path) -> None:
    with (shared / "groundtruth/edgetpu_ops.csv").open(newline="", encoding="utf-8") as handle:
        published = {
            row["tflite_builtin"]: row["supported"]
            for row in csv.DictReader(handle)
            if row["tflite_builtin"]
        }
    taken = {name for name, supported in published.items() if supported == "yes"}
    # TRANSPOSE is in no table, but the logs of compiler 16 show it mapped.
    assert EDGETPU.takes == taken | {"TRANSPOSE"}


def test_partitions_are_those_of_the_edge_tpu_compiler(shared: Path) -> None:
    """The compiler's own answer, operator by operator: 181 of 181 agree."""
    labels: dict[str, list[str]] = {}
    with (shared / "groundtruth/coral_op_labels.csv").open(newline="", encoding="utf-8") as handle:
        for row in csv.DictReader(handle):
            labels.setdefault(Path(row["model"]).name, []).append(row["mapped"])
    agreed = total = 0
    for name, mapped in labels.items():
        report = check_file(shared / "models" / f"coral_{name}", CORAL)
        assert len(report.ops) == len(mapped)
        agreed += sum(op.where == label for op, label in zip(report.ops, mapped, strict=True))
        total += len(mapped)
    assert (agreed, total) == (181, 181)


def test_a_format_that_the_runtime_does_not_take() -> None:
    make = GraphMaker((1, 4), "float32", file_format="onnx")
    make.op("Relu", "activation", (1, 4), dtype="float32")
    report = check_graph(make.graph(), load_target("raspberry-pi-4"), "model.onnx")
    assert report.verdict == "unsupported"
    assert report.findings[0].rule == "format"
    assert report.ops == ()


def test_flex_and_custom_operators_run_nowhere() -> None:
    for name, rule in (("FlexErf", "flex"), ("MyOp", "custom")):
        make = GraphMaker((1, 4), "float32")
        make.op(name, "custom", (1, 4), dtype="float32")
        report = check_graph(make.graph(), load_target("raspberry-pi-4"), "made")
        assert report.verdict == "unsupported"
        assert report.ops[0].where == "nowhere"
        assert report.ops[0].findings[0].rule == rule
        assert report.ops[0].findings[0].severity == "unsupported"
    make = GraphMaker((1, 4), "float32")
    make.op("TFLite_Detection_PostProcess", "custom", (1, 4), dtype="float32")
    assert check_graph(make.graph(), load_target("raspberry-pi-4"), "made").verdict == "ok"


def test_a_precision_that_the_target_does_not_take() -> None:
    make = GraphMaker((1, 8), "float32")
    make.op("FULLY_CONNECTED", "dense", (1, 4), weights=((4, 8),), dtype="float32",
            weight_dtype="int8", macs=32)  # fmt: skip
    assert found(make.graph(), "stm32-l4r5-tflm") == [("precision",)]
    assert found(make.graph(), "raspberry-pi-4") == [()]


def test_a_network_too_large_for_ram_or_flash() -> None:
    wide = GraphMaker((1, 1200, 1200, 1))
    wide.op("RELU", "activation", (1, 1200, 1200, 1))
    report = check_graph(wide.graph(), load_target("stm32-h7a3-cubeai"), "made")
    assert report.verdict == "does_not_fit"
    assert [finding.rule for finding in report.findings] == ["ram"]
    heavy = GraphMaker((1, 2000))
    heavy.op("FULLY_CONNECTED", "dense", (1, 2000), weights=((2000, 2000),), macs=4_000_000)
    report = check_graph(heavy.graph(), load_target("stm32-h7a3-cubeai"), "made")
    assert [finding.rule for finding in report.findings] == ["flash"]
    needed, available = report.memory["model"].value, report.memory["flash_available"].value
    assert needed is not None
    assert available is not None
    assert needed > available


def test_every_rule_states_what_is_allowed_and_the_fix() -> None:
    for name in RULE_SETS.names():
        rules = RULE_SETS.get(name)
        assert rules.name == name
        assert rules.source.startswith("https://")
        for rule in rules.rules:
            assert rule.text.endswith(".") or rule.text.endswith(")"), rule.id
            assert rule.fix
    used = {processor.rules for target in all_targets() for processor in target.processors}
    assert used <= set(RULE_SETS.names())
