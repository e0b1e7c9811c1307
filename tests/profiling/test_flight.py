from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.profiling.flight import (
    flight_profile,
    flight_seconds,
    flight_seconds_per_hour,
    hover_watts,
    max_speed,
    worth_g,
)
from edgekit.schema.figure import Figure
from edgekit.schema.power import PowerSpec, Vehicle

DRONE = Vehicle(
    name="v", mass_g=1000, computer_g=210, battery_wh=20, hover_w=100, flight_time_min=12,
    camera_hz=10, detection_m=8, braking_m_s2=4,
)  # fmt: skip
POWER = PowerSpec(scope="the computer", idle_w=2.0, active_w={"cpu": 3.0})


def figure(number: float, unit: str, low: float = 0.8, high: float = 1.5) -> Figure:
    return Figure(value=number, low=number * low, high=number * high, unit=unit,
                  origin="estimated", method="given")  # fmt: skip


def value(one: Figure | None) -> float:
    assert one is not None
    assert one.value is not None, one.reason
    return one.value


def test_hovering_by_hand() -> None:
    # 210 g on 1000 g: 1.21^1.5 = 1.1^3 = 1.331
    assert hover_watts(DRONE, 210) == pytest.approx(133.1)
    assert hover_watts(DRONE) == 100
    # 12 min of 100 W are 72 kJ; 133.1 W + 10.9 W take them in 500 s.
    assert flight_seconds(DRONE, 10.9, 210) == pytest.approx(500)


def test_speed_by_hand() -> None:
    # 0.1 s of latency and 0.1 s of camera, 8 m, 4 m/s2: v = 4 (sqrt(0.04 + 4) - 0.2)
    assert max_speed(0.1, 10, 8, 4) == pytest.approx(4 * (math.sqrt(4.04) - 0.2))
    # Inference of 0.5 s is slower than the camera: an obstacle waits for the next inference.
    assert max_speed(0.5, 10, 8, 4) == pytest.approx(4 * (math.sqrt(1 + 4) - 1))
    # Without any delay it is v^2 = 2 a d.
    assert max_speed(0, 1e12, 8, 4) == pytest.approx(8)


@given(
    st.floats(0, 5), st.floats(1, 240), st.floats(0.5, 100), st.floats(0.5, 20), st.floats(1.01, 3)
)
def test_speed_stops_in_time_and_is_monotone(
    latency: float, hz: float, distance: float, braking: float, more: float
) -> None:
    v = max_speed(latency, hz, distance, braking)
    tau = latency + max(1 / hz, latency)
    assert v * tau + v * v / (2 * braking) == pytest.approx(distance)
    assert max_speed(latency * more + 1e-3, hz, distance, braking) < v
    assert max_speed(latency, hz, distance * more, braking) > v
    assert max_speed(latency, hz, distance, braking * more) > v
    assert max_speed(latency, hz * more, distance, braking) >= v


@given(st.floats(0, 50), st.floats(0, 500), st.floats(0.1, 50))
def test_power_and_mass_cost_flight(watts: float, mass: float, more: float) -> None:
    flight = flight_seconds(DRONE, watts, mass)
    assert flight_seconds(DRONE, watts + more, mass) < flight
    assert flight_seconds(DRONE, watts, mass + more) < flight
    assert flight <= DRONE.flight_time_min * 60


@given(st.floats(-50, 50))
def test_saved_power_carries_what_it_is_worth(saved: float) -> None:
    payload = worth_g(DRONE, saved)
    carried = hover_watts(DRONE, 210 + payload) - hover_watts(DRONE, 210)
    assert carried == pytest.approx(saved, abs=1e-9)
    assert payload * saved >= 0


def test_an_hour_by_hand() -> None:
    # 0.05 s and 0.2 J above idle, at ten frames a second: 2 W, 2% of the hover power, 72 s of 3600.
    assert flight_seconds_per_hour(0.05, 0.2, DRONE) == pytest.approx(72)
    # Slower than the camera: 5 W all the time.
    assert flight_seconds_per_hour(1.0, 5.0, DRONE) == pytest.approx(180)


def test_a_profile_by_hand() -> None:
    # 50 ms and 350 mJ, 2 W of them idle: 250 mJ above, at 10 frames a second 2.5 W.
    found = flight_profile(figure(50, "ms"), figure(350, "mJ"), figure(7, "W"), POWER, DRONE)
    assert value(found.inference_w) == pytest.approx(2.5)
    assert (found.inference_w.low, found.inference_w.high) == pytest.approx((2.0, 3.75))
    assert value(found.hover_share_pct) == pytest.approx(2.5)
    idle, busy = 72_000 / 135.1, 72_000 / 137.6
    assert value(found.seconds_lost) == pytest.approx(idle - busy)
    assert value(found.computer_seconds_lost) == pytest.approx(720 - idle)
    assert value(found.flight_min) == pytest.approx(busy / 60)
    assert found.flight_min.low is not None
    assert found.flight_min.high is not None
    assert found.flight_min.low < busy / 60 < found.flight_min.high
    # The speed holds for the slow end of latency, 75 ms.
    assert value(found.max_speed_m_s) == pytest.approx(max_speed(0.075, 10, 8, 4))
    assert found.max_speed_m_s.high == pytest.approx(max_speed(0.04, 10, 8, 4))


def test_slower_than_the_camera_it_draws_its_power() -> None:
    # 500 ms: 2 a second, 7 W of which 2 are idle
    found = flight_profile(figure(500, "ms"), figure(3500, "mJ"), figure(7, "W"), POWER, DRONE)
    assert value(found.inference_w) == pytest.approx(5)


def test_what_is_not_known_says_what_to_give() -> None:
    bare = DRONE.model_copy(update={"mass_g": None, "detection_m": None})
    found = flight_profile(figure(50, "ms"), figure(350, "mJ"), figure(7, "W"), POWER, bare)
    assert "--vehicle mass_g=" in (found.computer_seconds_lost.reason or "")
    assert "--vehicle detection_m=" in (found.max_speed_m_s.reason or "")
    assert value(found.seconds_lost) > 0
    lost = Figure.missing("runs nowhere")
    found = flight_profile(lost, lost, lost, POWER, DRONE)
    assert found.inference_w.reason == "runs nowhere"
    assert found.max_speed_m_s.reason == "runs nowhere"
    with pytest.raises(ValueError, match="mass"):
        hover_watts(bare, 10)
    with pytest.raises(ValueError, match="mass"):
        worth_g(bare, 10)
    with pytest.raises(ValueError, match="more than it hovers with"):
        worth_g(DRONE, -134)
