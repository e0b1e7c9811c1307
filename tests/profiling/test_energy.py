from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.profiling.energy import compiled_energy, demands, energy_j, usage
from edgekit.profiling.estimate import Estimate, estimate
from edgekit.profiling.fit.energy import (
    energy_error,
    energy_residuals,
    fit_power,
    power_spread,
)
from edgekit.profiling.fit.samples import predict, sample
from edgekit.profiling.intervals import Range
from edgekit.profiling.placement import place
from edgekit.profiling.profile import profile_graph
from edgekit.profiling.targets import load_target
from edgekit.profiling.view import GraphView
from edgekit.profiling.work import works
from edgekit.schema.figure import Figure
from edgekit.schema.power import ActivePower, PowerSpec
from edgekit.schema.target import Target
from tests.profiling.graphs import GraphMaker, small_cnn
from tests.profiling.test_fit import COSTS, SPEC, measured, with_ns

PLAIN = PowerSpec(scope="the board", idle_w=2.0, active_w={"cpu": 3.0}, pj_per_mac=50.0)


def with_power(power: PowerSpec | None) -> Target:
    board = load_target("raspberry-pi-4")
    return board.model_copy(update={"power": power, "energy_error": None})


def made() -> tuple[GraphView, Estimate, float]:
    """A small network on the board: its view, its estimate and its multiply-accumulates."""
    target = with_power(PLAIN)
    view = GraphView(small_cnn().graph())
    result = estimate(view, list(works(view)), list(place(view, target)), target)
    assert not isinstance(result, str)
    return view, result, float(view.graph.macs)


def joules(power: PowerSpec) -> float:
    target = with_power(power)
    view, result, _ = made()
    return energy_j(result, demands(result, list(works(view)), place(view, target), target), power)


def value(figure: Figure | None) -> float:
    assert figure is not None
    assert figure.value is not None, figure.reason
    return figure.value


def test_energy_is_power_over_time_plus_work() -> None:
    _, result, macs = made()
    assert joules(PLAIN) == pytest.approx(5.0 * result.seconds + macs * 50e-12)
    once = PLAIN.model_copy(update={"mj_per_inference": 7.0})
    assert joules(once) - joules(PLAIN) == pytest.approx(7e-3)


def test_operators_draw_by_class_and_precision() -> None:
    view, result, macs = made()
    own = ActivePower(
        origin="fitted", w={"matrix": 4.0, "depthwise": 2.0, "other": 1.0}, pj_per_mac=10.0
    )
    power = PLAIN.model_copy(update={"operators": {"cpu": {"int8": own}}})
    seconds = {"matrix": 0.0, "depthwise": 0.0, "other": result.fixed}
    for work, time in zip(works(view), result.ops, strict=True):
        matrix = work.kind in ("conv", "pointwise", "dense")
        kind = "matrix" if matrix else "depthwise" if work.kind == "depthwise" else "other"
        seconds[kind] += time.seconds
    expected = 2.0 * result.seconds + macs * 10e-12
    expected += 4 * seconds["matrix"] + 2 * seconds["depthwise"] + seconds["other"]
    assert joules(power) == pytest.approx(expected)
    # Another precision's power says nothing about this one's.
    other = PLAIN.model_copy(update={"operators": {"cpu": {"fp32": own}}})
    assert joules(other) == pytest.approx(joules(PLAIN))


def test_only_bytes_beyond_the_cache_cost() -> None:
    target = with_power(PLAIN.model_copy(update={"pj_per_byte": 1000.0}))
    assert target.power is not None

    def extra(cache: int) -> float:
        memory = target.memory.model_copy(update={"cache_bytes": cache})
        own = target.model_copy(update={"memory": memory})
        view, result, _ = made()
        does = demands(result, list(works(view)), place(view, own), own)
        assert own.power is not None
        return energy_j(result, does, own.power) - energy_j(result, does, PLAIN)

    view, _, _ = made()
    moved = sum(work.bytes for work in works(view) if not work.free)
    assert extra(1 << 30) == pytest.approx(0.0)
    assert extra(0) == pytest.approx(moved * 1000e-12)


def test_every_energy_has_a_method_and_an_interval() -> None:
    graph = small_cnn().graph()
    fitted = profile_graph(graph, load_target("raspberry-pi-4"), "m").energy_mj
    assert "left out" in (fitted.method or "")
    board = with_power(PLAIN)  # without residuals of energy: latency's and power's together
    combined = profile_graph(graph, board, "m")
    latency, energy = combined.latency_ms, combined.energy_mj
    assert None not in (latency.low, latency.high, energy.low, energy.high)
    assert energy.high is not None
    assert latency.high is not None
    assert energy.high / value(energy) > latency.high / value(latency)
    assert "combined" in (energy.method or "")
    assert value(combined.power_w) == pytest.approx(value(energy) / value(latency))
    nothing = profile_graph(graph, with_power(None), "m")
    assert "no power" in (nothing.energy_mj.reason or "")


@given(st.floats(0.3, 1), st.floats(1, 3), st.floats(0.3, 1), st.floats(1, 3))
def test_ranges_combine(low: float, high: float, low2: float, high2: float) -> None:
    one, two = Range(low, high, "a"), Range(low2, high2, "b")
    both = one.times(two)
    width = math.log(both.high / both.low)
    assert width == pytest.approx(
        math.hypot(math.log(high / low), math.log(high2 / low2)), abs=1e-9
    )
    swapped = two.times(one)
    assert (swapped.low, swapped.high) == pytest.approx((both.low, both.high))


def figure(number: float, unit: str) -> Figure:
    return Figure(value=number, low=number * 0.9, high=number * 1.2, unit=unit, origin="estimated",
                  method="given")  # fmt: skip


def test_a_day_and_a_battery_by_hand() -> None:
    # 100 ms and 500 mJ once every ten seconds on a board that idles at 2 W:
    # 0.1 Hz * 0.5 J + 0.99 * 2 W = 2.03 W; 2.03 * 86400 = 175392 J; 20.3 Wh last ten hours.
    found = usage(figure(100, "ms"), figure(500, "mJ"), PLAIN, per_day=8640, battery_wh=20.3)
    assert value(found.average_power_w) == pytest.approx(2.03)
    assert value(found.energy_per_day_j) == pytest.approx(175_392)
    assert value(found.battery_h) == pytest.approx(10)
    assert found.average_power_w.low == pytest.approx(2.03 - 0.1 * 0.05)
    assert found.average_power_w.high == pytest.approx(2.03 + 0.1 * 0.1)
    assert found.battery_h is not None
    assert found.battery_h.low == pytest.approx(20.3 / 2.04)
    asleep = PLAIN.model_copy(update={"sleep_w": 0.01})
    found = usage(figure(100, "ms"), figure(500, "mJ"), asleep, per_day=8640)
    assert value(found.average_power_w) == pytest.approx(0.05 + 0.0099)
    assert found.battery_h is None


def test_what_cannot_be_done_in_a_day_says_so() -> None:
    found = usage(figure(1000, "ms"), figure(500, "mJ"), PLAIN, per_day=86_401, battery_wh=1)
    assert "no more than 86,400 inferences a day" in (found.average_power_w.reason or "")
    assert found.battery_h is not None
    assert found.battery_h.value is None
    unknown = usage(Figure.missing("why"), Figure.missing("why"), PLAIN, per_day=1)
    assert unknown.energy_per_day_j.reason == "why"


def test_without_an_idle_power_the_day_is_a_lower_bound() -> None:
    bare = PLAIN.model_copy(update={"idle_w": 0.0})
    found = usage(figure(100, "ms"), figure(500, "mJ"), bare, per_day=8640)
    assert "lower bound" in (found.average_power_w.method or "")


@given(st.floats(0.1, 1000), st.floats(0.1, 1000), st.floats(1, 80_000))
def test_more_inferences_take_more(latency: float, extra: float, rate: float) -> None:
    energy = PLAIN.idle_w * latency + extra  # mJ: what it draws is above idle
    one, two = (
        usage(figure(latency, "ms"), figure(energy, "mJ"), PLAIN, per_day=day, battery_wh=5)
        for day in (rate, rate * 1.01)
    )
    if two.average_power_w.value is not None:
        assert value(two.average_power_w) > value(one.average_power_w)
        assert value(two.battery_h) < value(one.battery_h)


@pytest.fixture
def board() -> Target:
    return with_power(PLAIN).model_copy(
        update={"processors": with_ns(load_target("raspberry-pi-4"), COSTS).processors}
    )


def test_a_compiled_latency_has_an_energy_where_power_is_known() -> None:
    ethos = load_target("ethos-u55-128")
    names = [processor.name for processor in ethos.processors]
    power = PowerSpec(scope="the chip", idle_w=0.01, active_w=dict.fromkeys(names, 0.02))
    latency = Figure(value=5.0, unit="ms", origin="compiled", method="cycles")
    energy, drawn = compiled_energy(latency, ethos.model_copy(update={"power": power}))
    assert value(energy) == pytest.approx(0.15)
    assert value(drawn) == pytest.approx(0.03)
    assert "no power" in (compiled_energy(latency, ethos)[0].reason or "")
    late = Figure.missing("left to the CPU")
    found = compiled_energy(late, ethos.model_copy(update={"power": power}))
    assert found[0].reason == "left to the CPU"


def test_power_is_found_from_energies(board: Target) -> None:
    true = ActivePower(
        origin="fitted", w={"matrix": 2.0, "depthwise": 2.0, "other": 2.0}, pj_per_mac=40.0
    )
    drawn = PLAIN.model_copy(update={"operators": {"cpu": {"int8": true}}})
    samples = []
    for s in measured(board):
        result = predict(s, board)
        energy = energy_j(result, demands(result, s.loads, s.placed, board), drawn)
        samples.append(
            sample(s.view.graph, board, model=s.model, family=s.family, latency_s=s.latency_s,
                   energy_j=energy)
        )  # fmt: skip
    power = fit_power(samples, board).power
    assert power is not None
    found = power.operators["cpu"]["int8"]
    assert found.w["matrix"] == pytest.approx(2.0, rel=1e-2)
    assert found.pj_per_mac == pytest.approx(40.0, rel=1e-2)
    assert found.measurements == len(samples)
    assert power.pj_per_mac == 0.0
    left = energy_residuals(samples, board, SPEC)
    assert left.error is not None
    assert left.error.p90_pct < 1.0
    spread = power_spread(left.power)
    assert spread is not None
    assert 0.98 < spread.low <= spread.high < 1.02


def test_without_energies_there_is_nothing_to_fit(board: Target) -> None:
    assert energy_error(measured(board), board, SPEC) is None
    assert fit_power(measured(board), board) is board
    bare = board.model_copy(update={"power": None})
    assert energy_residuals(measured(bare), bare, SPEC).energy == ()


def test_operators_of_a_class_that_nobody_measured_draw_the_most() -> None:
    own = ActivePower(origin="fitted", w={"matrix": 4.0})
    power = PLAIN.model_copy(update={"operators": {"cpu": {"int8": own}}})
    _, result, _ = made()
    assert joules(power) == pytest.approx(6.0 * result.seconds)
    graph = GraphMaker((1, 8))
    graph.op("RELU", "activation", (1, 8))
    assert value(profile_graph(graph.graph(), with_power(power), "m").energy_mj) > 0
