"""Further networks for images: faces, poses and classes; see the functions."""

from __future__ import annotations

from layers import Layers
from segmenters import basic, bottleneck, resnet18_stages

from edgekit.graph.types import Graph


def hrnet_w32_pose(height: str, width: str) -> Graph:
    """HRNet-W32 for 17 joints (Sun et al. 2019)."""
    net = Layers()
    x = net.conv(net.conv(net.input(int(height), int(width), 3), 64, 3, 2), 64, 3, 2)
    for index in range(4):
        x = bottleneck(net, x, 64, project=not index)
    branches = [net.conv(x, 32), net.conv(x, 64, 3, 2)]

    def fused(branches: list[int], outputs: int) -> list[int]:
        made = []
        for level in range(outputs):
            filters = 32 * 2**level
            total: int | None = None
            for source, branch in enumerate(branches):
                part = branch
                if source > level:
                    part = net.conv(part, filters, 1, act="linear")
                    part = net.like(part, branches[level], "NEAREST_NEIGHBOR")
                for step in range(source, level):
                    last = step == level - 1
                    channels = filters if last else net.channels(branch)
                    part = net.conv(part, channels, 3, 2, "linear" if last else "relu")
                total = part if total is None else net.add(total, part)
            assert total is not None
            made.append(total)
        return made

    for stage, modules in ((2, 1), (3, 4), (4, 3)):
        if stage > 2:
            branches.append(net.conv(branches[-1], 32 * 2 ** (stage - 1), 3, 2))
        for module in range(modules):
            for level, branch in enumerate(branches):
                for _ in range(4):
                    branch = basic(net, branch, net.channels(branch))
                branches[level] = branch
            last = stage == 4 and module == modules - 1
            branches = fused(branches, 1 if last else len(branches))
    return net.graph(net.conv(branches[0], 17, 1, act="linear"))


def _mobilenet_v1(output_stride: int) -> list[tuple[int, int]]:
    """Channels and strides of MobileNetV1's blocks, those after the output stride not strided."""
    rows = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5]
    return [*rows, (1024, 2 if output_stride > 16 else 1), (1024, 1)]


def posenet_mobilenet(height: str, width: str) -> Graph:
    """PoseNet (Papandreou et al. 2018) on MobileNetV1, output stride 16, three heads and maxima."""
    net = Layers("relu6")
    x = net.conv(net.input(int(height), int(width), 3), 32, 3, 2)
    for filters, stride in _mobilenet_v1(16):
        x = net.conv(net.depthwise(x, 3, stride), filters, 1)
    heat = net.act(net.conv(x, 17, 1, act="linear"), "sigmoid")
    ends = [net.conv(x, count, 1, act="linear") for count in (34, 32, 32)]
    return net.graph(heat, *ends, net.pool(heat, 3, 1))


def _squeezed(net: Layers, x: int) -> int:
    """Squeeze and excitation by four."""
    weight = net.conv(net.mean(x), net.channels(x) // 4, 1)
    return net.mul(x, net.conv(weight, net.channels(x), 1, act="sigmoid"))


def _small_fast(
    net: Layers, x: int, rows: tuple[tuple[int, int, int, bool, int], ...], keep: tuple[int, ...]
) -> list[int]:
    """MobileNetV3's blocks with full convolutions: kernel, expansion, channels, SE, stride."""
    kept = []
    for number, (kernel, expand, filters, excited, stride) in enumerate(rows):
        inner = net.conv(x, expand, 1)
        if kernel == 3:
            inner = net.conv(inner, filters, 3, stride)
        else:
            inner = net.conv(net.conv(inner, filters), filters, 3, stride)
        inner = _squeezed(net, inner) if excited else inner
        if stride == 1:
            same = net.channels(x) == filters
            inner = net.add(inner, x if same else net.conv(x, filters, 1, act="linear"))
        x = inner
        if number in keep:
            kept.append(x)
    return [*kept, x]


def _context(net: Layers, x: int) -> int:
    width = net.channels(x)
    up = net.conv(x, width // 2)
    inner = net.conv(x, width // 4)
    down = net.conv(net.conv(inner, width // 4), width // 4)
    return net.concat([up, net.concat([net.conv(inner, width // 4), down])])


def _merged(net: Layers, levels: list[int], width: int) -> int:
    """From the coarsest level up, each added to the next finer one."""
    x = net.conv(levels[-1], width, 1)
    for level in reversed(levels[:-1]):
        x = net.add(net.conv(net.upsample(x), width), net.conv(level, width, 1))
    return x


def face_det_lite(height: str, width: str) -> Graph:
    """Qualcomm's lightweight face detector (quic/ai-hub-models), of grey images."""
    net = Layers()
    x = net.conv(net.input(int(height), int(width), 1), 16, 3, 2)
    rows = (
        (3, 16, 16, False, 2), (3, 64, 32, False, 2), (3, 96, 32, False, 1), (5, 96, 32, True, 2),
        (5, 224, 32, True, 1), (5, 224, 32, True, 1), (5, 128, 64, True, 1),
        (5, 160, 64, True, 1), (5, 256, 96, True, 2),
    )  # fmt: skip
    x = _context(net, _merged(net, _small_fast(net, x, rows, (2, 7)), 32))
    return net.graph(*(net.conv(x, values, 1, act="linear") for values in (1, 4, 10)))


def foot_track_net(height: str, width: str) -> Graph:
    """Qualcomm's detector of persons, faces and feet (quic/ai-hub-models)."""
    net = Layers()
    x = net.conv(net.input(int(height), int(width), 3), 16, 3, 2)
    rows = (
        (3, 16, 16, False, 1), (3, 64, 16, False, 2), (3, 64, 16, False, 1), (5, 96, 32, True, 2),
        (5, 96, 32, True, 1), (5, 128, 32, True, 1), (3, 128, 64, False, 2), (3, 128, 64, False, 1),
        (3, 160, 64, False, 1), (3, 160, 64, False, 1), (3, 256, 64, True, 1),
        (3, 320, 64, True, 1), (5, 320, 64, True, 1), (5, 320, 96, True, 2), (5, 480, 96, True, 1),
    )  # fmt: skip
    x = _context(net, _merged(net, _small_fast(net, x, rows, (2, 5, 12)), 64))

    def head(values: int, act: str = "linear") -> int:
        return net.act(net.conv(net.conv(x, 64), values, 1, act="linear"), act)

    heat, boxes = [], []
    for _ in range(3):
        heat.append(head(1, "sigmoid"))
        boxes.append(head(4))
    return net.graph(net.concat(heat), net.concat(boxes), head(34), head(17, "sigmoid"))


def resnext26() -> Graph:
    """ResNeXt-26 32x4d (Xie et al. 2017), two blocks a stage."""
    net = Layers()
    x = net.pool(net.conv(net.input(224, 224, 3), 64, 7, 2), 3, 2)
    for number, width in enumerate((128, 256, 512, 1024)):
        for index in range(2):
            stride = 2 if number and not index else 1
            inner = net.conv(net.conv(x, width, 1), width, 3, stride, groups=32)
            inner = net.conv(inner, 2 * width, 1, act="linear")
            short = x if index else net.conv(x, 2 * width, 1, stride, "linear")
            x = net.add(short, inner)
    return net.classifier(x)


def face_attributes(height: str, width: str) -> Graph:
    """ResNet-18 (He et al. 2016) with two answers for each of forty attributes of a face."""
    net = Layers()
    *_, x = resnet18_stages(net, net.input(int(height), int(width), 3))
    return net.classifier(x, 80)


def repvgg_a0_person(embedding: str) -> Graph:
    """RepVGG-A0 (Ding et al. 2021) as it is deployed, for persons of 256 x 128 pixels."""
    net = Layers()
    x = net.conv(net.input(256, 128, 3), 48, 3, 2)
    for depth, width in zip((2, 4, 14, 1), (48, 96, 192, 1280), strict=True):
        for index in range(depth):
            x = net.conv(x, width, 3, 1 if index else 2)
    return net.graph(net.dense(net.reshape(net.mean(x), 1280), int(embedding)))


def arcface_r50() -> Graph:
    """IResNet-50 of insightface (Deng et al. 2019) without its dense layer, as Hailo counts it."""
    net = Layers("prelu")
    x = net.conv(net.input(112, 112, 3), 64)
    for repeats, width in zip((3, 4, 14, 3), (64, 128, 256, 512), strict=True):
        for index in range(repeats):
            stride = 1 if index else 2
            inner = net.conv(net.conv(net.shift(net.scale(x)), width), width, 3, stride, "linear")
            short = x if index else net.conv(x, width, 1, stride, "linear")
            x = net.add(short, inner)
    return net.graph(x)


def tddfa_mobilenet_v1() -> Graph:
    """3DDFA (Guo et al. 2020) on MobileNetV1 of 120 x 120 pixels: 62 parameters of a face."""
    net = Layers("relu")
    x = net.conv(net.input(120, 120, 3), 32, 3, 2)
    for filters, stride in _mobilenet_v1(32):
        x = net.conv(net.depthwise(x, 3, stride), filters, 1)
    return net.classifier(x, 62)


def mobilefacenet() -> Graph:
    """MobileFaceNet (Chen et al. 2018), twice as wide, as insightface has it."""
    net = Layers("prelu")
    x = net.depthwise(net.conv(net.input(112, 112, 3), 128, 3, 2))

    def block(x: int, inner: int, filters: int, stride: int) -> int:
        mixed = net.depthwise(net.conv(x, inner, 1), 3, stride)
        mixed = net.conv(mixed, filters, 1, act="linear")
        return net.add(x, mixed) if stride == 1 else mixed

    rows = ((128, 128, 128, 4), (256, 256, 256, 6), (512, 256, 256, 2))
    for first, inner, filters, repeats in rows:
        x = block(x, first, filters, 2)
        for _ in range(repeats):
            x = block(x, inner, filters, 1)
    x = net.conv(x, 512, 1)
    x = net.whole(x)
    return net.graph(net.dense(net.reshape(x, 512), 512))


def shufflenet_v2(channels: str) -> Graph:
    """ShuffleNetV2 (Ma et al. 2018) of torchvision, by the channels of its first stage: 48, 116."""
    net = Layers()
    x = net.pool(net.conv(net.input(224, 224, 3), 24, 3, 2), 3, 2)

    def mixed(x: int, width: int, stride: int) -> int:
        inner = net.depthwise(net.conv(x, width, 1), 3, stride, act="linear")
        return net.conv(inner, width, 1)

    for number, repeats in enumerate((4, 8, 4)):
        width = int(channels) * 2**number // 2
        for index in range(repeats):
            if index:
                kept, x = net.split(x, 2)
                parts = [kept, mixed(x, width, 1)]
            else:
                kept = net.conv(net.depthwise(x, 3, 2, act="linear"), width, 1)
                parts = [kept, mixed(x, width, 2)]
            joined = net.concat(parts)
            _, height, columns, both = net.shape(joined)
            shuffled = net.transpose(
                net.reshape(joined, height, columns, 2, both // 2), height, columns, both // 2, 2
            )
            x = net.reshape(shuffled, height, columns, both)
    return net.classifier(net.conv(x, 1024, 1))


def resnet50_v2() -> Graph:
    """ResNet-50 of the second form (He et al. 2016), as ONNX's model zoo has it from Gluon."""
    net = Layers()
    x = net.pool(net.conv(net.input(224, 224, 3), 64, 7, 2), 3, 2)
    for stage, repeats in enumerate((3, 4, 6, 3)):
        width = 64 * 2**stage
        for index in range(repeats):
            stride = 2 if stage and not index else 1
            ready = net.shift(net.scale(x))
            inner = net.conv(net.conv(ready, width, 1), width, 3, stride)
            inner = net.conv(inner, 4 * width, 1, act="linear")
            x = net.add(x if index else net.conv(ready, 4 * width, 1, stride, "linear"), inner)
    return net.classifier(net.shift(net.scale(x)))
