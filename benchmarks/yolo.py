"""YOLO detectors, each from its authors' repository; see the functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from layers import Layers

from edgekit.graph.types import Graph

_SCALES = {  # depth, width, most channels (ultralytics)
    "v8": {"n": (0.33, 0.25, 1024), "s": (0.33, 0.5, 1024), "m": (0.67, 0.75, 768),
           "l": (1.0, 1.0, 512), "x": (1.0, 1.25, 512)},
    "v11": {"n": (0.5, 0.25, 1024), "s": (0.5, 0.5, 1024), "m": (0.5, 1.0, 512),
            "l": (1.0, 1.0, 512), "x": (1.0, 1.5, 512)},
    "v5": {"n": (0.33, 0.25, 1024), "s": (0.33, 0.5, 1024), "m": (0.67, 0.75, 1024),
           "l": (1.0, 1.0, 1024), "s_wide": (0.33, 0.75, 1024)},
}  # fmt: skip
_CLASSES = 80
_MASKS = 32
_POSE = 51
_BINS = 16

Widths = Callable[[int], int]


def scaled(version: str, size: str) -> tuple[Widths, Widths]:
    """Channels and repeats of a size."""
    depth, width, most = _SCALES[version][size]

    def channels(count: int) -> int:
        return -int(-min(count, most) * width // 8) * 8

    return channels, lambda repeats: max(1, round(repeats * depth))


def bottleneck(net: Layers, x: int, hidden: int, *, kernel: int = 3, shortcut: bool = True) -> int:
    """Two convolutions and, with a shortcut, their input added."""
    inner = net.conv(net.conv(x, hidden, kernel), net.channels(x), 3)
    return net.add(x, inner) if shortcut else inner


def _c2f(
    net: Layers, x: int, filters: int, repeats: int, *,
    shortcut: bool = False, inner: Callable[[int], int] | None = None, width: int | None = None,
) -> int:  # fmt: skip
    """A C2f block (v8); with other blocks inside, those of v10 and v11."""
    width = width or filters // 2
    parts = net.split(net.conv(x, 2 * width, 1), 2)
    for _ in range(repeats):
        last = parts[-1]
        parts.append(inner(last) if inner else bottleneck(net, last, width, shortcut=shortcut))
    return net.conv(net.concat(parts), filters, 1)


def _c3(
    net: Layers, x: int, filters: int, repeats: int, *, shortcut: bool = True, kernel: int = 1
) -> int:
    """A C3 block (v5 from 4.0 on, YOLOX's CSPLayer; with `kernel` 3 the C3k of v11)."""
    long = net.conv(x, filters // 2, 1)
    for _ in range(repeats):
        long = bottleneck(net, long, filters // 2, kernel=kernel, shortcut=shortcut)
    return net.conv(net.concat([long, net.conv(x, filters // 2, 1)]), filters, 1)


def pyramid(net: Layers, x: int, filters: int, sizes: Sequence[int], *, chained: bool) -> int:
    """Spatial pyramid pooling: SPPF pools one after the other, SPP side by side."""
    parts = [net.conv(x, net.channels(x) // 2, 1)]
    for size in sizes:
        parts.append(net.pool(parts[-1] if chained else parts[0], size, 1))
    return net.conv(net.concat(parts), filters, 1)


def _attention(net: Layers, x: int, filters: int) -> int:
    """Attention of v10 and v11 over the positions of an image, 64 channels a head."""
    _, height, width, _ = net.shape(x)
    heads, places = filters // 64, height * width
    joined = net.reshape(net.conv(x, 2 * filters, 1, act="linear"), heads, places, 128)
    query, key = (net.slice(joined, heads, places, 32) for _ in range(2))
    value = net.slice(joined, heads, places, 64)
    weights = net.act(net.scale(net.matmul(query, key, transposed=True), 1), "softmax")
    mixed = net.reshape(net.matmul(weights, value), height, width, filters)
    local = net.depthwise(net.reshape(value, height, width, filters), 3, act="linear")
    return net.conv(net.add(mixed, local), filters, 1, act="linear")


def _psa(net: Layers, x: int, repeats: int) -> int:
    """C2PSA of v11; PSA of v10 is the same with one repeat."""
    filters = net.channels(x)
    kept, mixed = net.split(net.conv(x, filters, 1), 2)
    for _ in range(repeats):
        mixed = net.add(mixed, _attention(net, mixed, filters // 2))
        inner = net.conv(net.conv(mixed, filters, 1), filters // 2, 1, act="linear")
        mixed = net.add(mixed, inner)
    return net.conv(net.concat([kept, mixed]), filters, 1)


def _predictions(
    net: Layers, levels: Sequence[int], *, light: bool, kinds: int = _CLASSES
) -> list[tuple[int, int]]:
    """Boxes (as bins) and classes by level; light heads are depthwise in the classes' branch."""
    boxes = max(16, net.channels(levels[0]) // 4, 4 * _BINS)
    classes = max(net.channels(levels[0]), kinds)
    found = []
    for level in levels:
        box = net.conv(net.conv(net.conv(level, boxes), boxes), 4 * _BINS, 1, act="linear")
        if light:
            inner = net.conv(net.depthwise(level), classes, 1)
            inner = net.conv(net.depthwise(inner), classes, 1)
        else:
            inner = net.conv(net.conv(level, classes), classes)
        found.append((box, net.conv(inner, kinds, 1, act="linear")))
    return found


def _flat(net: Layers, x: int) -> int:
    _, height, width, channels = net.shape(x)
    return net.reshape(x, height * width, channels)


def _decoded(net: Layers, heads: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """Corners, best score and class of each place, as Qualcomm's exports have them."""
    boxes = net.concat([_flat(net, box) for box, _ in heads], axis=1)
    scores = net.act(net.concat([_flat(net, one) for _, one in heads], axis=1), "sigmoid")
    places = net.shape(boxes)[1]
    bins = net.act(net.reshape(boxes, 4, places, _BINS), "softmax")
    sides = net.reshape(net.conv(bins, 1, 1, act="linear", bias=False), places, 4)
    corners = net.scale(net.shift(sides, places, 4), places, 1)
    return corners, net.largest(scores), net.argmax(scores)


def _ends(net: Layers, heads: Sequence[tuple[int, int]], *, decoded: bool) -> tuple[int, ...]:
    return _decoded(net, heads) if decoded else tuple(one for pair in heads for one in pair)


def yolov8(scale: str, size: str, task: str = "", decoded: str = "") -> Graph:
    """YOLOv8 (ultralytics): n, s, m, l, x; `task`: seg, pose or none."""
    net = Layers("silu")
    wide, deep = scaled("v8", scale)
    x = net.conv(net.conv(net.input(int(size), int(size), 3), wide(64), 3, 2), wide(128), 3, 2)
    x = _c2f(net, x, wide(128), deep(3), shortcut=True)
    small = _c2f(net, net.conv(x, wide(256), 3, 2), wide(256), deep(6), shortcut=True)
    middle = _c2f(net, net.conv(small, wide(512), 3, 2), wide(512), deep(6), shortcut=True)
    x = _c2f(net, net.conv(middle, wide(1024), 3, 2), wide(1024), deep(3), shortcut=True)
    large = pyramid(net, x, wide(1024), (5, 5, 5), chained=True)
    middle = _c2f(net, net.concat([net.upsample(large), middle]), wide(512), deep(3))
    small = _c2f(net, net.concat([net.upsample(middle), small]), wide(256), deep(3))
    joined = net.concat([net.conv(small, wide(256), 3, 2), middle])
    middle = _c2f(net, joined, wide(512), deep(3))
    joined = net.concat([net.conv(middle, wide(512), 3, 2), large])
    levels = [small, middle, _c2f(net, joined, wide(1024), deep(3))]
    kinds = 1 if task == "pose" else _CLASSES  # poses are those of people
    heads = _predictions(net, levels, light=False, kinds=kinds)
    ends = _ends(net, heads, decoded=bool(decoded))
    return net.graph(*ends, *_extra(net, levels, task, wide))


def _extra(net: Layers, levels: Sequence[int], task: str, wide: Widths) -> list[int]:
    """What masks or poses need beside boxes."""
    if not task:
        return []
    values = _MASKS if task == "seg" else _POSE
    width = max(net.channels(levels[0]) // 4, values)
    ends = [
        net.conv(net.conv(net.conv(one, width), width), values, 1, act="linear") for one in levels
    ]
    if task == "seg":
        x = net.transposed(net.conv(levels[0], wide(256)), wide(256))
        ends.append(net.conv(net.conv(x, wide(256)), _MASKS, 1))
    return ends


def yolov10(scale: str, size: str, decoded: str = "") -> Graph:
    """YOLOv10 (Wang et al. 2024): n, s and x, with the one-to-one head alone."""
    net = Layers("silu")
    wide, deep = scaled("v8", scale)

    def down(x: int, filters: int) -> int:
        pointwise = net.conv(x, filters, 1)
        return net.depthwise(pointwise, 3, 2, act="linear")

    def inverted(x: int) -> int:  # CIB, with its kernel of 7 and of 3 as one
        filters = net.channels(x)
        kernel = 3 if scale == "x" else 7
        inner = net.depthwise(net.conv(net.depthwise(x), 2 * filters, 1), kernel)
        return net.add(x, net.depthwise(net.conv(inner, filters, 1), 3))

    x = net.conv(net.conv(net.input(int(size), int(size), 3), wide(64), 3, 2), wide(128), 3, 2)
    last = None if scale == "n" else inverted
    others = inverted if scale == "x" else None
    x = _c2f(net, x, wide(128), deep(3), shortcut=True)
    small = _c2f(net, net.conv(x, wide(256), 3, 2), wide(256), deep(6), shortcut=True)
    x = down(small, wide(512))
    middle = _c2f(net, x, wide(512), deep(6), shortcut=True, inner=others)
    x = _c2f(net, down(middle, wide(1024)), wide(1024), deep(3), shortcut=True, inner=last)
    large = _psa(net, pyramid(net, x, wide(1024), (5, 5, 5), chained=True), 1)
    joined = net.concat([net.upsample(large), middle])
    middle = _c2f(net, joined, wide(512), deep(3), inner=others)
    small = _c2f(net, net.concat([net.upsample(middle), small]), wide(256), deep(3))
    joined = net.concat([net.conv(small, wide(256), 3, 2), middle])
    middle = _c2f(net, joined, wide(512), deep(3), inner=others)
    joined = net.concat([down(middle, wide(512)), large])
    levels = [small, middle, _c2f(net, joined, wide(1024), deep(3), inner=inverted)]
    return net.graph(*_ends(net, _predictions(net, levels, light=True), decoded=bool(decoded)))


def yolov11(scale: str, size: str) -> Graph:
    """YOLO11 (ultralytics): n, s, m, l, x."""
    net = Layers("silu")
    wide, deep = scaled("v11", scale)

    def block(x: int, filters: int, *, nested: bool, share: int = 2) -> int:  # C3k2
        width = wide(filters) // share

        def inner(x: int) -> int:
            if nested or scale in "mlx":
                return _c3(net, x, width, 2, kernel=3)
            return bottleneck(net, x, width // 2)

        return _c2f(net, x, wide(filters), deep(2), inner=inner, width=width)

    x = net.conv(net.conv(net.input(int(size), int(size), 3), wide(64), 3, 2), wide(128), 3, 2)
    x = net.conv(block(x, 256, nested=False, share=4), wide(256), 3, 2)
    small = block(x, 512, nested=False, share=4)
    middle = block(net.conv(small, wide(512), 3, 2), 512, nested=True)
    x = block(net.conv(middle, wide(1024), 3, 2), 1024, nested=True)
    large = _psa(net, pyramid(net, x, wide(1024), (5, 5, 5), chained=True), deep(2))
    middle = block(net.concat([net.upsample(large), middle]), 512, nested=False)
    small = block(net.concat([net.upsample(middle), small]), 256, nested=False)
    joined = net.concat([net.conv(small, wide(256), 3, 2), middle])
    middle = block(joined, 512, nested=False)
    joined = net.concat([net.conv(middle, wide(512), 3, 2), large])
    levels = [small, middle, block(joined, 1024, nested=True)]
    return net.graph(*_ends(net, _predictions(net, levels, light=True), decoded=False))


def yolov9c(size: str) -> Graph:
    """YOLOv9-C (Wang et al. 2024) without its auxiliary branch."""
    net = Layers("silu")

    def block(x: int, filters: int, width: int) -> int:  # RepNCSPELAN4
        parts = net.split(net.conv(x, width, 1), 2)
        for _ in range(2):
            parts.append(net.conv(_c3(net, parts[-1], width // 2, 1, kernel=3), width // 2))
        return net.conv(net.concat(parts), filters, 1)

    def down(x: int) -> int:  # ADown
        half = net.channels(x) // 2
        first, second = net.split(net.pool(x, 2, 1, "AVERAGE"), 2)
        return net.concat([net.conv(first, half, 3, 2), net.conv(net.pool(second, 3), half, 1)])

    x = net.conv(net.conv(net.input(int(size), int(size), 3), 64, 3, 2), 128, 3, 2)
    small = block(down(block(x, 256, 128)), 512, 256)
    middle = block(down(small), 512, 512)
    large = pyramid(net, block(down(middle), 512, 512), 512, (5, 5, 5), chained=True)
    middle = block(net.concat([net.upsample(large), middle]), 512, 512)
    small = block(net.concat([net.upsample(middle), small]), 256, 256)
    middle = block(net.concat([down(small), middle]), 512, 512)
    large = block(net.concat([down(middle), large]), 512, 512)
    heads = _predictions(net, [small, middle, large], light=False)
    return net.graph(*_ends(net, heads, decoded=False))


def yolov5(scale: str, size: str, task: str = "", act: str = "silu") -> Graph:
    """YOLOv5 (ultralytics) from release 6.0 on: n, s, m, l; `task`: seg or none."""
    net = Layers(act)
    wide, deep = scaled("v5", scale)
    x = net.conv(net.conv(net.input(int(size), int(size), 3), wide(64), 6, 2), wide(128), 3, 2)
    x = _c3(net, x, wide(128), deep(3))
    small = _c3(net, net.conv(x, wide(256), 3, 2), wide(256), deep(6))
    middle = _c3(net, net.conv(small, wide(512), 3, 2), wide(512), deep(9))
    x = _c3(net, net.conv(middle, wide(1024), 3, 2), wide(1024), deep(3))
    x = pyramid(net, x, wide(1024), (5, 5, 5), chained=True)
    large = net.conv(x, wide(512), 1)
    joined = net.concat([net.upsample(large), middle])
    middle = net.conv(_c3(net, joined, wide(512), deep(3), shortcut=False), wide(256), 1)
    joined = net.concat([net.upsample(middle), small])
    small = _c3(net, joined, wide(256), deep(3), shortcut=False)
    joined = net.concat([net.conv(small, wide(256), 3, 2), middle])
    middle = _c3(net, joined, wide(512), deep(3), shortcut=False)
    joined = net.concat([net.conv(middle, wide(512), 3, 2), large])
    levels = [small, middle, _c3(net, joined, wide(1024), deep(3), shortcut=False)]
    values = 3 * (_CLASSES + 5 + (_MASKS if task else 0))
    ends = [net.conv(level, values, 1, act="linear") for level in levels]
    if task:
        x = net.conv(net.upsample(net.conv(levels[0], wide(256))), wide(256))
        ends.append(net.conv(x, _MASKS, 1))
    return net.graph(*ends)
