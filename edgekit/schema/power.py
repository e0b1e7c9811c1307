"""What a target draws, and the drone that carries it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgekit.schema.base import Document
from edgekit.schema.names import Origin, Precision

PowerClass = Literal["matrix", "depthwise", "other"]
"""Operators that draw alike: matrix products, depthwise convolutions, and those that move data.

What an inference costs once, and what crosses links, counts as "other".
"""


class ActivePower(Document):
    """What inference draws above idle on one processor, in one precision."""

    origin: Origin
    source: str | None = Field(None, description="id of a source")
    measurements: int = Field(0, ge=0, description="how many measurements the fit used")
    w: dict[PowerClass, Annotated[float, Field(ge=0)]] = Field(
        description="watts while operators of a class run"
    )
    pj_per_mac: float = Field(0.0, ge=0)
    pj_per_byte: float = Field(
        0.0, ge=0, description="of operators that exceed the cache: what comes from the DRAM"
    )
    mj_per_inference: float = Field(0.0, ge=0)


class Spread(Document):
    """How far measured average power was from the stated one, as factors."""

    low: float = Field(gt=0, description="measured over stated lies below it in one case of ten")
    high: float = Field(gt=0, description="measured over stated lies above it in one case of ten")
    method: str


class PowerSpec(Document):
    """Power of what `scope` says.

    Energy of an inference: idle power over its latency, plus what its operators draw above idle
    over the time that they run, plus energy per multiply-accumulate, per byte and per inference.
    What operators draw is said by `operators`, else by `active_w`.
    """

    scope: str
    idle_w: float = Field(ge=0)
    sleep_w: float | None = Field(
        None, ge=0, description="between inferences, where it sleeps; None: it idles"
    )
    active_w: dict[str, float] = Field(description="above idle, by processor")
    operators: dict[str, dict[Precision, ActivePower]] = Field(
        default_factory=dict, description="above idle, by processor and precision"
    )
    pj_per_mac: float = Field(0.0, ge=0)
    pj_per_byte: float = Field(0.0, ge=0)
    mj_per_inference: float = Field(0.0, ge=0)
    spread: Spread | None = Field(None, description="of average power; None: not compared")
    source: str | None = None


class Vehicle(Document):
    """The drone that carries the computer."""

    name: str
    mass_g: float | None = Field(None, gt=0, description="ready to fly, without the computer")
    computer_g: float | None = Field(
        None, ge=0, description="the computer with its camera, cooling and mount"
    )
    battery_wh: float = Field(gt=0)
    hover_w: float = Field(gt=0, description="without the computer")
    flight_time_min: float = Field(gt=0, description="hovering, without payload")
    camera_hz: float = Field(gt=0, description="no more inferences than frames")
    detection_m: float | None = Field(
        None, gt=0, description="distance from which an obstacle is detected"
    )
    braking_m_s2: float | None = Field(None, gt=0, description="deceleration when it stops")
    source: str | None = None
