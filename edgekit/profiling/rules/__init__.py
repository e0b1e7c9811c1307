"""Rule sets: which operators a processor's runtime takes, one file a rule set."""

from edgekit.base.registry import Registry
from edgekit.profiling.rules.base import OpView, Rule, RuleSet, rule

RULE_SETS: Registry[RuleSet] = Registry(
    "rule set",
    {
        "coral-host": "edgekit.profiling.rules.coral_host:RULES",
        "cubeai": "edgekit.profiling.rules.cubeai:RULES",
        "edgetpu": "edgekit.profiling.rules.edgetpu:RULES",
        "ethos-u55": "edgekit.profiling.rules.ethos_u:U55",
        "ethos-u85": "edgekit.profiling.rules.ethos_u:U85",
        "litert-cpu": "edgekit.profiling.rules.litert_cpu:RULES",
        "onnxruntime-cpu": "edgekit.profiling.rules.onnxruntime_cpu:RULES",
        "openvino-cpu": "edgekit.profiling.rules.openvino_cpu:RULES",
        "systolic": "edgekit.profiling.rules.systolic:RULES",
        "tflm": "edgekit.profiling.rules.tflm:RULES",
    },
    group="rule_sets",
)

__all__ = ["RULE_SETS", "OpView", "Rule", "RuleSet", "rule"]
