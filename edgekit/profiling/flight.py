"""What inference costs a drone: power against hovering, flight time, and a safe speed.

Hovering power grows with mass^1.5 (momentum theory: P = T^1.5 / sqrt(2 rho A); Leishman 2006,
"Principles of Helicopter Aerodynamics", section 2.2). Speed is limited by what is sensed: a drone
must be able to stop within the range of its detections (Kelly 1994, CMU-RI-TR-94-16; Liu,
Watterson, Tang and Kumar 2016, "High speed navigation for quadrotors with limited onboard
sensing"; Falanga, Kim and Scaramuzza 2019, "How fast is too fast? The role of perception latency
in high-speed sense and avoid", on dodging in place of stopping).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from edgekit.profiling.energy import NO_POWER
from edgekit.profiling.intervals import factors
from edgekit.schema.figure import Figure
from edgekit.schema.power import PowerSpec, Vehicle
from edgekit.schema.results import FlightProfile


def inferences_per_second(latency_s: float, vehicle: Vehicle) -> float:
    """Of continuous inference: as many as latency allows, and no more than there are frames."""
    return vehicle.camera_hz if latency_s <= 0 else min(vehicle.camera_hz, 1 / latency_s)


def hover_watts(vehicle: Vehicle, payload_g: float = 0.0) -> float:
    """Hovering power with a payload, in watts: P0 ((m + payload) / m)^1.5.

    The power of an ideal rotor in hover is T^1.5 / sqrt(2 rho A) (Leishman 2006); a constant
    figure of merit cancels.

    Args:
        vehicle: with `hover_w` at `mass_g`.
        payload_g: added mass in grams; may be negative.

    Raises:
        ValueError: there is a payload, and the vehicle's mass is not known or all taken away.
    """
    if not payload_g:
        return vehicle.hover_w
    if vehicle.mass_g is None or payload_g <= -vehicle.mass_g:
        raise ValueError("hovering with a payload needs the vehicle's mass")
    return float(vehicle.hover_w * (1 + payload_g / vehicle.mass_g) ** 1.5)


def flight_seconds(vehicle: Vehicle, electronics_w: float, payload_g: float = 0.0) -> float:
    """Hovering time with a payload that draws power, in seconds.

    The published flight time at the published hover power is the energy that the battery gives:
    T = T0 P0 / (P(payload) + electronics).

    Args:
        vehicle: the drone.
        electronics_w: power of the computer.
        payload_g: mass of the computer.
    """
    energy = vehicle.flight_time_min * 60 * vehicle.hover_w
    return energy / (hover_watts(vehicle, payload_g) + electronics_w)


def flight_seconds_per_hour(seconds: float, extra_j: float, vehicle: Vehicle) -> float:
    """Flight time that an hour of continuous inference costs, in seconds.

    extra watts / hover watts * 3600: in an hour the extra power takes extra_w * 3600 joules from
    the battery, which hovering would have used in extra_w * 3600 / hover_w seconds. The extra
    power is the energy above idle of one inference times inferences a second, which are no more
    than the camera has frames.

    Args:
        seconds: latency of one inference.
        extra_j: energy of one inference above idle, in joules.
        vehicle: the drone.
    """
    return extra_j * inferences_per_second(seconds, vehicle) / vehicle.hover_w * 3600


def max_speed(latency_s: float, camera_hz: float, detection_m: float, braking_m_s2: float) -> float:
    """Highest ground speed at which a detection still leaves room to stop, in m/s.

    An obstacle that comes into range just after a frame is seen a period later and known a latency
    after that: detection = v tau + v^2 / (2 a) with tau = latency + period. The period is the
    camera's, or the latency where inference is slower than the camera. The positive root is
    v = a (sqrt(tau^2 + 2 d / a) - tau), here in the form that does not cancel.

    Args:
        latency_s: of one inference, in seconds.
        camera_hz: frames a second.
        detection_m: distance from which an obstacle is detected.
        braking_m_s2: deceleration.
    """
    tau = latency_s + max(1 / camera_hz, latency_s)
    return 2 * detection_m / (tau + math.sqrt(tau**2 + 2 * detection_m / braking_m_s2))


def worth_g(vehicle: Vehicle, saved_w: float) -> float:
    """Payload that saved power carries at the same flight time, in grams.

    The mass whose hovering takes the saved power: M ((1 + saved / P(M))^(2/3) - 1), where M is the
    vehicle with its computer.

    Args:
        vehicle: with `mass_g`; `computer_g` counts if it is known.
        saved_w: negative for power that is spent.

    Raises:
        ValueError: the vehicle's mass is not known, or more is spent than it hovers with.
    """
    if vehicle.mass_g is None:
        raise ValueError("vehicle.mass_g is not known: give --vehicle mass_g=GRAMS")
    computer = vehicle.computer_g or 0.0
    hover = hover_watts(vehicle, computer)
    if saved_w < -hover:
        raise ValueError(f"{-saved_w:.3g} W are more than it hovers with, {hover:.3g} W")
    return float((vehicle.mass_g + computer) * ((1 + saved_w / hover) ** (2 / 3) - 1))


def flight_profile(
    latency_ms: Figure,
    energy_mj: Figure,
    power_w: Figure,
    power: PowerSpec | None,
    vehicle: Vehicle,
) -> FlightProfile:
    """What continuous inference costs in flight.

    Intervals follow those of power where inference is slower than the camera, else those of
    energy. The speed is that of the latency interval's high end: it must hold for slow inferences.

    Args:
        latency_ms: of one inference.
        energy_mj: of one inference.
        power_w: average over one inference.
        power: of the computer.
        vehicle: the drone.
    """
    speed = _speed(latency_ms, vehicle)
    if latency_ms.value is None or energy_mj.value is None or power is None:
        none = Figure.missing(latency_ms.reason or energy_mj.reason or NO_POWER)
        return FlightProfile(
            inference_w=none, hover_share_pct=none, seconds_lost=none,
            computer_seconds_lost=_computer(power, vehicle), flight_min=none, max_speed_m_s=speed,
        )  # fmt: skip
    seconds, idle = latency_ms.value * 1e-3, power.idle_w
    rate = inferences_per_second(seconds, vehicle)
    value = max((energy_mj.value * 1e-3 - idle * seconds) * rate, 0.0)
    span = factors(energy_mj if rate >= vehicle.camera_hz else power_w)
    ends = [value * span.low, value * span.high] if span else [None, None]
    whose = "energy" if rate >= vehicle.camera_hz else "power"
    how = f"interval: that of {whose}" if span else f"no interval: {whose} has none"

    def figure(unit: str, method: str, of: Callable[[float], float]) -> Figure:
        low, high = sorted(of(end) for end in ends if end is not None) if span else (None, None)
        return Figure(
            value=of(value), low=low, high=high, unit=unit, origin="estimated",
            method=f"{method}; {how}",
        )  # fmt: skip

    known = vehicle.mass_g is not None and vehicle.computer_g is not None
    carried = (vehicle.computer_g or 0.0) if known else 0.0
    mass = f"with {carried:g} g of computer" if known else "without the computer's mass: unknown"
    idling = flight_seconds(vehicle, idle, carried)
    return FlightProfile(
        inference_w=figure(
            "W", f"energy above idle at {rate:.3g} inferences a second", lambda w: w
        ),
        hover_share_pct=figure(
            "%", f"of {vehicle.hover_w:g} W of hover power", lambda w: 100 * w / vehicle.hover_w
        ),
        seconds_lost=figure(
            "s",
            f"hovering time lost to inference, {mass}",
            lambda w: idling - flight_seconds(vehicle, idle + w, carried),
        ),
        computer_seconds_lost=_computer(power, vehicle),
        flight_min=figure(
            "min",
            f"hovering with continuous inference, {mass}",
            lambda w: flight_seconds(vehicle, idle + w, carried) / 60,
        ),
        max_speed_m_s=speed,
    )


def _computer(power: PowerSpec | None, vehicle: Vehicle) -> Figure:
    if power is None:
        return Figure.missing(NO_POWER)
    if vehicle.mass_g is None or vehicle.computer_g is None:
        unknown = "mass_g" if vehicle.mass_g is None else "computer_g"
        return Figure.missing(f"vehicle.{unknown} is not known: give --vehicle {unknown}=GRAMS")
    without = flight_seconds(vehicle, 0.0)
    lost = without - flight_seconds(vehicle, power.idle_w, vehicle.computer_g)
    return Figure(
        value=lost, unit="s", origin="estimated",
        method=f"hovering time lost to {vehicle.computer_g:g} g (hover power grows with mass^1.5) "
        f"and {power.idle_w:g} W idle; no interval: masses and idle power are taken as exact",
    )  # fmt: skip


def _speed(latency_ms: Figure, vehicle: Vehicle) -> Figure:
    if latency_ms.value is None:
        return Figure.missing(latency_ms.reason or "the latency is not known")
    distance, braking = vehicle.detection_m, vehicle.braking_m_s2
    if distance is None or braking is None:
        key, unit = ("detection_m", "METRES") if distance is None else ("braking_m_s2", "M/S2")
        return Figure.missing(f"vehicle.{key} is not known: give --vehicle {key}={unit}")

    def at(milliseconds: float) -> float:
        return max_speed(milliseconds * 1e-3, vehicle.camera_hz, distance, braking)

    low, high = latency_ms.low, latency_ms.high
    slow = latency_ms.value if high is None else high
    end = "the latency, which has no interval" if high is None else "the latency's high end"
    return Figure(
        value=at(slow),
        low=None if high is None else at(slow),
        high=None if low is None else at(low),
        unit="m/s",
        origin="estimated",
        method=f"stops within {distance:g} m at {braking:g} m/s2 with {vehicle.camera_hz:g} frames "
        f"a second and {end} of {slow:.3g} ms",
    )
