from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.profiling import ranking
from edgekit.profiling.budgets import Limits, budgets, judge, judged, overall
from edgekit.profiling.comparison import compare
from edgekit.profiling.profile import Subject, profile_graph
from edgekit.profiling.targets import all_targets, load_target
from edgekit.schema.figure import Figure
from edgekit.schema.results import BudgetVerdict
from edgekit.schema.target import Target
from tests.profiling.graphs import small_cnn

GRAPH = small_cnn().graph()


def figure(value: float, low: float, high: float) -> Figure:
    return Figure(value=value, low=low, high=high, unit="ms", origin="estimated", method="given")


@given(st.floats(0.1, 100), st.floats(0.1, 100))
def test_a_budget_is_held_against_the_value(value: float, limit: float) -> None:
    found = judge("latency_ms", figure(value, value / 2, value * 2), limit)
    assert found.verdict == ("ok" if value <= limit else "over")
    crosses = value / 2 <= limit < value * 2
    assert bool(found.reason) == crosses


def test_an_unknown_figure_is_an_unknown_verdict() -> None:
    found = judge("energy_mj", Figure.missing("no meter"), 5)
    assert (found.verdict, found.reason, found.value) == ("unknown", "no meter", None)


def test_the_worst_verdict_counts() -> None:
    ok, over, unknown = (
        BudgetVerdict(budget="b", limit=1, value=None, verdict=word)
        for word in ("ok", "over", "unknown")
    )
    assert overall([ok, unknown, over]) == "over"
    assert overall([ok, unknown]) == "unknown"
    assert overall([ok]) == "ok"
    assert overall([]) == "ok"


def test_only_budgets_that_are_given_are_judged() -> None:
    profile = profile_graph(GRAPH, load_target("stm32-h7a3-cubeai"), "m")
    assert judged(profile, Limits()) is profile
    needed = (profile.peak_memory_bytes.value or 0) / 1024
    for kib, verdict in ((needed, "ok"), (needed * 0.99, "over")):
        found = budgets(profile, Limits(memory_kib=kib))
        assert [one.verdict for one in found] == [verdict]


def test_a_model_that_does_not_fit_the_memory_is_over() -> None:
    board = load_target("stm32-h7a3-cubeai")
    small = board.memory.model_copy(update={"ram_bytes": 16})
    tiny = board.model_copy(update={"memory": small})
    found = ranking._ranked(Subject(GRAPH, "m"), tiny, Limits(), "latency")
    assert found.verdict == "over"
    assert (found.reason or "").startswith("ram ")
    assert "> 16 B" in (found.reason or "")
    flash = board.memory.model_copy(update={"flash_bytes": 16})
    found = ranking._ranked(
        Subject(replace(GRAPH, file_bytes=1000), "m"),
        board.model_copy(update={"memory": flash}), Limits(), "latency",
    )  # fmt: skip
    assert found.reason == "flash 1,000 B > 16 B"


@pytest.mark.parametrize("by", ["latency", "energy", "memory"])
def test_what_it_is_sorted_by_must_be_known(by: ranking.Order) -> None:
    phone = load_target("pixel-3")  # whose power nobody has published
    found = ranking._ranked(Subject(GRAPH, "m"), phone, Limits(), by)
    assert found.verdict == ("unknown" if by == "energy" else "ok")


def test_a_file_against_itself_changes_nothing() -> None:
    drone: Target = load_target("drone-x500-cm4")
    profile = profile_graph(GRAPH, drone, "m")
    same = compare(profile, profile, drone)
    assert same.latency_ratio.value == same.energy_ratio.value == same.memory_ratio.value == 1
    assert same.faster_m_s is not None
    assert same.faster_m_s.value == 0
    assert same.lighter_g is not None
    assert "mass_g" in (same.lighter_g.reason or "")


def test_an_interrupted_ranking_does_not_compile_for_the_rest(
    small_tflite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []

    def compiling(subject: Subject, target: Target, limits: Limits, by: str) -> object:
        begun.append(target.name)
        time.sleep(0.1)
        return ranking._unknown(target, "slow")

    def interrupt(text: str, done: float = 0.0, total: float | None = None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ranking, "_ranked", compiling)
    monkeypatch.setattr(ranking.os, "cpu_count", lambda: 1)
    several = [t for t in all_targets() if t.name.startswith("ethos-u")]
    with pytest.raises(KeyboardInterrupt):
        ranking.rank(small_tflite, several, Limits(), progress=interrupt)
    assert len(begun) <= 1 < len(several)
