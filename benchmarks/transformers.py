"""Networks with attention, and ConvNeXt; see the functions."""

from __future__ import annotations

from dataclasses import replace

from layers import Layers
from segmenters import inverted

from edgekit.graph.types import Graph


def _heads(net: Layers, x: int, count: int) -> int:
    """Features split by head: places of a head side by side."""
    places, width = net.shape(x)[1:]
    return net.transpose(net.reshape(x, places, count, width // count), count, places,
                         width // count)  # fmt: skip


def _attended(
    net: Layers, query: int, key: int, value: int, *, biased: bool = False, causal: bool = False
) -> int:
    """Softmax attention of tensors split by head, joined again.

    Args:
        net: that it is part of.
        query: of each place.
        key: likewise.
        value: likewise.
        biased: with a constant added to each score.
        causal: with a mask on scores, the same for all heads: places see earlier ones only.
    """
    scores = net.scale(net.matmul(query, key, transposed=True), 1)
    if biased or causal:
        scores = net.shift(scores, *net.shape(scores)[2 if causal else 0 :])
    mixed = net.matmul(net.act(scores, "softmax"), value)
    heads, places, width = net.shape(mixed)[1:]
    return net.reshape(net.transpose(mixed, places, heads, width), places, heads * width)


def _self_attention(net: Layers, x: int, heads: int, *, causal: bool = False) -> int:
    width = net.channels(x)
    parts = [_heads(net, part, heads) for part in net.split(net.dense(x, 3 * width), 3)]
    return net.dense(_attended(net, *parts, causal=causal), width)


def _encoder(
    net: Layers,
    x: int,
    heads: int,
    act: str = "gelu",
    *,
    folded: bool = False,
    causal: bool = False,
) -> int:
    """A block that normalizes first (Dosovitskiy et al. 2021).

    Args:
        net: that it is part of.
        x: its input.
        heads: of its attention.
        act: in the middle of its dense layers.
        folded: with batch normalization, which folds away.
        causal: see `_attended`.
    """

    def normal(x: int) -> int:
        return x if folded else net.norm(x)

    width = net.channels(x)
    x = net.add(x, _self_attention(net, normal(x), heads, causal=causal))
    return net.add(x, net.dense(net.dense(normal(x), 4 * width, act), width))


def _patches(net: Layers, pixels: int, patch: int, width: int) -> int:
    """Squares of an image and a token for all of it, each with its position added."""
    side = pixels // patch
    x = net.conv(net.input(pixels, pixels, 3), width, patch, patch)
    x = net.reshape(x, side**2, width)
    x = net.concat([net.slice(x, 1, width), x], axis=1)
    return net.shift(x, *net.shape(x))


def vit(size: str, patch: str = "16", norm: str = "") -> Graph:
    """ViT and DeiT (Dosovitskiy et al. 2021, Touvron et al. 2021): tiny, small, base at 224.

    With `norm` "bn" batch normalization stands for that of layers, and folds away.
    """
    net = Layers("linear")
    width, heads = {"tiny": (192, 3), "small": (384, 6), "base": (768, 12)}[size]
    x = _patches(net, 224, int(patch), width)
    for _ in range(12):
        x = _encoder(net, x, heads, folded=bool(norm))
    x = x if norm else net.norm(x)
    return net.graph(net.dense(net.reshape(net.slice(x, 1, width), width), 1000))


def clip_image(patch: str, width: str = "768") -> Graph:
    """CLIP's ViT for images (Radford et al. 2021), and TinyCLIP's of another width."""
    net = Layers("linear")
    x = net.norm(_patches(net, 224, int(patch), int(width)))
    for _ in range(12):
        x = _encoder(net, x, int(width) // 64, "silu")
    x = net.norm(net.slice(x, 1, int(width)))
    return net.graph(net.dense(x, 512, bias=False))


def clip_text(layers: str = "12") -> Graph:
    """CLIP's transformer for texts (Radford et al. 2021) of 77 words, and TinyCLIP's of six layers.

    Hailo's Model Zoo (cfg/networks/*_text_encoder.yaml) has all between the embedding of words and
    the last normalization. Its scripts for the compiler (cfg/alls/generic/clip_*_text_encoder.alls)
    give 16 bits to the weights of all dense layers but two of the three that make queries, keys and
    values; those for images give it to one or two. TinyCLIP's is assumed to be like them.
    """
    net = Layers("linear")
    width = 512
    x = net.input(77, width)
    for _ in range(int(layers)):
        x = _encoder(net, x, width // 64, "silu", causal=True)
    return _wide(net.graph(x), 3 * width)


def _wide(graph: Graph, narrow: int) -> Graph:
    """The graph with weights of 16 bits in dense layers but those with `narrow` outputs."""
    wide = {
        index
        for op in graph.ops
        if op.kind == "dense" and graph.tensors[op.outputs[0]].shape[-1] != narrow
        for index in op.inputs
        if graph.tensors[index].constant and len(graph.tensors[index].shape) > 1
    }
    tensors = (replace(t, dtype="int16") if t.index in wide else t for t in graph.tensors)
    return replace(graph, tensors=tuple(tensors))


def convnext_tiny() -> Graph:
    """ConvNeXt-T (Liu et al. 2022)."""
    net = Layers("linear")
    x = net.norm(net.conv(net.input(224, 224, 3), 96, 4, 4))
    for number, (repeats, width) in enumerate(zip((3, 3, 9, 3), (96, 192, 384, 768), strict=True)):
        if number:
            x = net.conv(net.norm(x), width, 2, 2)
        for _ in range(repeats):
            inner = net.dense(net.norm(net.depthwise(x, 7)), 4 * width, "gelu")
            x = net.add(x, net.scale(net.dense(inner, width)))
    pooled = net.norm(net.reshape(net.mean(x), 768))
    return net.graph(net.dense(pooled, 1000))


def mobilevit_small(size: str) -> Graph:
    """MobileViT-S (Mehta and Rastegari 2022)."""
    net = Layers("silu")

    def block(x: int, filters: int, stride: int) -> int:
        return inverted(net, x, 4, filters, stride)

    def mixed(x: int, width: int, repeats: int) -> int:
        _, height, columns, filters = net.shape(x)
        inner = net.conv(net.conv(x, filters), width, 1, act="linear")
        places = height * columns // 4
        inner = net.reshape(net.transpose(inner, 4, places, width), 4 * places, width)
        for _ in range(repeats):
            normal = net.norm(inner)
            parts = [
                net.reshape(part, 16, places, width // 4)
                for part in net.split(net.dense(normal, 3 * width), 3)
            ]
            joined = net.reshape(_attended(net, *parts), 4 * places, width)
            inner = net.add(inner, net.dense(joined, width))
            hidden = net.dense(net.norm(inner), 2 * width, "silu")
            inner = net.add(inner, net.dense(hidden, width))
        inner = net.transpose(net.norm(inner), height, columns, width)
        return net.conv(net.concat([x, net.conv(inner, filters, 1)]), filters)

    x = net.conv(net.input(int(size), int(size), 3), 16, 3, 2)
    x = block(block(block(block(block(x, 32, 1), 64, 2), 64, 1), 64, 1), 96, 2)
    x = block(mixed(x, 144, 2), 128, 2)
    x = block(mixed(x, 192, 4), 160, 2)
    return net.classifier(net.conv(mixed(x, 240, 3), 640, 1))


def efficientformer_l1() -> Graph:
    """EfficientFormer-L1 (Li et al. 2022): 48, 96, 224 and 448 channels, one block of attention."""
    net = Layers("gelu")
    x = net.conv(net.conv(net.input(224, 224, 3), 24, 3, 2), 48, 3, 2)
    for number, (repeats, width) in enumerate(zip((3, 2, 6, 3), (48, 96, 224, 448), strict=True)):
        if number:
            x = net.conv(x, width, 3, 2, act="linear")
        for _ in range(repeats):
            x = net.add(x, net.pool(x, 3, 1, "AVERAGE"))
            inner = net.conv(net.conv(x, 4 * width, 1), width, 1, act="linear")
            x = net.add(x, net.scale(inner))
    places, width = 49, 448
    x = net.reshape(x, places, width)
    inner = net.norm(x)
    joined = net.dense(inner, 2 * 8 * 32 + 8 * 128)
    query, key = (net.transpose(net.slice(joined, places, 256), 8, places, 32) for _ in range(2))
    value = net.transpose(net.slice(joined, places, 1024), 8, places, 128)
    x = net.add(x, net.scale(net.dense(_attended(net, query, key, value, biased=True), width)))
    inner = net.dense(net.norm(x), 4 * width, "gelu")
    x = net.norm(net.add(x, net.scale(net.dense(inner, width))))
    pooled = net.mean(net.reshape(x, 7, 7, width))
    flat = net.reshape(pooled, width)
    return net.graph(net.dense(flat, 1000), net.dense(flat, 1000))


def levit_128s() -> Graph:
    """LeViT-128S (Graham et al. 2021): convolutions, then attention on fewer and fewer places."""
    net = Layers("hard_swish")
    x = net.input(224, 224, 3)
    for filters in (16, 32, 64):
        x = net.conv(x, filters, 3, 2)
    x = net.reshape(net.conv(x, 128, 3, 2, "linear"), 196, 128)

    def parts(x: int, heads: int, width: int) -> int:
        return net.transpose(x, heads, net.shape(x)[1], width)

    def attention(x: int, heads: int) -> int:
        places, channels = net.shape(x)[1:]
        joined = net.dense(x, heads * 4 * 16)
        query, key = (parts(net.slice(joined, places, heads * 16), heads, 16) for _ in range(2))
        value = parts(net.slice(joined, places, heads * 32), heads, 32)
        mixed = net.act(_attended(net, query, key, value, biased=True), "hard_swish")
        return net.add(x, net.dense(mixed, channels))

    def shrinking(x: int, heads: int, side: int, width: int) -> int:
        fewer = net.slice(x, side**2, net.channels(x))
        query = parts(net.dense(fewer, heads * 16), heads, 16)
        joined = net.dense(x, heads * (16 + 64))
        places = net.shape(x)[1]
        key = parts(net.slice(joined, places, heads * 16), heads, 16)
        value = parts(net.slice(joined, places, heads * 64), heads, 64)
        mixed = net.act(_attended(net, query, key, value, biased=True), "hard_swish")
        return net.dense(mixed, width)

    def expanded(x: int) -> int:
        width = net.channels(x)
        return net.add(x, net.dense(net.dense(x, 2 * width, "hard_swish"), width))

    for heads, repeats, follow in ((4, 2, (8, 7, 256)), (6, 3, (16, 4, 384)), (8, 4, None)):
        for _ in range(repeats):
            x = expanded(attention(x, heads))
        if follow:
            x = expanded(shrinking(x, *follow))
    pooled = net.reshape(net.mean(net.reshape(x, 4, 4, 384)), 384)
    return net.graph(net.dense(pooled, 1000))


def efficientvit_b2(size: str) -> Graph:
    """EfficientViT-B2 (Cai et al. 2023): multi-scale linear attention."""
    net = Layers("hard_swish")

    def local(x: int, filters: int, expand: int, *, stride: int = 1) -> int:
        inner = net.depthwise(net.conv(x, expand * net.channels(x), 1), 3, stride)
        inner = net.conv(inner, filters, 1, act="linear")
        return net.add(x, inner) if stride == 1 and filters == net.channels(x) else inner

    def attention(x: int) -> int:
        _, height, columns, width = net.shape(x)
        joined = net.conv(x, 3 * width, 1, act="linear")
        inner = net.depthwise(joined, 5, act="linear")
        inner = net.conv(inner, 3 * width, 1, act="linear", groups=3 * width // 32)
        both = net.concat([joined, inner])
        heads, places = 2 * width // 32, height * columns
        split = net.transpose(net.reshape(both, heads, 96, places), heads, places, 96)
        query, key = (net.act(net.slice(split, heads, places, 32), "relu") for _ in range(2))
        value = net.concat([net.slice(split, heads, places, 32),
                            net.slice(split, heads, places, 1)])  # fmt: skip
        mixed = net.matmul(net.transpose(value, heads, 33, places), key)
        out = net.matmul(query, net.transpose(mixed, heads, 32, 33))
        out = net.mul(net.slice(out, heads, places, 32), net.slice(out, heads, places, 1))
        out = net.reshape(net.transpose(out, places, heads, 32), height, columns, 2 * width)
        return net.add(x, net.conv(out, width, 1, act="linear"))

    x = net.conv(net.input(int(size), int(size), 3), 24, 3, 2)
    x = net.add(x, net.conv(net.depthwise(x), 24, 1, act="linear"))
    for width, repeats in ((48, 3), (96, 4)):
        for index in range(repeats):
            x = local(x, width, 4, stride=1 if index else 2)
    for width, repeats in ((192, 4), (384, 6)):
        x = local(x, width, 4, stride=2)
        for _ in range(repeats):
            x = local(attention(x), width, 4)
    x = net.reshape(net.mean(net.conv(x, 2304, 1)), 2304)
    x = net.act(net.norm(net.dense(x, 2560, bias=False)), "hard_swish")
    return net.graph(net.dense(x, 1000))


def mobilebert(places: str) -> Graph:
    """MobileBERT (Sun et al. 2020): 24 thin layers, four stacked FFNs; the best word for a mask.

    Each place has scores of all words, of which only those of the mask are read
    (quic/ai-hub-models, _shared/bert_hf/model.py).
    """
    net = Layers("linear")
    count, vocabulary = int(places), 30522
    words = net.embedding(net.input(count), vocabulary, 128)
    mask = net.input(count)
    near = net.concat([net.slice(words, count, 128), words, net.slice(words, count, 128)])
    x = net.shift(net.dense(near, 512), count, 512)
    x = net.shift(net.scale(x))

    def normal(x: int) -> int:  # "NoNorm": a scale and a shift
        return net.shift(net.scale(x))

    for _ in range(24):
        narrow = normal(net.dense(x, 128))
        shared = normal(net.dense(x, 128))
        query, key = (_heads(net, net.dense(shared, 128), 4) for _ in range(2))
        value = _heads(net, net.dense(x, 128), 4)
        scores = net.add(net.scale(net.matmul(query, key, transposed=True), 1), mask)
        mixed = net.matmul(net.act(scores, "softmax"), value)
        mixed = net.reshape(net.transpose(mixed, count, 4, 32), count, 128)
        inner = normal(net.add(net.dense(mixed, 128), narrow))
        for _ in range(4):
            inner = normal(net.add(net.dense(net.dense(inner, 512), 128), inner))
        x = normal(net.add(net.dense(inner, 512), x))
    x = net.norm(net.dense(x, 512, "relu"))
    scores = net.slice(net.dense(x, vocabulary), 1, vocabulary)
    return net.graph(net.argmax(scores))


def resmlp12() -> Graph:
    """ResMLP-S12 (Touvron et al. 2021) with ReLU."""
    net = Layers("linear")
    x = net.reshape(net.conv(net.input(224, 224, 3), 384, 16, 16), 196, 384)
    for _ in range(12):
        across = net.dense(net.transpose(net.shift(net.scale(x)), 384, 196), 196)
        x = net.add(x, net.scale(net.transpose(across, 196, 384)))
        inner = net.dense(net.shift(net.scale(x)), 1536)
        x = net.add(x, net.scale(net.dense(inner, 384)))
    pooled = net.reshape(net.mean(net.reshape(net.shift(net.scale(x)), 14, 14, 384)), 384)
    return net.graph(net.dense(pooled, 1000))
