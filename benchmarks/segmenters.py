"""Networks that label each pixel, or draw one; see the functions."""

from __future__ import annotations

from layers import Layers

from edgekit.graph.types import Graph

_CITY = 19
_VOC = 21


def basic(net: Layers, x: int, filters: int, stride: int = 1) -> int:
    """A block of two 3x3 convolutions (He et al. 2016)."""
    inner = net.conv(net.conv(x, filters, 3, stride), filters, act="linear")
    same = stride == 1 and net.channels(x) == filters
    return net.add(x if same else net.conv(x, filters, 1, stride, act="linear"), inner)


def bottleneck(net: Layers, x: int, width: int, stride: int = 1, *, project: bool = False) -> int:
    """A block of 1x1, 3x3 and 1x1 convolutions, with its stride in the second."""
    inner = net.conv(net.conv(x, width, 1), width, 3, stride)
    inner = net.conv(inner, 4 * width, 1, act="linear")
    same = stride == 1 and net.channels(x) == 4 * width and not project
    return net.add(x if same else net.conv(x, 4 * width, 1, stride, act="linear"), inner)


def resnet18_stages(net: Layers, x: int) -> list[int]:
    """The outputs of the four stages of ResNet-18."""
    x = net.pool(net.conv(x, 64, 7, 2), 3, 2)
    stages = []
    for number, width in enumerate((64, 128, 256, 512)):
        x = basic(net, basic(net, x, width, 2 if number else 1), width)
        stages.append(x)
    return stages


def unet(height: str, width: str) -> Graph:
    """U-Net (Ronneberger et al. 2015) as milesial/Pytorch-UNet has it, two classes."""
    net = Layers()
    x = net.input(int(height), int(width), 3)
    kept = []
    for filters in (64, 128, 256, 512):
        x = net.conv(net.conv(x, filters), filters)
        kept.append(x)
        x = net.pool(x)
    x = net.conv(net.conv(x, 1024), 1024)
    for lateral in reversed(kept):
        filters = net.channels(lateral)
        x = net.concat([lateral, net.transposed(x, filters)])
        x = net.conv(net.conv(x, filters), filters)
    return net.graph(net.conv(x, 2, 1, act="linear"))


def fcn_resnet50(size: str) -> Graph:
    """FCN on a dilated ResNet-50 (torchvision), enlarged to the input's size, with its labels."""
    net = Layers()
    x = net.pool(net.conv(net.input(int(size), int(size), 3), 64, 7, 2), 3, 2)
    for number, (repeats, width) in enumerate(zip((3, 4, 6, 3), (64, 128, 256, 512), strict=True)):
        for index in range(repeats):
            x = bottleneck(net, x, width, 2 if number == 1 and not index else 1)
    x = net.conv(net.conv(x, 512), _VOC, 1, act="linear")
    return net.graph(net.argmax(net.resize(x, int(size), int(size))))


def fcn8_resnet18(height: str, width: str) -> Graph:
    """FCN-8s (Long et al. 2015) on ResNet-18."""
    net = Layers()
    _, _, middle, large = resnet18_stages(net, net.input(int(height), int(width), 3))
    x = net.conv(large, _CITY, 1, act="linear")
    x = net.add(net.upsample(x, kind="BILINEAR"), net.conv(middle, _CITY, 1, act="linear"))
    return net.graph(net.upsample(x, 16, kind="BILINEAR"))


def ddrnet23_slim(height: str, width: str) -> Graph:
    """DDRNet-23-slim (Hong et al. 2021) for Cityscapes, an eighth of the input's size."""
    net = Layers()

    def stage(x: int, filters: int, stride: int = 1) -> int:
        return basic(net, basic(net, x, filters, stride), filters)

    def wide(x: int, filters: int, stride: int = 1) -> int:
        inner = net.conv(net.conv(x, filters, 1), filters, 3, stride)
        inner = net.conv(inner, 2 * filters, 1, act="linear")
        return net.add(net.conv(x, 2 * filters, 1, stride, act="linear"), inner)

    x = net.conv(net.conv(net.input(int(height), int(width), 3), 32, 3, 2), 32, 3, 2)
    high = stage(stage(x, 32), 64, 2)
    low = stage(high, 128, 2)
    fine = stage(high, 64)
    down = net.conv(fine, 128, 3, 2, act="linear")
    fine = net.add(fine, net.like(net.conv(low, 64, 1, act="linear"), fine))
    low = stage(net.add(low, down), 256, 2)
    fine = stage(fine, 64)
    down = net.conv(net.conv(fine, 128, 3, 2), 256, 3, 2, act="linear")
    fine = net.add(fine, net.like(net.conv(low, 64, 1, act="linear"), fine))
    low = wide(net.add(low, down), 256, 2)
    fine = wide(fine, 64)
    parts = [net.conv(low, 128, 1)]  # the pyramid: each scale adds to the one before it
    for size, stride in ((5, 2), (9, 4), (17, 8), (0, 0)):
        pooled = net.pool(low, size, stride, "AVERAGE") if size else net.mean(low)
        larger = net.like(net.conv(pooled, 128, 1), low)
        parts.append(net.conv(net.add(larger, parts[-1]), 128))
    mixed = net.conv(net.concat(parts), 128, 1, act="linear")
    mixed = net.add(mixed, net.conv(low, 128, 1, act="linear"))
    x = net.conv(net.add(fine, net.like(mixed, fine)), 64)
    return net.graph(net.conv(x, _CITY, 1, act="linear"))


def ffnet_40s(height: str, width: str) -> Graph:
    """FFNet-40S (Mehta et al. 2022) for mobile devices: a slim ResNet and an upward branch."""
    net = Layers()
    x = net.conv(net.conv(net.input(int(height), int(width), 3), 32, 3, 2), 64, 3, 2)
    stages = []
    for repeats, filters in zip((4, 5, 6, 4), (64, 128, 192, 320), strict=True):
        for index in range(repeats):
            x = basic(net, x, filters, 1 if index else 2)
        stages.append(x)
    adapted = [net.conv(x, n, 1) for x, n in zip(stages, (64, 128, 128, 256), strict=True)]
    x = adapted[3]
    parts: list[int] = []
    for level, filters in ((3, 32), (2, 64), (1, 96), (0, 96)):
        parts.insert(0, net.conv(x, filters))
        if level:
            lateral = adapted[level - 1]
            up = net.like(net.conv(x, net.channels(lateral), 1), lateral, "NEAREST_NEIGHBOR")
            x = net.add(up, lateral)
    joined = parts[0]
    for part in parts[1:]:
        joined = net.concat([joined, net.like(part, parts[0], "NEAREST_NEIGHBOR")])
    return net.graph(net.conv(net.conv(joined, 256), _CITY, act="linear"))


def bisenet(height: str, width: str) -> Graph:
    """BiSeNet (Yu et al. 2018) on ResNet-18 for CamVid, as ooooverflow/BiSeNet has it."""
    net = Layers()
    classes = 12
    image = net.input(int(height), int(width), 3)
    detail = image
    for filters in (64, 128, 256):
        detail = net.conv(detail, filters, 3, 2)
    _, _, middle, large = resnet18_stages(net, image)
    tail = net.mean(large)

    def refined(x: int) -> int:
        weight = net.conv(net.mean(x), net.channels(x), 1, act="sigmoid")
        return net.mul(x, weight)

    middle, large = refined(middle), net.mul(refined(large), tail)
    context = [net.like(middle, detail), net.like(large, detail)]
    fused = net.conv(net.concat([detail, net.concat(context)]), classes)
    weight = net.conv(net.conv(net.mean(fused), classes, 1), classes, 1, act="sigmoid")
    fused = net.add(net.mul(fused, weight), fused)
    x = net.resize(fused, int(height), int(width))
    return net.graph(net.conv(x, classes, 1, act="linear"))


def inverted(net: Layers, x: int, expand: int, filters: int, stride: int, kernel: int = 3) -> int:
    """An inverted residual block (Sandler et al. 2018)."""
    inner = net.conv(x, expand * net.channels(x), 1) if expand > 1 else x
    inner = net.depthwise(inner, kernel, stride)
    inner = net.conv(inner, filters, 1, act="linear")
    return net.add(x, inner) if stride == 1 and net.channels(x) == filters else inner


MOBILENET_V2 = (  # expansion, channels, repeats, stride
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
    (6, 320, 1, 1),
)  # fmt: skip


def deeplab_plus_mobilenet(size: str) -> Graph:
    """DeepLabV3+ on MobileNetV2, output stride 16, as jfzhang95/pytorch-deeplab-xception has it."""
    net = Layers()
    x = net.conv(net.input(int(size), int(size), 3), 32, 3, 2)
    low = x
    for number, (expand, filters, repeats, stride) in enumerate(MOBILENET_V2):
        for index in range(repeats):
            x = inverted(net, x, expand, filters, stride if not index and number != 5 else 1)
        low = x if number == 1 else low
    pooled = net.like(net.conv(net.mean(x), 256, 1), x)
    parts = [net.conv(x, 256, 1), *(net.conv(x, 256) for _ in range(3)), pooled]
    x = net.conv(net.concat(parts), 256, 1)
    low = net.conv(low, 48, 1)
    x = net.concat([net.like(x, low), low])
    x = net.conv(net.conv(net.conv(x, 256), 256), _VOC, 1, act="linear")
    return net.graph(net.argmax(net.resize(x, int(size), int(size))))


def sesr_m5(size: str) -> Graph:
    """SESR-M5 (Bhardwaj et al. 2022), enlarging four times, its linear blocks not collapsed."""
    net = Layers()
    image = net.input(int(size), int(size), 3)

    def linear(x: int, filters: int, kernel: int) -> int:
        return net.conv(net.conv(x, 256, kernel, act="linear"), filters, 1)

    x = first = linear(image, 16, 5)
    for _ in range(5):
        x = net.add(x, linear(x, 16, 3))
    x = linear(net.add(x, first), 48, 5)
    x = net.add(x, net.concat([image] * 16))
    return net.graph(net.to_space(x, 4))


def dncnn(height: str, width: str, channels: str, depth: str) -> Graph:
    """DnCNN (Zhang et al. 2017): a chain of 64 channels at full size."""
    net = Layers()
    image = net.input(int(height), int(width), int(channels))
    x = image
    for _ in range(int(depth) - 1):
        x = net.conv(x, 64)
    return net.graph(net.add(net.conv(x, int(channels), act="linear"), image))


def espcn(height: str, width: str, factor: str) -> Graph:
    """ESPCN (Shi et al. 2016): a larger image of one channel."""
    net = Layers()
    x = net.conv(net.conv(net.input(int(height), int(width), 1), 64, 5), 32)
    x = net.conv(x, int(factor) ** 2, act="linear")
    return net.graph(net.to_space(x, int(factor)))


def zero_dce(height: str, width: str) -> Graph:
    """Zero-DCE++ (Li et al. 2021) at full size: a curve a pixel, applied eight times."""
    net = Layers()
    image = net.input(int(height), int(width), 3)

    def separable(x: int, filters: int = 32) -> int:
        return net.conv(net.depthwise(x, act="linear"), filters, 1)

    kept = [separable(image)]
    for _ in range(3):
        kept.append(separable(kept[-1]))
    x = kept.pop()
    while len(kept) > 1:
        x = separable(net.concat([kept.pop(), x]))
    curve = net.act(separable(net.concat([kept.pop(), x]), 3), "tanh")
    x = image
    for _ in range(8):
        x = net.add(x, net.mul(curve, net.add(net.mul(x, x), x)))
    return net.graph(x)


def midas_small(size: str) -> Graph:
    """MiDaS 2.1 small (Ranftl et al. 2020): EfficientNet-Lite3's stages and a decoder."""
    net = Layers()
    x = net.conv(net.input(int(size), int(size), 3), 32, 3, 2)
    kept = []
    stages = (
        (1, 24, 1, 1, 3), (6, 32, 3, 2, 3), (6, 48, 3, 2, 5), (6, 96, 5, 2, 3), (6, 136, 5, 1, 5),
        (6, 232, 6, 2, 5), (6, 384, 1, 1, 3),
    )  # fmt: skip
    for number, (expand, filters, repeats, stride, kernel) in enumerate(stages):
        for index in range(repeats):
            x = inverted(net, x, expand, filters, 1 if index else stride, kernel)
        if number in (1, 2, 4, 6):
            kept.append(x)
    laterals = [net.conv(x, n, 3, act="linear")
                for x, n in zip(kept, (64, 128, 256, 512), strict=True)]  # fmt: skip

    def residual(x: int) -> int:
        width = net.channels(x)
        return net.add(x, net.conv(net.conv(net.act(x, "relu"), width), width, act="linear"))

    x = laterals[3]
    for level, filters in ((3, 256), (2, 128), (1, 64), (0, 64)):
        if level < 3:
            x = net.add(x, residual(laterals[level]))
        x = net.upsample(residual(x), 2, "BILINEAR")
        x = net.conv(x, filters, 1, act="linear")
    x = net.upsample(net.conv(x, 32, act="linear"), 2, "BILINEAR")
    return net.graph(net.conv(net.conv(x, 32), 1, 1))
