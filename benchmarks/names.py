"""Other names of networks: model zoos name theirs by framework, data set, size and operations."""

from __future__ import annotations

import re

_VITIS = r"(?:tf2?|pt|cf)_"
_IMAGENET = r"_imagenet_224_224_"
_LARGE = r"_imagenet_299_299_"

# Pruned networks, which state what was pruned before the operations (0.3_5.8G), match none.
_KNOWN = [
    (rf"{_VITIS}mobilenetv1(?:_1\.0)?{_IMAGENET}1\.1[45]G", "mobilenet v1"),
    (rf"{_VITIS}mobilenetv2(?:_1\.0)?{_IMAGENET}(?:602M|0\.59G)", "mobilenet v2"),
    (rf"{_VITIS}mobilenetv2_1\.4{_IMAGENET}1\.16G", "mobilenet v2 1.4 imagenet"),
    (rf"{_VITIS}Efficientnet-lite{_IMAGENET}0\.77G", "efficientnet-lite0"),
    (r"tf_efficientnet-edgetpu-([SML])_imagenet_(\d+)_\2_\S+", r"efficientnet-edgetpu-\1"),
    (rf"{_VITIS}inceptionv1{_IMAGENET}3(?:\.16)?G", "googlenet"),
    (rf"{_VITIS}inceptionv3{_LARGE}11\.[45]G", "inception v3"),
    (rf"{_VITIS}inceptionv4{_LARGE}24\.5(?:5|6)?G", "inception v4"),
    (rf"{_VITIS}inceptionresnetv2{_LARGE}26\.35G", "inception-resnet-v2"),
    (rf"{_VITIS}resnet18{_IMAGENET}3\.65G", "resnet18"),
    (r"pt_vehicle-\w+-classification_\w+_224_224_3\.64G", "resnet18"),
    (rf"pt_resnet50{_IMAGENET}8\.2G", "resnet50 torchvision"),
    (rf"tf_(?:resnetv1_50|resnet50){_IMAGENET}6\.97G", "resnet50 slim"),
    (rf"tf_resnetv1_(101|152){_IMAGENET}(?:14\.4|21\.83)G", r"resnet\1 slim"),
    (rf"{_VITIS}resnetv2_(101|152){_LARGE}\S+", r"resnet_v2_\1_299"),
    (rf"{_VITIS}vgg16{_IMAGENET}30\.96G", "vgg16"),
    (rf"{_VITIS}vgg19{_IMAGENET}39\S*", "vgg19"),
    # Hailo Model Zoo
    (r"resnet_v1_50", "resnet50 slim"),
    (r"efficientnet_lite(\d)", r"efficientnet-lite\1"),
    (r"mobilenet_v2_(1\.[04])", r"mobilenet v2 \1 imagenet"),
    (r"resnet_v1_18", "resnet18"),
    (r"squeezenet_v1\.1", "squeezenet1_1"),
    (r"dncnn3", "dncnn 321x481x1 20"),
    (r"dncnn_color_blind", "dncnn 321x481x3 20"),
    # Published at 57 ms on an Edge TPU behind USB 3.0: its 56 MB of weights would pass at 1 GB/s,
    # twice what that bus can carry, so what was measured is another network.
    (r"Inception-ResNet V2", "unknown"),
    (r"ResNet18", "resnet18"),
    # esp-nn's 66 million multiply-accumulates are those that the publication first stated.
    (r"MobileNetV3 Small", "mobilenet v3 small"),
    (r"MLPerf Tiny IC \(ResNet-8\)", "MLPerf Tiny IC ResNet-8"),
    (r"MLPerf Tiny KWS \(DS-CNN\)", "MLPerf Tiny KWS DS-CNN"),
    (r"MLPerf Tiny VWW \(MobileNetV1 0\.25 96x96\)", "MLPerf Tiny VWW MobileNetV1-0.25-96"),
]

# Their inputs have several sizes, their heads as many classes as the data set.
_ST_ZOO = "ST STM32 AI model zoo README"
_ST_CLASSES = {"flowers": 5, "food-101": 101, "person": 2}

_AI_HUB = "quic/ai-hub-models perf.yaml"
# With the sizes that their repository profiles, where the table has those of the weights' training:
# all classifiers of torchvision see 224 x 224 pixels (_shared/imagenet_classifier/model.py).
_AI_HUB_NAMES = {
    "efficientnet_b4": "efficientnet_b4 224", "efficientnet_v2_s": "efficientnet_v2_s 224",
    "googlenet": "inception_v1", "shufflenet_v2": "shufflenet_v2 48",
    "vit": "vit_base", "mobile_vit": "mobile_vit 256", "efficientvit_b2_cls": "efficientvit_b2 224",
    "yolov7": "yolov7-tiny 640 decoded", "yolov8_det": "yolov8n 640 decoded",
    "yolov10_det": "yolov10n 640 decoded", "yolox": "yolox-s 640 decoded",
    "deeplabv3_plus_mobilenet": "deeplabv3_plus_mobilenet 520",
    "ddrnet23_slim": "ddrnet23_slim 1024x2048", "ffnet_40s": "ffnet_40s 1024x2048",
    "fcn_resnet50": "fcn_resnet50 520", "bisenet": "bisenet 720x960", "midas": "midas 256",
    "posenet_mobilenet": "posenet_mobilenet 513x257", "unet_segmentation": "unet 640x1280",
    "mobile_bert_uncased_google": "mobilebert 384", "sesr_m5": "sesr_m5 128",
    "face_det_lite": "face_det_lite 480x640", "foot_track_net": "foot_track_net 480x640",
    "hrnet_pose": "hrnet_pose 256x192",
}  # fmt: skip
# Zoos whose names of detectors and the like leave out the size of the input.
_UNSIZED = re.compile(r"Hailo Model Zoo|rknn_model_zoo")
_DETECTOR = re.compile(r"(?:tiny_)?yolo.*|fcn8.*|face_attr.*|zero_dce_pp|espcn_x\d")
_HAILO_NAMES = {
    "yolov5s": "yolov5s csp", "yolov5m": "yolov5m csp",
}  # fmt: skip

_TORCHVISION = {"NVIDIA-AI-IOT/torch2trt docs/benchmarks", "quic/ai-hub-models perf.yaml"}


def plain(name: str, source: str = "", shape: str = "") -> str:
    """The name by which the structure of a network is known here; the same if it has no other.

    Args:
        name: as published.
        source: title of the publication.
        shape: of the input, such as 1x224x224x3.
    """
    zoo = re.fullmatch(r"MobileNet (v[12]) ([\d.]+) \w+ (\S+)", name)
    if source == _ST_ZOO and zoo and zoo[3] in _ST_CLASSES:
        return f"mobilenet {zoo[1]} {zoo[2]} {shape.split('x')[1]} {_ST_CLASSES[zoo[3]]} classes"
    if source in _TORCHVISION and re.fullmatch(r"resnet(50|101|152)", name):
        return f"{name} torchvision"
    if source == _AI_HUB and name in _AI_HUB_NAMES:
        return _AI_HUB_NAMES[name]
    if _UNSIZED.search(source) and _DETECTOR.fullmatch(name):
        return f"{_HAILO_NAMES.get(name, name) if 'Hailo' in source else name} {_sides(shape)}"
    for pattern, known in _KNOWN:
        match = re.fullmatch(pattern, name)
        if match:
            return match.expand(known)
    return name


def _sides(shape: str) -> str:
    """Height and width of an image, once if they are the same."""
    sides = [int(part) for part in re.findall(r"\d+", shape) if int(part) > 3]
    return "x".join(str(side) for side in dict.fromkeys(sides))
