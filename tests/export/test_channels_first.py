"""Where channels come first an ONNX graph computes the same, checked in ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
helper = onnx.helper

FIRST, LAST = [0, 3, 1, 2], [0, 2, 3, 1]
FLOAT = onnx.TensorProto.FLOAT


class Drawn:
    """A model under construction; images are (2, height, width, channels), or channels first."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shapes = {"x": shape}
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(self, op: str, inputs: list[str], shape: tuple[int, ...], **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        # As the converter has it: a node is named as a tensor, and not always its own.
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        self.shapes[name] = shape
        return name

    def transpose(self, name: str, order: list[int]) -> str:
        shape = tuple(self.shapes[name][axis] for axis in order)
        return self.add("Transpose", [name], shape, perm=order)

    def model(self, outputs: list[str]) -> Any:
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("x", FLOAT, self.shapes["x"])],
            [helper.make_tensor_value_info(name, FLOAT, self.shapes[name]) for name in outputs],
            self.constants,
        )
        opset = helper.make_opsetid("", 18)
        return helper.make_model(graph, opset_imports=[opset], ir_version=8)


def run(model: Any, x: np.ndarray) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options)
    return [np.asarray(value) for value in session.run(None, {"x": x})]


def count(model: Any, op: str = "Transpose") -> int:
    return sum(node.op_type == op for node in model.graph.node)


def rewritten(model: Any) -> Any:
    from edgekit.export.channels_first import store_channels_first

    made = onnx.ModelProto()
    made.CopyFrom(model)
    store_channels_first(made)
    onnx.checker.check_model(made, full_check=True)
    return made


STEPS = (
    "unary", "row", "stored", "pair", "rounded", "clip", "concat", "pad", "maximum", "softmax",
    "slice", "split", "transpose", "there and back", "pool", "reshape", "flatten",
)  # fmt: skip


def step(drawn: Drawn, kind: str, name: str, other: str, seed: int) -> list[str]:
    """Adds a step after an image, in which another one of any shape may take part."""
    random = np.random.default_rng(seed)
    shape = drawn.shapes[name]
    axis = int(random.integers(1, 4))
    if kind == "unary":
        op = ("Relu", "Sigmoid", "HardSwish", "Neg", "Tanh", "Abs")[seed % 6]
        return [drawn.add(op, [name], shape)]
    if kind in ("row", "stored"):
        sizes = [size if random.random() < 0.6 else 1 for size in shape[int(random.integers(4)) :]]
        if kind == "row":
            values = drawn.constant(random.normal(size=sizes).astype(np.float32))
        else:
            codes = drawn.constant(random.integers(-9, 9, sizes).astype(np.int8))
            scale, zero = drawn.constant(np.float32(0.1)), drawn.constant(np.int8(2))
            values = drawn.add("DequantizeLinear", [codes, scale, zero], tuple(sizes))
        inputs = [name, values] if seed % 2 else [values, name]
        return [drawn.add(("Mul", "Add", "Sub")[seed % 3], inputs, shape)]
    if kind == "pair":
        if drawn.shapes[other] != shape:
            other = name
        return [drawn.add(("Mul", "Add", "Max")[seed % 3], [name, other], shape)]
    if kind == "rounded":
        scale, zero = drawn.constant(np.float32(0.05)), drawn.constant(np.uint8(128))
        codes = drawn.add("QuantizeLinear", [name, scale, zero], shape)
        return [drawn.add("DequantizeLinear", [codes, scale, zero], shape)]
    if kind == "clip":
        limits = [drawn.constant(np.float32(limit)) for limit in (-0.5, 0.5)]
        return [drawn.add("Clip", [name, *limits], shape)]
    if kind == "concat":
        parts = [name, other if drawn.shapes[other] == shape else name]
        longer = tuple(size * (1 + (index == axis)) for index, size in enumerate(shape))
        return [drawn.add("Concat", parts, longer, axis=axis - 4 * (seed % 2))]
    if kind == "pad":
        ends = random.integers(0, 2, 8)
        ends[[0, 4]] = 0
        wider = tuple(int(n) for n in np.array(shape) + ends[:4] + ends[4:])
        return [drawn.add("Pad", [name, drawn.constant(ends)], wider)]
    if kind == "maximum":
        axes = sorted(random.choice([1, 2, 3], int(random.integers(1, 4)), replace=False))
        kept = tuple(1 if index in axes else size for index, size in enumerate(shape))
        where = drawn.constant(np.array(axes) - 4 * (seed % 2))
        most = drawn.add("ReduceMax", [name, where], kept, keepdims=1)
        return [drawn.add("Mul", [name, most], shape)]
    if kind == "softmax":
        return [drawn.add("Softmax", [name], shape, axis=axis)]
    if kind == "slice":
        places = [drawn.constant(np.array([n])) for n in (0, 1 + shape[axis] // 2, axis, 1)]
        less = tuple(1 + n // 2 if index == axis else n for index, n in enumerate(shape))
        return [drawn.add("Slice", [name, *places], less)]
    if kind == "split":
        counts = drawn.constant(np.array([1, shape[axis] - 1]))
        if shape[axis] < 2:
            return [name]
        first, second = (
            tuple(n if index == axis else size for index, size in enumerate(shape))
            for n in (1, shape[axis] - 1)
        )
        made = drawn.add("Split", [name, counts], first, axis=axis)
        drawn.nodes[-1].output.append(f"{made}b")
        drawn.shapes[f"{made}b"] = second
        return [made, f"{made}b"]
    if kind == "transpose":
        return [drawn.transpose(name, FIRST if seed % 3 else LAST)]
    if kind == "there and back":
        return [drawn.transpose(drawn.transpose(name, LAST if seed % 3 else FIRST), FIRST)]
    if kind == "pool":  # cares for the layout
        return [drawn.add("MaxPool", [name], shape, kernel_shape=[3, 3], pads=[1] * 4)]
    if kind == "reshape":  # as a transposition where a size is 1
        order = FIRST if seed % 2 else LAST
        moved = tuple(shape[axis] for axis in order)
        return [drawn.add("Reshape", [name, drawn.constant(np.array(moved))], moved)]
    image = drawn.constant(np.array([1, 2]))
    flat = drawn.add("ReduceMax", [name, image], (shape[0], shape[3]), keepdims=0)
    back = drawn.constant(np.array([shape[0], 1, 1, shape[3]]))
    return [drawn.add("Reshape", [flat, back], (shape[0], 1, 1, shape[3]))]


@settings(max_examples=150, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(STEPS), st.integers(0, 9), st.integers(0, 9), st.integers(0, 99)),
        min_size=2,
        max_size=14,
    ),
    shape=st.tuples(st.just(2), *[st.integers(1, 4)] * 3),
    more=st.integers(0, 20),
)
def test_any_graph_computes_the_same_with_no_more_transpositions(
    steps: list[tuple[str, int, int, int]], shape: tuple[int, ...], more: int
) -> None:
    drawn, images = Drawn(shape), ["x"]
    for kind, one, other, seed in steps:
        name, partner = images[-1 - one % len(images)], images[-1 - other % len(images)]
        if max(drawn.shapes[name]) < 40:
            images += step(drawn, kind, name, partner, seed)
    made = [name for node in drawn.nodes for name in node.output]
    images = [name for name in dict.fromkeys(images) if name in made]
    if not images:
        return
    outputs = list(dict.fromkeys([images[-1], images[more % len(images)]]))
    model = drawn.model(outputs)
    onnx.checker.check_model(model, full_check=True)
    after = rewritten(model)
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    for was, now in zip(run(model, x), run(after, x), strict=True):
        np.testing.assert_array_equal(was, now)
    assert count(after) <= count(model)
    again = rewritten(after)
    assert count(again) <= count(after)


def chain(*kinds: str, images: tuple[int, ...] = (2, 4, 3, 5)) -> tuple[Drawn, str]:
    """Channels last: a layer, channels first, then steps of these kinds, then another layer."""
    drawn = Drawn(images)
    first = drawn.transpose("x", FIRST)
    name = drawn.transpose(step(drawn, "pool", first, first, 0)[0], LAST)
    for number, kind in enumerate(kinds):
        name = step(drawn, kind, name, name, number)[0]
    return drawn, step(drawn, "pool", drawn.transpose(name, FIRST), "x", 0)[0]


@pytest.mark.parametrize("kind", [k for k in STEPS if k not in ("pool", "transpose", "flatten")])
def test_what_lies_between_two_layers_follows_them(kind: str) -> None:
    images = (2, 1, 1, 5) if kind in ("reshape", "there and back") else (2, 4, 3, 5)
    drawn, last = chain("unary", kind, "row", images=images)
    model = drawn.model([last])
    made = rewritten(model)
    assert (count(model), count(made)) == (
        5 if kind == "there and back" else 3,
        1 - (images[1] == 1),
    )
    x = np.random.default_rng(0).normal(size=images).astype(np.float32)
    np.testing.assert_array_equal(run(model, x)[0], run(made, x)[0])


def test_what_a_dense_layer_reads_stays() -> None:
    """Channels first would cost a transposition for the layer and save the other one."""
    drawn = Drawn((2, 3, 3, 5))
    first = drawn.transpose("x", FIRST)
    image = drawn.transpose(step(drawn, "pool", first, first, 0)[0], LAST)
    image = step(drawn, "row", image, image, 1)[0]
    weights = drawn.constant(np.ones((5, 5), np.float32))
    model = drawn.model([drawn.add("MatMul", [image, weights], (2, 3, 3, 5))])
    made = rewritten(model)
    assert [node.op_type for node in made.graph.node] == [n.op_type for n in model.graph.node]


def test_an_image_is_transposed_before_it_grows() -> None:
    drawn = Drawn((2, 8, 8, 3))
    ends = drawn.constant(np.array([0, 3, 3, 0, 0, 3, 3, 0]))
    padded = drawn.add("Pad", ["x", ends], (2, 14, 14, 3))
    model = drawn.model([step(drawn, "pool", drawn.transpose(padded, FIRST), "x", 0)[0]])
    made = rewritten(model)
    assert [node.op_type for node in made.graph.node] == ["Transpose", "Pad", "MaxPool"]


def test_graphs_inside_nodes_are_left_alone() -> None:
    drawn, last = chain("unary")
    branch = helper.make_graph(
        [helper.make_node("Identity", [last], ["inner"])],
        "branch",
        [],
        [helper.make_tensor_value_info("inner", FLOAT, drawn.shapes[last])],
    )
    true = drawn.constant(np.array(True))
    name = drawn.add("If", [true], drawn.shapes[last], then_branch=branch, else_branch=branch)
    model = drawn.model([name])
    assert rewritten(model).SerializeToString() == model.SerializeToString()
