"""The Cortex-M7 of the Coral Dev Board Micro: TFLM as coralmicro builds it."""

from __future__ import annotations

from edgekit.profiling.rules import edgetpu, tflm
from edgekit.profiling.rules.base import RuleSet

RULES = RuleSet(
    name="tflm-coralmicro",
    title="TensorFlow Lite for Microcontrollers with coralmicro",
    formats=("tflite",),
    rules=(*tflm.RULES.rules, edgetpu.dense_one_scale),
    source="https://github.com/google-coral/coralmicro",
    takes=tflm.RULES.takes | {"PosenetDecoderOp"},
    about="TensorFlow Lite for Microcontrollers of 2022, and coralmicro's decoder of PoseNet.",
)
