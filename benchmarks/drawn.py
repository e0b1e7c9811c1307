"""Names of the networks that are drawn layer by layer."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import detectors
import mnasnet
import segmenters
import transformers
import vision
import yolo

from edgekit.graph.types import Graph

_SIZE = r" (?P<size>\d+)"
_SIDES = r" (?P<height>\d+)x(?P<width>\d+)"
_DECODED = r"(?: (?P<decoded>decoded))?"

_NETWORKS: list[tuple[str, Callable[..., Graph]]] = [
    (rf"yolov8(?P<scale>[nsmlx])(?:[-_](?P<task>seg|pose))?{_SIZE}{_DECODED}", yolo.yolov8),
    (rf"yolov10(?P<scale>[nsx]){_SIZE}{_DECODED}", yolo.yolov10),
    (rf"yolo(?:v)?11(?P<scale>[nsmlx]){_SIZE}", yolo.yolov11),
    (rf"yolov9c{_SIZE}", yolo.yolov9c),
    (rf"yolov5(?P<scale>[nsml])(?:[-_](?P<task>seg))?{_SIZE}", yolo.yolov5),
    (rf"yolov5(?P<scale>[nsml])_(?P<act>relu){_SIZE}", yolo.yolov5),
    (rf"yolov5(?P<scale>[sm]) csp{_SIZE}", detectors.yolov5_csp),
    (rf"yolox[-_](?P<scale>[sml]|s_wide)(?:_(?P<act>leaky))?{_SIZE}{_DECODED}", detectors.yolox),
    (rf"yolov7[-_]tiny{_SIZE}{_DECODED}", detectors.yolov7_tiny),
    (rf"yolov6n(?:_0\.2\.1)?{_SIZE}", detectors.yolov6n),
    (rf"yolov3_(?:416|gluon|gluon_416){_SIZE}", detectors.yolov3),
    (rf"tiny_yolov3{_SIZE}", detectors.tiny_yolov3),
    (rf"tiny_yolov4{_SIZE}", detectors.tiny_yolov4),
    (rf"yolov4_leaky{_SIZE}", detectors.yolov4_leaky),
    (rf"unet{_SIDES}", segmenters.unet),
    (rf"fcn_resnet50{_SIZE}", segmenters.fcn_resnet50),
    (rf"fcn8_resnet_v1_18{_SIDES}", segmenters.fcn8_resnet18),
    (rf"ddrnet23_slim{_SIDES}", segmenters.ddrnet23_slim),
    (rf"ffnet_40s{_SIDES}", segmenters.ffnet_40s),
    (rf"bisenet{_SIDES}", segmenters.bisenet),
    (rf"deeplabv3_plus_mobilenet{_SIZE}", segmenters.deeplab_plus_mobilenet),
    (rf"sesr_m5{_SIZE}", segmenters.sesr_m5),
    (rf"dncnn{_SIDES}x(?P<channels>\d) (?P<depth>\d+)", segmenters.dncnn),
    (rf"espcn_x(?P<factor>\d){_SIDES}", segmenters.espcn),
    (rf"zero_dce_pp{_SIDES}", segmenters.zero_dce),
    (rf"midas{_SIZE}", segmenters.midas_small),
    (rf"MnasNet-A1 dm(?P<alpha>[\d.]+){_SIZE}", mnasnet.mnasnet_a1),
    (r"(?:vit|deit)_(?P<size>tiny|small|base)(?: (?P<patch>\d+)|_(?P<norm>bn))?", transformers.vit),
    (r"clip_vit_b_(?P<patch>\d+)_image_encoder", transformers.clip_image),
    (r"tinyclip_vit_61m_(?P<patch>32)_text_29m_laion400m_image_encoder",
     partial(transformers.clip_image, width="640")),
    (r"clip_(?:vit_b_(?:16|32)|resnet_50)_text_encoder", transformers.clip_text),
    (r"tinyclip_vit_39m_16_text_19m_yfcc15m_text_encoder",
     partial(transformers.clip_text, layers="6")),
    (r"convnext_tiny", transformers.convnext_tiny),
    (rf"mobile_vit{_SIZE}", transformers.mobilevit_small),
    (r"efficientformer(?:_l1)?", transformers.efficientformer_l1),
    (r"levit", transformers.levit_128s),
    (rf"efficientvit_b2{_SIZE}", transformers.efficientvit_b2),
    (r"mobilebert (?P<places>\d+)", transformers.mobilebert),
    (r"resmlp12_relu", transformers.resmlp12),
    (rf"hrnet_pose{_SIDES}", vision.hrnet_w32_pose),
    (rf"posenet_mobilenet{_SIDES}", vision.posenet_mobilenet),
    (rf"face_det_lite{_SIDES}", vision.face_det_lite),
    (rf"foot_track_net{_SIDES}", vision.foot_track_net),
    (r"resnet50-v2-7", vision.resnet50_v2),
    (rf"face_attr_resnet_v1_18{_SIDES}", vision.face_attributes),
    (r"resnext26_32x4d", vision.resnext26),
    (r"repvgg_a0_person_reid_(?P<embedding>\d+)", vision.repvgg_a0_person),
    (r"arcface_r50", vision.arcface_r50),
    (r"arcface_mobilefacenet", vision.mobilefacenet),
    (r"shufflenet_v2 (?P<channels>\d+)", vision.shufflenet_v2),
    (r"tddfa_mobilenet_v1", vision.tddfa_mobilenet_v1),
]  # fmt: skip


def drawn(name: str) -> Graph | None:
    """The graph in fp32 of a network by its name and the size of its input, or None."""
    for pattern, draw in _NETWORKS:
        match = re.fullmatch(pattern, name)
        if match:
            return draw(**{key: value for key, value in match.groupdict().items() if value})
    return None
