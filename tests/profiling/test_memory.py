from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.graph.tflite import read_tflite
from edgekit.graph.types import Graph, Op, Port, Tensor
from edgekit.profiling.memory.arena import Block, MemoryPlan, Planner, pack, plan
from edgekit.profiling.memory.litert import litert_scratch


def make_graph(
    sizes: list[int],
    ops: list[tuple[str, list[int], list[int]]],
    inputs: list[int],
    outputs: list[int],
    *,
    constants: tuple[int, ...] = (),
    fmt: str = "tflite",
) -> Graph:
    """A graph of int8 vectors of these sizes."""
    return Graph(
        format=fmt,  # type: ignore[arg-type]
        name="g",
        tensors=tuple(
            Tensor(i, f"t{i}", (size,), "int8", constant=i in constants)
            for i, size in enumerate(sizes)
        ),
        ops=tuple(
            Op(i, name, "other", "", tuple(read), tuple(made))
            for i, (name, read, made) in enumerate(ops)
        ),
        inputs=tuple(Port(f"i{i}", i) for i in inputs),
        outputs=tuple(Port(f"o{i}", i) for i in outputs),
        file_bytes=0,
    )


def lifetimes(found: MemoryPlan) -> dict[int | None, tuple[int, int]]:
    return {block.tensor: (block.first, block.last) for block in found.blocks}


def test_lifetimes() -> None:
    graph = make_graph(
        [8, 8, 8, 8, 8], [("A", [0, 4], [1]), ("B", [1], [2]), ("C", [2], [3])], [0], [3],
        constants=(4,),
    )  # fmt: skip
    assert lifetimes(plan(graph)) == {0: (0, 3), 1: (0, 1), 2: (1, 2), 3: (2, 3)}
    assert lifetimes(plan(graph, planner="tflm")) == {0: (0, 0), 1: (0, 1), 2: (1, 2), 3: (2, 2)}


def test_peak_is_where_most_is_alive() -> None:
    graph = make_graph([10, 100, 300, 5], [("A", [0], [1]), ("B", [1], [2]), ("C", [2], [3])],
                       [0], [3])  # fmt: skip
    found = plan(graph, alignment=1)
    assert (found.peak_bytes, found.peak_op, found.arena_bytes) == (410, 1, 410)


def test_views_share_memory_and_outputs_do_not() -> None:
    ops = [("NEG", [0], [1]), ("RESHAPE", [1], [2]), ("NEG", [2], [3]), ("RESHAPE", [3], [4])]
    found = lifetimes(plan(make_graph([64] * 5, ops, [0], [4])))
    assert found == {0: (0, 4), 1: (0, 2), 3: (2, 3), 4: (3, 4)}


def test_an_input_is_overwritten_only_by_its_last_reader() -> None:
    ops = [("NEG", [0], [1]), ("NEG", [1], [2]), ("ADD", [1, 2], [3]), ("NEG", [3], [4])]
    assert 3 not in lifetimes(plan(make_graph([64] * 5, ops, [0], [4])))
    ops[3] = ("MAXIMUM", [3, 1], [4])  # 1 is still needed, 2 is not
    assert lifetimes(plan(make_graph([64] * 5, ops, [0], [4])))[2] == (1, 3)
    ops[3] = ("MAXIMUM_2", [2, 1], [4])  # both are still needed
    assert 3 in lifetimes(plan(make_graph([64] * 5, ops, [0], [4])))


def test_variables_and_dequantized_weights_stay() -> None:
    ops = [("DEQUANTIZE", [1], [2]), ("LSTM", [0, 2, 3], [4]), ("NEG", [4], [5])]
    found = plan(make_graph([8] * 6, ops, [0], [5], constants=(1,)))
    assert lifetimes(found) == {0: (0, 3), 4: (1, 2), 5: (2, 3)}
    assert [(block.tensor, block.offset) for block in found.persistent] == [(2, 0), (3, 64)]
    assert found.persistent_bytes == 72


def test_onnx_qdq_tensors_have_no_memory_of_their_own() -> None:
    ops = [
        ("QuantizeLinear", [0], [1]),
        ("DequantizeLinear", [1], [2]),
        ("DequantizeLinear", [3], [4]),
        ("Conv", [2, 4], [5]),
        ("QuantizeLinear", [5], [6]),
        ("DequantizeLinear", [6], [7]),
    ]
    graph = make_graph([400, 100, 400, 9, 36, 400, 100, 400], ops, [0], [7], constants=(3,),
                       fmt="onnx")  # fmt: skip
    assert lifetimes(plan(graph)) == {0: (0, 6), 1: (0, 3), 6: (3, 5), 7: (5, 6)}


def test_scratch_lives_during_its_operator() -> None:
    graph = make_graph([16, 16, 16], [("A", [0], [1]), ("B", [1], [2])], [0], [2])
    assert plan(graph, scratch=[(1, 1000)]).peak_bytes == 48 + 1000
    assert lifetimes(plan(graph, scratch=[(1, 1000)]))[None] == (1, 1)


def test_graph_without_operators() -> None:
    assert plan(make_graph([5], [], [0], [0])) == MemoryPlan((Block(0, 5, 0, 0),), 5, 5, 0)
    assert plan(make_graph([], [], [], [])) == MemoryPlan((), 0, 0, 0)


@st.composite
def graphs(draw: st.DrawFn, most: int = 12) -> Graph:
    """Operators that read any earlier tensors, some of them views or in place."""
    count = draw(st.integers(1, most))
    sizes = [draw(st.sampled_from([0, 1, 7, 16, 64, 65, 300]))]
    ops = []
    for _ in range(count):
        name = draw(st.sampled_from(["CONV_2D", "RESHAPE", "ADD", "SOFTMAX", "SPLIT"]))
        read = draw(st.lists(st.integers(0, len(sizes) - 1), min_size=1, max_size=3))
        made = list(range(len(sizes), len(sizes) + (2 if name == "SPLIT" else 1)))
        same = name in ("RESHAPE", "ADD", "SOFTMAX") and draw(st.booleans())
        sizes += [sizes[read[0]] if same else draw(st.integers(0, 200)) for _ in made]
        ops.append((name, read, made))
    outputs = draw(st.lists(st.integers(1, len(sizes) - 1), min_size=1, max_size=3, unique=True))
    return make_graph(sizes, ops, [0], outputs)


@settings(max_examples=300, deadline=None)
@given(graph=graphs(), planner=st.sampled_from(["tflite", "tflm"]),
       alignment=st.sampled_from([1, 4, 16, 64]), data=st.data())  # fmt: skip
def test_blocks_that_live_together_never_overlap(
    graph: Graph, planner: Planner, alignment: int, data: st.DataObject
) -> None:
    scratch = data.draw(
        st.lists(st.tuples(st.integers(0, len(graph.ops) - 1), st.integers(1, 500)), max_size=3)
    )
    found = plan(graph, planner=planner, alignment=alignment, scratch=scratch)
    assert found.arena_bytes >= found.peak_bytes
    for block in found.blocks:
        assert block.offset % alignment == 0
        assert 0 <= block.first <= block.last <= len(graph.ops)
        assert block.offset + block.bytes <= found.arena_bytes
    for one, two in combinations([block for block in found.blocks if block.bytes], 2):
        if one.first <= two.last and two.first <= one.last:
            assert one.offset + one.bytes <= two.offset or two.offset + two.bytes <= one.offset
    # Each tensor that is read is in memory from its making to its last reading.
    homes = {block.tensor: block for block in found.blocks}
    for op in graph.ops:
        for tensor in (*op.inputs, *op.outputs):
            if tensor in homes and planner == "tflm":
                assert homes[tensor].first <= op.index <= homes[tensor].last


def test_best_fit_takes_the_smallest_gap() -> None:
    # Three walls leave a gap of 40 at 10 and one of 20 at 60.
    walls = [Block(0, 10, 0, 2), Block(1, 40, 0, 0), Block(2, 10, 0, 2), Block(3, 20, 0, 0),
             Block(4, 10, 0, 2)]  # fmt: skip
    best = pack([*walls, Block(5, 15, 1, 1)], alignment=1, best_fit=True)
    first = pack([*walls, Block(5, 15, 1, 1)], alignment=1, best_fit=False)
    assert next(block.offset for block in best if block.tensor == 5) == 60
    assert next(block.offset for block in first if block.tensor == 5) == 10


LITERT = [
    "coral_deeplabv3_mnv2_dm05_pascal_quant",
    "coral_keras_lstm_mnist_ptq",
    "coral_mobilenet_v1_0.25_128_quant",
    "coral_mobilenet_v1_0.75_192_quant",
    "coral_mobilenet_v2_1.0_224_quant",
    "coral_split_concat",
    "mlperf_tiny_ad_fp32",
    "mlperf_tiny_ad_int8",
    "mlperf_tiny_ic_fp32",
    "mlperf_tiny_ic_int8",
    "mlperf_tiny_kws_int8",
    "mlperf_tiny_vww_fp32",
    "mlperf_tiny_vww_int8",
    "tinymlfc_FC10p50_Digits",
    "tinymlfc_FC10p50_Iris",
    "tinymlfc_FC10x10_Digits",
    "tinymlfc_FC10x10_Iris",
    "tinymlfc_FC1x10_Digits",
    "tinymlfc_FC1x10_Iris",
]


def in_memory(path: Path) -> tuple[Graph, MemoryPlan, dict[int, int]]:
    """The plan of a file, and where LiteRT puts the tensors of its blocks, from the first input."""
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    interpreter = litert.Interpreter(
        model_path=str(path),
        num_threads=1,
        experimental_op_resolver_type=litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    graph = read_tflite(path)
    found = plan(graph, scratch=litert_scratch(graph))

    def address(tensor: int) -> int:
        return int(interpreter.tensor(tensor)().__array_interface__["data"][0])

    start = address(graph.inputs[0].tensor)
    blocks = [block.tensor for block in (*found.blocks, *found.persistent)]
    return graph, found, {i: address(i) - start for i in blocks if i is not None}


@pytest.mark.parametrize("name", LITERT)
def test_litert_puts_every_tensor_where_the_plan_does(shared: Path, name: str) -> None:
    """Offsets, one by one, against the addresses that LiteRT's own arena gives to the tensors.

    All files of the shared models that LiteRT runs without a delegate are here, but one (below).
    """
    graph, found, real = in_memory(shared / "models" / f"{name}.tflite")
    predicted = {block.tensor: block.offset for block in found.blocks if block.tensor is not None}
    assert len(predicted) >= len(graph.inputs) + len(graph.outputs)
    assert {tensor: real[tensor] for tensor in predicted} == predicted
    # The second arena is elsewhere in memory, but packed the same way.
    kept = {block.tensor: block.offset for block in found.persistent if block.tensor is not None}
    first = min((real[tensor] for tensor in kept), default=0)
    assert {tensor: real[tensor] - first for tensor in kept} == kept


def test_litert_arena_of_a_dynamic_range_file(shared: Path) -> None:
    """Blocks of equal size, made by one operator, may change places: LiteRT hashes them."""
    _, found, real = in_memory(shared / "models/mlperf_tiny_kws_fp32.tflite")
    sizes = {block.tensor: block.bytes for block in found.blocks}
    assert max(real[tensor] + sizes[tensor] for tensor in real) <= found.arena_bytes
    moved = {b.tensor for b in found.blocks if b.tensor is not None and real[b.tensor] != b.offset}
    scratch = {(block.bytes, block.first) for block in found.blocks if block.tensor is None}
    assert all(
        (block.bytes, block.first) in scratch for block in found.blocks if block.tensor in moved
    )
