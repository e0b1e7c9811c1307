"""Networks that the benchmarks draw without Keras have the work and weights that are published."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.graph.types import Graph

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
_WITHIN = 0.03

# Name; millions of multiply-accumulates and of parameters, None where the publication has none or
# counts otherwise (MobileBERT's words are stored once, its export has them where they go in and
# out).
PUBLISHED = [
    # ultralytics' tables, half of their FLOPs
    ("yolov8n 640", 4350, 3.2), ("yolov8s 640", 14300, 11.2), ("yolov8m 640", 39450, 25.9),
    ("yolov8l 640", 82600, 43.7), ("yolov8x 640", 128900, 68.2), ("yolov8n-seg 640", None, 3.4),
    ("yolov8s_seg 640", None, 11.8), ("yolov8s_pose 640", 15100, 11.6),
    ("yolo11n 640", 3250, 2.6), ("yolo11s 640", 10750, 9.4), ("yolo11m 640", 34000, 20.1),
    ("yolov11l 640", 43450, 25.3), ("yolov11x 640", 97450, 56.9),
    ("yolov5n 640", 2250, 1.9), ("yolov5n_seg 640", 3550, 2.0), ("yolov5m_seg 640", 35400, 22.0),
    ("yolov5l_seg 640", 73850, 47.9), ("yolov5s_relu 640", 8250, 7.2),
    # their papers' tables, Hailo's Model Zoo
    ("yolov10n 640", 3350, 2.3), ("yolov10s 640", 10800, 7.2),
    ("yolov5s csp 640", 8720, 7.46), ("yolov5m csp 640", 26085, 21.78),
    ("yolox_s_leaky 640", 13370, 8.96), ("yolox_m 640", 36900, 25.3),
    ("yolox_l_leaky 640", 77650, 54.17), ("yolov7-tiny 640", 6870, 6.22),
    ("yolov6n 640", 5530, 4.33), ("yolov3_416 416", 32970, 61.92),
    ("yolov3_gluon 608", 70350, None), ("tiny_yolov3 416", 2790, 8.85),
    ("tiny_yolov4 416", 3460, 6.05), ("yolov4_leaky 512", 45520, 64.33),
    ("fcn8_resnet_v1_18 1024x1920", 71410, 11.2), ("dncnn 321x481x1 20", 102630, 0.66),
    ("yolov10x 640", 80280, 29.5), ("yolov9c 640", 51050, 25.3),
    ("yolox_s_wide_leaky 640", 29730, 20.12), ("face_attr_resnet_v1_18 218x178", 1500, None),
    ("zero_dce_pp 400x600", 2420, None), ("espcn_x3 104x160", 380, None),
    ("vit_base_bn", 17594, 86.5), ("clip_vit_b_16_image_encoder", 17550, 86),
    ("clip_vit_b_32_image_encoder", 4400, 87.8),
    ("tinyclip_vit_61m_32_text_29m_laion400m_image_encoder", 3090, 61),
    ("clip_vit_b_16_text_encoder", 3000, 37.8), ("clip_resnet_50_text_encoder", 3000, 37.8),
    ("tinyclip_vit_39m_16_text_19m_yfcc15m_text_encoder", 1500, 19),
    ("resnext26_32x4d", 2480, 15.37), ("repvgg_a0_person_reid_512", 890, 7.68),
    ("arcface_r50", 6300, 31), ("arcface_mobilefacenet", 440, 2.04),
    ("tddfa_mobilenet_v1", 180, 3.26), ("resmlp12_relu", 3020, 15.77),
    # Qualcomm AI Hub (parameters), papers (work)
    ("unet 640x1280", None, 31.0), ("fcn_resnet50 520", None, 33.0),
    ("ddrnet23_slim 1024x2048", 36300, 5.7), ("ffnet_40s 1024x2048", None, 13.9),
    ("bisenet 720x960", None, 12.0), ("deeplabv3_plus_mobilenet 520", None, 5.8),
    ("sesr_m5 128", None, 0.343), ("midas 256", None, 16.6), ("vit_base", 17564, 86.6),
    ("deit_small", 4600, 22.1), ("deit_tiny", 1260, 5.7), ("convnext_tiny", 4460, 28.6),
    ("mobile_vit 256", 2000, 5.6), ("efficientformer", 1300, 12.3), ("levit", 305, 7.82),
    ("efficientvit_b2 224", 1600, 24.3),
    # Three times the 128 places of Sun et al. 2020, and scores of 30522 words for each of them.
    ("mobilebert 384", 3 * 5700 / 2 + 384 * 512 * (512 + 30522) * 1e-6, None),
    ("hrnet_pose 256x192", 7700, 28.5), ("posenet_mobilenet 513x257", None, 3.31),
    ("face_det_lite 480x640", None, 0.878), ("foot_track_net 480x640", None, 2.53),
    ("shufflenet_v2 48", 41, 1.37), ("shufflenet_v2 116", 146, 2.28), ("resnet50-v2-7", 4100, 25.6),
    # tensorflow/tpu's table of MnasNet-A1
    ("MnasNet-A1 dm0.35 224", 63.2, 1.7), ("MnasNet-A1 dm1 192", 232, 3.9),
    ("MnasNet-A1 dm1.4 96", 110.3, 6.1),
]  # fmt: skip


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Graph | None]:
    """The benchmarks' function, whose modules lie beside each other."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    from drawn import drawn

    return drawn


def near(found: int, published: float | None) -> bool:
    """Whether a count is within 3% of published millions, and of half of their last digit."""
    if published is None:
        return True
    digits = len(str(published).partition(".")[2])
    rounding = 0.5 * 10.0**-digits
    return abs(found * 1e-6 - published) <= _WITHIN * published + rounding


@pytest.mark.parametrize(("name", "macs", "parameters"), PUBLISHED)
def test_work_and_weights_are_those_published(
    name: str, macs: float | None, parameters: float | None, drawn: Callable[[str], Graph | None]
) -> None:
    graph = drawn(name)
    assert graph is not None
    assert near(graph.macs, macs), graph.macs
    assert near(graph.parameters, parameters), graph.parameters


@pytest.mark.parametrize("name", sorted({name for name, *_ in PUBLISHED})[::4])
def test_every_tensor_is_made_once_before_it_is_read(
    name: str, drawn: Callable[[str], Graph | None]
) -> None:
    graph = drawn(name)
    assert graph is not None
    known = {port.tensor for port in graph.inputs}
    known |= {tensor.index for tensor in graph.tensors if tensor.constant}
    for op in graph.ops:
        assert known.issuperset(op.inputs)
        assert known.isdisjoint(op.outputs)
        known.update(op.outputs)
    assert known == {tensor.index for tensor in graph.tensors}
    assert known.issuperset(port.tensor for port in graph.outputs)


def test_a_split_of_a_layer_keeps_its_values(drawn: Callable[[str], Graph | None]) -> None:
    graph = drawn("yolov8n 640")
    assert graph is not None
    splits = [op for op in graph.ops if op.name == "SPLIT"]
    assert len(splits) == 8
    for op in splits:
        read, *_ = (graph.tensors[index] for index in op.inputs)
        assert sum(graph.tensors[index].elements for index in op.outputs) == read.elements


@pytest.mark.parametrize(
    ("name", "source", "shape", "known"),
    [
        ("yolov8s", "Hailo Model Zoo public_models HAILO8", "1x640x640x3", "yolov8s 640"),
        ("yolov5s", "Hailo Model Zoo public_models HAILO8", "1x640x640x3", "yolov5s csp 640"),
        ("yolov5n", "rknn_model_zoo README FPS table", "1x3x640x640", "yolov5n 640"),
        ("fcn8_resnet_v1_18", "Hailo Model Zoo public_models HAILO8", "1x1024x1920x3",
         "fcn8_resnet_v1_18 1024x1920"),
        ("unet_segmentation", "quic/ai-hub-models perf.yaml", "224x224", "unet 640x1280"),
        ("efficientnet_b4", "quic/ai-hub-models perf.yaml", "380x380", "efficientnet_b4 224"),
        ("efficientnet_v2_s", "quic/ai-hub-models perf.yaml", "384x384", "efficientnet_v2_s 224"),
        ("shufflenet_v2", "quic/ai-hub-models perf.yaml", "224x224", "shufflenet_v2 48"),
        ("shufflenet_v2", "Tencent ncnn benchmark README", "1x224x224x3", "shufflenet_v2"),
    ],
)  # fmt: skip
def test_a_zoos_name_tells_the_size_of_the_input(
    name: str, source: str, shape: str, known: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    from names import plain

    assert plain(name, source, shape) == known


def test_networks_of_onnx_runtimes_have_its_names_and_its_order_of_axes(
    drawn: Callable[[str], Graph | None],
) -> None:
    from structures import channels_first

    graph = drawn("yolov8n 640 decoded")
    assert graph is not None
    onnx = channels_first(graph)
    assert onnx.macs == graph.macs
    assert onnx.tensors[onnx.inputs[0].tensor].shape == (1, 3, 640, 640)
    assert not [op.name for op in onnx.ops if op.name.isupper()]
    assert {"Conv", "Sigmoid", "Mul", "Concat", "MaxPool", "Softmax"} <= {o.name for o in onnx.ops}
