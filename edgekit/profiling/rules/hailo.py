"""Hailo's accelerators through the Dataflow Compiler, which reads ONNX and TFLite.

Its list of operators is not public; these are the classes that the networks of Hailo's Model Zoo
have, which run on the accelerator whole: attention and layer normalization among them.
"""

from __future__ import annotations

from edgekit.profiling.rules.base import RuleSet
from edgekit.profiling.rules.systolic import int8_only, static_shapes

RULES = RuleSet(
    name="hailo",
    title="Hailo's compiler",
    rules=(int8_only, static_shapes),
    source="https://github.com/hailo-ai/hailo_model_zoo",
    kinds=frozenset(
        {
            "conv", "pointwise", "depthwise", "dense", "matmul", "pool", "reduce", "elementwise",
            "activation", "normalization", "data", "resize", "quantize",
        }
    ),
    about=__doc__ or "",
)  # fmt: skip
