"""Rule sets: which operators a processor's runtime takes, one file a rule set."""

from edgekit.base.registry import Registry
from edgekit.profiling.rules.base import OpView, Rule, RuleSet, rule

RULE_SETS: Registry[RuleSet] = Registry(
    "rule set",
    {
        "coral-host": "edgekit.profiling.rules.coral_host:RULES",
        "cubeai": "edgekit.profiling.rules.cubeai:RULES",
        "dpu": "edgekit.profiling.rules.dpu:RULES",
        "edgetpu": "edgekit.profiling.rules.edgetpu:RULES",
        "ethos-u55": "edgekit.profiling.rules.ethos_u:U55",
        "ethos-u85": "edgekit.profiling.rules.ethos_u:U85",
        "hailo": "edgekit.profiling.rules.hailo:RULES",
        "hexagon": "edgekit.profiling.rules.hexagon:RULES",
        "hls4ml": "edgekit.profiling.rules.hls4ml:RULES",
        "litert-cpu": "edgekit.profiling.rules.litert_cpu:RULES",
        "litert-gpu": "edgekit.profiling.rules.litert_gpu:RULES",
        "litert-xnnpack": "edgekit.profiling.rules.litert_xnnpack:RULES",
        "onnxruntime-coreml": "edgekit.profiling.rules.onnxruntime_coreml:RULES",
        "onnxruntime-cpu": "edgekit.profiling.rules.onnxruntime_cpu:RULES",
        "onnxruntime-nnapi": "edgekit.profiling.rules.onnxruntime_nnapi:RULES",
        "onnxruntime-xnnpack": "edgekit.profiling.rules.onnxruntime_xnnpack:RULES",
        "openvino-cpu": "edgekit.profiling.rules.openvino_cpu:RULES",
        "openvino-gpu": "edgekit.profiling.rules.openvino_gpu:RULES",
        "openvino-npu": "edgekit.profiling.rules.openvino_npu:RULES",
        "qnn-htp": "edgekit.profiling.rules.qnn_htp:RULES",
        "rknn": "edgekit.profiling.rules.rknn:RULES",
        "systolic": "edgekit.profiling.rules.systolic:RULES",
        "tensorrt": "edgekit.profiling.rules.tensorrt:RULES",
        "tflm": "edgekit.profiling.rules.tflm:RULES",
        "tflm-cmsis-nn": "edgekit.profiling.rules.tflm_cmsis_nn:RULES",
        "tflm-coralmicro": "edgekit.profiling.rules.tflm_coralmicro:RULES",
    },
    group="rule_sets",
)

__all__ = ["RULE_SETS", "OpView", "Rule", "RuleSet", "rule"]
