"""Detectors of other authors than ultralytics' later YOLOs; see the functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from layers import Layers
from yolo import Widths, bottleneck, pyramid, scaled

from edgekit.graph.types import Graph

_CLASSES = 80


def _focus(net: Layers, size: str, filters: int, kernel: int = 3) -> int:
    """Every second pixel as a channel (Focus of YOLOv5 before 6.0 and of YOLOX)."""
    half = int(size) // 2
    x = net.input(int(size), int(size), 3)
    return net.conv(net.concat([net.slice(x, half, half, 3) for _ in range(4)]), filters, kernel)


class _Block(Protocol):
    """A block of bottlenecks beside a shortcut: of a map, its channels and how many there are."""

    def __call__(self, x: int, filters: int, repeats: int, *, shortcut: bool = True) -> int: ...


def _three_levels(net: Layers, size: str, wide: Widths, deep: Widths, block: _Block) -> list[int]:
    """Maps of an eighth, a sixteenth and a 32nd of an image, each with what the others found."""
    x = net.conv(_focus(net, size, wide(64)), wide(128), 3, 2)
    x = net.conv(block(x, wide(128), deep(3)), wide(256), 3, 2)
    small = block(x, wide(256), deep(9))
    middle = block(net.conv(small, wide(512), 3, 2), wide(512), deep(9))
    x = pyramid(net, net.conv(middle, wide(1024), 3, 2), wide(1024), (5, 9, 13), chained=False)
    large = net.conv(block(x, wide(1024), deep(3), shortcut=False), wide(512), 1)
    x = net.concat([net.upsample(large), middle])
    middle = net.conv(block(x, wide(512), deep(3), shortcut=False), wide(256), 1)
    x = net.concat([net.upsample(middle), small])
    small = block(x, wide(256), deep(3), shortcut=False)
    x = net.concat([net.conv(small, wide(256), 3, 2), middle])
    middle = block(x, wide(512), deep(3), shortcut=False)
    x = net.concat([net.conv(middle, wide(512), 3, 2), large])
    return [small, middle, block(x, wide(1024), deep(3), shortcut=False)]


def _bottlenecks(net: Layers, x: int, repeats: int, *, shortcut: bool) -> int:
    for _ in range(repeats):
        x = bottleneck(net, x, net.channels(x), kernel=1, shortcut=shortcut)
    return x


def yolox(scale: str, size: str, act: str = "silu", decoded: str = "") -> Graph:
    """YOLOX (Ge et al. 2021): s, m, l, of the widths and depths of YOLOv5."""
    net = Layers(act)
    wide, deep = scaled("v5", scale)

    def block(x: int, filters: int, repeats: int, *, shortcut: bool = True) -> int:
        long, short = (net.conv(x, filters // 2, 1) for _ in range(2))
        long = _bottlenecks(net, long, repeats, shortcut=shortcut)
        return net.conv(net.concat([long, short]), filters, 1)

    levels = _three_levels(net, size, wide, deep, block)
    ends = []
    for level in levels:
        stem = net.conv(level, wide(256), 1)
        found = net.conv(net.conv(stem, wide(256)), wide(256))
        box = net.conv(net.conv(stem, wide(256)), wide(256))
        scores = net.act(net.conv(found, _CLASSES, 1, act="linear"), "sigmoid")
        object_ = net.act(net.conv(box, 1, 1, act="linear"), "sigmoid")
        ends.append([net.conv(box, 4, 1, act="linear"), object_, scores])
    if not decoded:
        return net.graph(*(one for level in ends for one in level))
    return net.graph(*_anchors(net, [net.concat(level) for level in ends], 1))


def _anchors(net: Layers, levels: Sequence[int], boxes: int) -> tuple[int, ...]:
    """Corners, best score and class of each place and anchor, as Qualcomm's exports have them."""
    flat = []
    for level in levels:
        _, height, width, channels = net.shape(level)
        each = channels // boxes
        moved = level
        if boxes > 1:
            split = net.reshape(level, height, width, boxes, each)
            moved = net.transpose(split, boxes, height, width, each)
        flat.append(net.reshape(moved, boxes * height * width, each))
    together = net.concat(flat, axis=1)
    _, places, values = net.shape(together)
    centers = net.scale(net.shift(net.slice(together, places, 2), places, 2), 1)
    sizes = net.act(net.slice(together, places, 2), "exp") if boxes == 1 else centers
    scores = net.mul(net.slice(together, places, values - 5), net.slice(together, places, 1))
    return net.concat([centers, net.scale(sizes, 1)]), net.largest(scores), net.argmax(scores)


def yolov7_tiny(size: str, decoded: str = "") -> Graph:
    """YOLOv7-tiny (Wang et al. 2022)."""
    net = Layers("leaky")

    def block(x: int, width: int, filters: int) -> int:
        parts = [net.conv(x, width, 1), net.conv(x, width, 1)]
        parts.append(net.conv(parts[-1], width))
        parts.append(net.conv(parts[-1], width))
        return net.conv(net.concat(parts), filters, 1)

    x = net.conv(net.conv(net.input(int(size), int(size), 3), 32, 3, 2), 64, 3, 2)
    x = block(x, 32, 64)
    small = block(net.pool(x), 64, 128)
    middle = block(net.pool(small), 128, 256)
    x = block(net.pool(middle), 256, 512)
    kept, pooled = net.conv(x, 256, 1), net.conv(x, 256, 1)
    parts = [pooled, *(net.pool(pooled, kernel, 1) for kernel in (5, 9, 13))]
    large = net.conv(net.concat([net.conv(net.concat(parts), 256, 1), kept]), 256, 1)
    x = net.upsample(net.conv(large, 128, 1))
    middle = block(net.concat([net.conv(middle, 128, 1), x]), 64, 128)
    x = net.upsample(net.conv(middle, 64, 1))
    small = block(net.concat([net.conv(small, 64, 1), x]), 32, 64)
    middle = block(net.concat([net.conv(small, 128, 3, 2), middle]), 64, 128)
    large = block(net.concat([net.conv(middle, 256, 3, 2), large]), 128, 256)
    ends = [
        net.conv(net.conv(level, 2 * net.channels(level)), 3 * (_CLASSES + 5), 1, act="linear")
        for level in (small, middle, large)
    ]
    if not decoded:
        return net.graph(*ends)
    return net.graph(*_anchors(net, [net.act(end, "sigmoid") for end in ends], 3))


def yolov6n(size: str) -> Graph:
    """YOLOv6-N of release 0.2 (Li et al. 2022) as it is deployed: 3x3 convolutions."""
    net = Layers("relu")

    def chain(x: int, filters: int, repeats: int) -> int:
        for _ in range(repeats):
            x = net.conv(x, filters)
        return x

    x = net.conv(net.conv(net.input(int(size), int(size), 3), 16, 3, 2), 32, 3, 2)
    small = chain(net.conv(chain(x, 32, 2), 64, 3, 2), 64, 4)
    middle = chain(net.conv(small, 128, 3, 2), 128, 6)
    x = chain(net.conv(middle, 256, 3, 2), 256, 2)
    large = net.conv(pyramid(net, x, 256, (5, 5, 5), chained=True), 64, 1)
    x = net.concat([net.transposed(large, 64), middle])
    middle = net.conv(chain(x, 64, 4), 32, 1)
    small = chain(net.concat([net.transposed(middle, 32), small]), 32, 4)
    middle = chain(net.concat([net.conv(small, 32, 3, 2), middle]), 64, 4)
    large = chain(net.concat([net.conv(middle, 64, 3, 2), large]), 128, 4)
    ends = []
    for level in (small, middle, large):
        stem = net.conv(level, net.channels(level), 1)
        for values in (_CLASSES, 4):
            branch = net.conv(stem, net.channels(level))
            ends.append(net.conv(branch, values, 1, act="linear"))
    return net.graph(*ends)


def yolov5_csp(scale: str, size: str) -> Graph:
    """YOLOv5 of release 2.0, which Hailo trains: bottlenecks of another form, SPP, leaky ReLU."""
    net = Layers("leaky")
    wide, deep = scaled("v5", scale)

    def block(x: int, filters: int, repeats: int, *, shortcut: bool = True) -> int:
        long = _bottlenecks(net, net.conv(x, filters // 2, 1), repeats, shortcut=shortcut)
        parts = [net.conv(long, filters // 2, 1), net.conv(x, filters // 2, 1)]
        return net.conv(net.concat(parts), filters, 1)

    levels = _three_levels(net, size, wide, deep, block)
    return net.graph(*(net.conv(level, 3 * (_CLASSES + 5), 1, act="linear") for level in levels))


def yolov3(size: str) -> Graph:
    """YOLOv3 (Redmon and Farhadi 2018) on Darknet-53."""
    net = Layers("leaky")
    x = net.conv(net.input(int(size), int(size), 3), 32)
    kept = []
    for repeats, width in zip((1, 2, 8, 8, 4), (64, 128, 256, 512, 1024), strict=True):
        x = net.conv(x, width, 3, 2)
        for _ in range(repeats):
            x = net.add(x, net.conv(net.conv(x, width // 2, 1), width))
        kept.append(x)
    ends = []
    for width, lateral in ((512, None), (256, kept[3]), (128, kept[2])):
        if lateral is not None:
            x = net.concat([net.upsample(net.conv(x, width, 1)), lateral])
        for _ in range(2):
            x = net.conv(net.conv(x, width, 1), 2 * width)
        x = net.conv(x, width, 1)
        ends.append(net.conv(net.conv(x, 2 * width), 3 * (_CLASSES + 5), 1, act="linear"))
    return net.graph(*ends)


def tiny_yolov3(size: str) -> Graph:
    """YOLOv3-tiny (Redmon and Farhadi 2018)."""
    net = Layers("leaky")
    x = net.input(int(size), int(size), 3)
    for width in (16, 32, 64, 128):
        x = net.pool(net.conv(x, width))
    kept = net.conv(x, 256)
    x = net.pool(net.conv(net.pool(kept), 512), 2, 1)
    x = net.conv(net.conv(x, 1024), 256, 1)
    first = net.conv(net.conv(x, 512), 255, 1, act="linear")
    x = net.concat([net.upsample(net.conv(x, 128, 1)), kept])
    return net.graph(first, net.conv(net.conv(x, 256), 255, 1, act="linear"))


def tiny_yolov4(size: str) -> Graph:
    """YOLOv4-tiny (Bochkovskiy et al. 2020)."""
    net = Layers("leaky")
    x = net.conv(net.conv(net.input(int(size), int(size), 3), 32, 3, 2), 64, 3, 2)
    kept = x
    for width in (64, 128, 256):
        x = net.conv(x, width)
        half = net.conv(net.split(x, 2)[1], width // 2)
        kept = net.conv(net.concat([net.conv(half, width // 2), half]), width, 1)
        x = net.pool(net.concat([x, kept]))
    x = net.conv(net.conv(x, 512), 256, 1)
    first = net.conv(net.conv(x, 512), 255, 1, act="linear")
    x = net.concat([net.upsample(net.conv(x, 128, 1)), kept])
    return net.graph(first, net.conv(net.conv(x, 256), 255, 1, act="linear"))


def yolov4_leaky(size: str) -> Graph:
    """YOLOv4 (Bochkovskiy et al. 2020) with leaky ReLU throughout."""
    net = Layers("leaky")

    def chain(x: int, *steps: tuple[int, int]) -> int:
        for filters, kernel in steps:
            x = net.conv(x, filters, kernel)
        return x

    x = net.conv(net.input(int(size), int(size), 3), 32)
    kept = []
    stages = zip((1, 2, 8, 8, 4), (64, 128, 256, 512, 1024), strict=True)
    for number, (repeats, width) in enumerate(stages):
        x = net.conv(x, width, 3, 2)
        inner = width // 2 if number else width
        short, long = net.conv(x, inner, 1), net.conv(x, inner, 1)
        for _ in range(repeats):
            long = net.add(long, net.conv(net.conv(long, width // 2, 1), inner))
        x = net.conv(net.concat([net.conv(long, inner, 1), short]), width, 1)
        kept.append(x)
    x = chain(x, (512, 1), (1024, 3), (512, 1))
    parts = [x, *(net.pool(x, kernel, 1) for kernel in (5, 9, 13))]
    large = chain(net.concat(parts), (512, 1), (1024, 3), (512, 1))

    def down(x: int, lateral: int, width: int) -> int:
        joined = net.concat([net.conv(lateral, width, 1), net.upsample(net.conv(x, width, 1))])
        narrow, broad = (width, 1), (2 * width, 3)
        return chain(joined, narrow, broad, narrow, broad, narrow)

    middle = down(large, kept[3], 256)
    small = down(middle, kept[2], 128)
    ends = [net.conv(net.conv(small, 256), 255, 1, act="linear")]
    x = small
    for lateral, width in ((middle, 256), (large, 512)):
        narrow, broad = (width, 1), (2 * width, 3)
        joined = net.concat([net.conv(x, width, 3, 2), lateral])
        x = chain(joined, narrow, broad, narrow, broad, narrow)
        ends.append(net.conv(net.conv(x, 2 * width), 255, 1, act="linear"))
    return net.graph(*ends)
