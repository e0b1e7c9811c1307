"""The error that a calibration states: that of networks, and of families, that it left out."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from edgekit.base.errors import ToolError
from edgekit.graph.read import read_graph
from edgekit.pipeline.calibration.files import write_network
from edgekit.pipeline.calibration.fits import fits
from edgekit.pipeline.calibration.journal import Setting
from edgekit.pipeline.calibration.network import Network
from edgekit.pipeline.calibration.series import Series
from edgekit.profiling.fit.kernels import Observation
from edgekit.profiling.view import GraphView

SETTING = Setting("litert", "fp32", 1)
# Times that a family's convolutions take as long as those of the first.
SLOWER = {"narrow": 1.0, "wide": 1.4, "deep": 0.7, "broad": 2.0, "long": 1.2}


def observation(folder: Path, family: str, number: int) -> Observation:
    """A chain of 1x1 convolutions: a family is a number of channels, a member a size of the map."""
    channels = 8 * 2 ** list(SLOWER).index(family)
    side = 8 + 2 * number
    network = Network(f"{family}-{number}", (1, side, side, channels), family)
    last = 0
    for _ in range(3):
        last = network.conv(last, channels)
    view = GraphView(read_graph(write_network(network, "tflite", folder, quantized=False)))
    macs = 3 * side**2 * channels**2
    return Observation(network.name, family, view, SLOWER[family] * (1e-9 * macs + 1e-6))


def series(folder: Path, families: tuple[str, ...], members: int = 4) -> Series:
    """Composites of some families."""
    pytest.importorskip("ai_edge_litert")
    pytest.importorskip("scipy")
    found = tuple(
        observation(folder, family, number) for family in families for number in range(members)
    )
    names = frozenset(one.name for one in found)
    return Series(SETTING, found, names, disturbed=0.0, failed={}, version="1")


def test_networks_of_unseen_families_have_wider_intervals(tmp_path: Path) -> None:
    _, error = fits([series(tmp_path, tuple(SLOWER))])[SETTING]
    assert error is not None
    assert error.models == 20
    assert error.family_median_pct is not None
    assert error.median_pct < 10 < error.family_median_pct
    assert error.unseen_low < error.low < 1 < error.high < error.unseen_high
    assert error.high < math.sqrt(2) < error.unseen_high
    assert "order statistics" in error.method


def test_an_interval_of_eight_networks_says_that_it_is_of_few(tmp_path: Path) -> None:
    _, error = fits([series(tmp_path, ("narrow",), members=8)])[SETTING]
    assert error is not None
    assert "models are few" in error.method


def test_few_composites_tell_no_error(tmp_path: Path) -> None:
    _, error = fits([series(tmp_path, ("narrow",), members=7)])[SETTING]
    assert error is None


def test_one_family_tells_nothing_of_others(tmp_path: Path) -> None:
    _, error = fits([series(tmp_path, ("narrow",), members=9)])[SETTING]
    assert error is not None
    assert error.family_median_pct is None
    assert error.unseen_high >= error.high


def test_what_is_fitted_is_told_meanwhile(tmp_path: Path) -> None:
    told: list[tuple[str, float, float | None]] = []
    one = series(tmp_path, ("narrow", "wide"))
    fits([one], progress=lambda text, done=0.0, total=None: told.append((text, done, total)))
    assert [done / total for _, done, total in told if total] == [0, 1 / 3, 2 / 3]
    assert all(text.startswith("fitting litert fp32") for text, _, _ in told)


def test_a_runtime_that_ran_nothing_is_an_error_with_its_reason() -> None:
    nothing = Series(SETTING, (), frozenset(), 0.0, {"conv-0": "no such kernel"}, "1")
    with pytest.raises(ToolError, match="nothing could be measured") as caught:
        fits([nothing])
    assert "no such kernel" in str(caught.value.hint)
