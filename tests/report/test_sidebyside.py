from __future__ import annotations

import io

import pytest
from rich.console import Console

from edgekit.profiling.profile import profile_graph
from edgekit.profiling.targets import load_target
from edgekit.report.sidebyside import side_by_side
from edgekit.schema.results import ProfileReport
from tests.profiling.graphs import small_cnn


@pytest.mark.parametrize(
    ("target", "placement"),
    [
        ("raspberry-pi-4", "6 CPU / 1 nowhere"),
        ("raspberry-pi-4-coral-usb", "6 accelerator / 0 CPU / 1 nowhere"),
    ],
)
def test_an_operator_that_runs_nowhere_is_not_on_the_cpu(target: str, placement: str) -> None:
    make = small_cnn()
    make.op("FlexErf", "custom", (1, 10))
    profile = profile_graph(make.graph(), load_target(target), "made.tflite")
    assert profile.placement is not None
    assert profile.placement.unplaced_ops == 1
    assert profile.placement.fallback_ops == 0
    stream = io.StringIO()
    Console(file=stream, width=120).print(side_by_side(ProfileReport(profiles=(profile,))))
    (row,) = [line for line in stream.getvalue().splitlines() if "placement" in line]
    assert f" {placement} " in row


def test_time_that_is_of_no_operator_is_told() -> None:
    profile = profile_graph(small_cnn().graph(), load_target("coral-usb"), "made.tflite")
    stream = io.StringIO()
    shown = side_by_side(ProfileReport(profiles=(profile,)), layers=True)
    Console(file=stream, width=160).print(shown)
    lines = [line for line in stream.getvalue().splitlines() if "outside operators" in line]
    assert any("100% outside operators" in line for line in lines)
    rest = (profile.latency_ms.value or 0) - sum(
        layer.latency_ms.value or 0 for layer in profile.layers
    )
    assert any(f"{rest:.4f}" in line for line in lines)
    assert "<1% CONV_2D" in stream.getvalue()
