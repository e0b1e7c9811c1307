"""The XNNPACK rules against LiteRT itself: what its delegate takes, operator by operator."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit.graph.read import read_graph
from edgekit.graph.tflite import read_buffer
from edgekit.graph.types import Graph
from edgekit.profiling.rules import OpView
from edgekit.profiling.rules.litert_xnnpack import XNNPACK
from edgekit.profiling.view import GraphView

litert = pytest.importorskip("ai_edge_litert.interpreter")

PARAMETERS: dict[str, dict[str, Any]] = {
    "float32": {},
    "int8": {"scale": [0.5], "zero_point": [0]},
    "uint8": {"scale": [0.5], "zero_point": [128]},
    "int16": {"scale": [0.001], "zero_point": [0]},
}
SIZES = {"float32": 4, "int8": 1, "uint8": 1, "int16": 2}
IMAGE = (1, 4, 4, 4)


def taken(interpreter: Any) -> set[int]:
    """Positions of the operators inside the delegate's partitions.

    A partition is what leads to its outputs, up to its inputs.
    """
    details = interpreter._get_ops_details()
    operators = [entry for entry in details if entry["op_name"] != "DELEGATE"]
    makers = {int(t): entry["index"] for entry in operators for t in entry["outputs"]}
    found: set[int] = set()
    for partition in details[len(operators) :]:
        border = set(map(int, partition["inputs"]))
        todo = [int(t) for t in partition["outputs"]]
        while todo:
            tensor = todo.pop()
            maker = makers.get(tensor)
            if tensor in border or maker is None or maker in found:
                continue
            found.add(maker)
            todo += map(int, operators[maker]["inputs"])
    return found


def predicted(graph: Graph) -> tuple[set[int], set[int]]:
    """Positions that the rules say are taken, and all that the rules are asked about."""
    view = GraphView(graph)
    asked = {op.index for op in graph.ops if op.index not in view.free}
    fine = {i for i in asked if not XNNPACK.findings(OpView(view, graph.ops[i]))}
    return fine, asked


def allocated(**source: Any) -> Any | None:
    """An interpreter; None where the standard one has no kernel for an operator."""
    try:
        interpreter = litert.Interpreter(num_threads=1, **source)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError):
        return None
    return interpreter


def test_the_rules_agree_with_litert_on_real_files(shared: Path) -> None:
    """387 of 387 operators of 20 files."""
    files = operators = 0
    for path in sorted((shared / "models").glob("*.tflite")):
        interpreter = allocated(model_path=str(path))
        if interpreter is None:  # compiled for the Edge TPU
            continue
        fine, asked = predicted(read_graph(path))
        assert fine == taken(interpreter) & asked, path.name
        files, operators = files + 1, operators + len(asked)
    assert files >= 20
    assert operators >= 387


class Single:
    """Files of one operator."""

    def __init__(self, tools: ModuleType) -> None:
        self.tools = tools

    def data(
        self,
        code: str,
        dtype: str,
        *,
        inputs: Sequence[Any] = (IMAGE,),
        outputs: Sequence[Sequence[int]] = (IMAGE,),
        output: str | None = None,
        options: tuple[str, dict[str, Any]] | None = None,
        output_parameters: dict[str, Any] | None = None,
        order: Iterable[int] | None = None,
    ) -> bytes:
        """A file; an input is a shape, or the values of a constant: (shape, dtype, parameters)."""
        tools = self.tools
        tensors, computed = [], []
        for index, entry in enumerate(inputs):
            if isinstance(entry, dict):
                tensors.append(tools.TensorSpec(f"c{index}", **entry))
                continue
            tensors.append(tools.TensorSpec(f"x{index}", list(entry), dtype, **PARAMETERS[dtype]))
            computed.append(index)
        made = range(len(inputs), len(inputs) + len(outputs))
        result = output or dtype
        parameters = PARAMETERS[result] | (output_parameters or {})
        tensors += [
            tools.TensorSpec(f"y{i}", list(shape), result, **parameters)
            for i, shape in enumerate(outputs)
        ]
        name, values = options or ("", {})
        wiring = list(order or range(len(inputs)))
        op = tools.OpSpec(code, wiring, list(made), values, name)
        return bytes(tools.build(tools.GraphSpec(tensors, [op], computed, list(made))))

    def check(self, code: str, dtype: str, **arguments: Any) -> bool | None:
        """Whether XNNPACK takes it, as LiteRT and the rules say; None if it does not run at all."""
        data = self.data(code, dtype, **arguments)
        interpreter = allocated(model_content=data)
        if interpreter is None:
            return None
        fine, _ = predicted(read_buffer(data))
        real = 0 in taken(interpreter)
        assert (0 in fine) == real, (code, dtype, arguments)
        return real


def weights(shape: Sequence[int], dtype: str, **parameters: Any) -> dict[str, Any]:
    size = SIZES.get(dtype, 4)
    for length in shape:
        size *= length
    return {"shape": list(shape), "dtype": dtype, "data": bytes(size), **parameters}


def integers(*values: int, shape: Sequence[int] | None = None) -> dict[str, Any]:
    data = b"".join(value.to_bytes(4, "little", signed=True) for value in values)
    return {"shape": list(shape or (len(values),)), "dtype": "int32", "data": data}


@pytest.fixture(scope="module")
def single() -> Single:
    import tests.tflite_files as tools

    return Single(tools)


UNARY = """
ABS CEIL FLOOR ROUND NEG SQRT RSQRT SQUARE EXP LOG SIN COS ELU RELU RELU6 RELU_N1_TO_1 RELU_0_TO_1
HARD_SWISH TANH SIGN LOGISTIC LOG_SOFTMAX
"""
BINARY = {
    "ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions", "DIV": "DivOptions",
    "MAXIMUM": "", "MINIMUM": "", "SQUARED_DIFFERENCE": "", "POW": "", "PRELU": "",
    "BATCH_MATMUL": "BatchMatMulOptions",
}  # fmt: skip


@pytest.mark.parametrize("dtype", PARAMETERS)
def test_unary_and_binary_operators(single: Single, dtype: str) -> None:
    found = [single.check(code, dtype) for code in UNARY.split()]
    found += [
        single.check("GELU", dtype, options=("GeluOptions", {})),
        single.check("LEAKY_RELU", dtype, options=("LeakyReluOptions", {"Alpha": 0.25})),
    ]
    found += [
        single.check("SOFTMAX", dtype, options=("SoftmaxOptions", {"Beta": beta}))
        for beta in (1.0, 2.0)
    ]
    for code, name in BINARY.items():
        plain: tuple[str, dict[str, Any]] | None = (name, {}) if name else None
        found.append(single.check(code, dtype, inputs=(IMAGE, IMAGE), options=plain))
    for code in ("ADD", "SUB", "MUL", "DIV"):
        for function in (1, 3, 4):  # RELU, RELU6, TANH
            options = (BINARY[code], {"FusedActivationFunction": function})
            found.append(single.check(code, dtype, inputs=(IMAGE, IMAGE), options=options))
    assert found.count(False) >= 8
    assert (True in found) == (dtype != "int16")


@pytest.mark.parametrize("dtype", PARAMETERS)
def test_operators_that_move_and_reduce(single: Single, dtype: str) -> None:
    found = []
    for axes, shape in (((1, 2), (1, 4)), ((2,), (1, 4, 4)), ((3,), (1, 4, 4)), ((0,), (4, 4, 4))):
        for code in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"):
            found.append(
                single.check(
                    code, dtype, inputs=(IMAGE, integers(*axes)), outputs=(shape,),
                    options=("ReducerOptions", {}),
                )
            )  # fmt: skip
    for count in range(2, 8):
        found.append(
            single.check(
                "CONCATENATION", dtype, inputs=(IMAGE,) * count, outputs=((1, 4, 4, 4 * count),),
                options=("ConcatenationOptions", {"Axis": 3}),
            )
        )  # fmt: skip
    for count in (2, 3, 4, 6):
        found.append(
            single.check(
                "SPLIT", dtype, inputs=(integers(3, shape=()), (1, 4, 4, 24)),
                outputs=((1, 4, 4, 24 // count),) * count,
                options=("SplitOptions", {"NumSplits": count}),
            )
        )  # fmt: skip
    pads = integers(0, 0, 1, 1, 1, 1, 0, 0, shape=(4, 2))
    ends = (integers(0, 0, 0, 0), integers(1, 4, 4, 4), integers(1, 1, 1, 1))
    single_row = (integers(0, 0, 0, 0), integers(1, 1, 4, 4), integers(1, 1, 1, 1))
    cases: list[tuple[str, Sequence[Any], Sequence[int], tuple[str, dict[str, Any]] | None]] = [
        ("PAD", (IMAGE, pads), (1, 6, 6, 4), None),
        ("MIRROR_PAD", (IMAGE, pads), (1, 6, 6, 4), ("MirrorPadOptions", {})),
        ("RESHAPE", (IMAGE, integers(1, 64)), (1, 64), None),
        ("TRANSPOSE", (IMAGE, integers(0, 2, 1, 3)), IMAGE, None),
        ("SLICE", (IMAGE, integers(0, 1, 1, 0), integers(1, 2, 2, 4)), (1, 2, 2, 4), None),
        ("STRIDED_SLICE", (IMAGE, *ends), IMAGE, ("StridedSliceOptions", {})),
        ("STRIDED_SLICE", (IMAGE, *single_row), (1, 4, 4),
         ("StridedSliceOptions", {"ShrinkAxisMask": 2})),
        ("RESIZE_BILINEAR", (IMAGE, integers(8, 8)), (1, 8, 8, 4), ("ResizeBilinearOptions", {})),
        ("RESIZE_NEAREST_NEIGHBOR", (IMAGE, integers(8, 8)), (1, 8, 8, 4),
         ("ResizeNearestNeighborOptions", {})),
        ("DEPTH_TO_SPACE", (IMAGE,), (1, 8, 8, 1), ("DepthToSpaceOptions", {"BlockSize": 2})),
        ("SPACE_TO_DEPTH", (IMAGE,), (1, 2, 2, 16), ("SpaceToDepthOptions", {"BlockSize": 2})),
        ("TILE", (IMAGE, integers(1, 2, 1, 1)), (1, 8, 4, 4), None),
        ("GATHER", (IMAGE, integers(0, 1)), (1, 2, 4, 4), ("GatherOptions", {"Axis": 1})),
        ("EXPAND_DIMS", (IMAGE, integers(1, shape=())), (1, 1, 4, 4, 4), None),
    ]  # fmt: skip
    for code, inputs, result, options in cases:
        found.append(single.check(code, dtype, inputs=inputs, outputs=(result,), options=options))
    assert found.count(False) >= 8
    assert (True in found) == (dtype != "int16")


@pytest.mark.parametrize("dtype", PARAMETERS)
def test_pools(single: Single, dtype: str) -> None:
    for code in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
        for window in (1, 2):
            options = {"Padding": 1, "StrideW": 2, "StrideH": 2}
            options |= {"FilterWidth": window, "FilterHeight": window}
            found = single.check(
                code, dtype, outputs=((1, 2, 2, 4),), options=("Pool2DOptions", options)
            )
            eight_bit = code == "MAX_POOL_2D" and dtype in ("int8", "uint8")
            assert found is (window == 2 and (dtype == "float32" or eight_bit))


LAYERS: dict[str, tuple[tuple[int, ...], str, dict[str, int]]] = {
    "CONV_2D": ((4, 3, 3, 4), "Conv2DOptions",
                {"StrideW": 1, "StrideH": 1, "DilationWFactor": 1, "DilationHFactor": 1}),
    "DEPTHWISE_CONV_2D": ((1, 3, 3, 4), "DepthwiseConv2DOptions",
                          {"StrideW": 1, "StrideH": 1, "DepthMultiplier": 1,
                           "DilationWFactor": 1, "DilationHFactor": 1}),
    "FULLY_CONNECTED": ((4, 4), "FullyConnectedOptions", {"KeepNumDims": 1}),
}  # fmt: skip


@pytest.mark.parametrize("code", LAYERS)
@pytest.mark.parametrize("dtype", PARAMETERS)
def test_layers_with_weights(single: Single, code: str, dtype: str) -> None:
    shape, name, values = LAYERS[code]
    stored = {"float32": "float32", "uint8": "uint8"}.get(dtype, "int8")
    per_tensor: dict[str, Any] = {}
    if dtype != "float32":
        per_tensor = {"scale": [0.1], "zero_point": [128 if stored == "uint8" else 0]}
    axis = 3 if code == "DEPTHWISE_CONV_2D" else 0
    per_channel = {"scale": [0.1] * 4, "zero_point": [0] * 4, "axis": axis}
    bias = weights((4,), "float32" if dtype == "float32" else "int32")
    if dtype == "int16":
        bias = {"shape": [4], "dtype": "int64", "data": bytes(32)}
    if dtype != "float32":
        bias |= {"scale": [PARAMETERS[dtype]["scale"][0] * 0.1], "zero_point": [0]}
    plain = weights(shape, stored, **per_tensor)
    cases: list[tuple[Sequence[Any], int]] = [
        ((IMAGE, plain, bias), 0),
        ((IMAGE, plain, bias), 1),  # RELU
        ((IMAGE, plain, bias), 4),  # TANH
        ((IMAGE, plain), 0),
        ((IMAGE, shape, bias), 0),  # computed weights
        ((IMAGE, weights(shape, "int8", **per_channel), bias), 0),  # dynamic range for float
    ]
    found = [
        single.check(
            code, dtype, inputs=inputs, options=(name, values | {"FusedActivationFunction": f})
        )
        for inputs, f in cases
    ]
    assert found[0] is (dtype != "int16")
    assert True not in (found[2], found[4])


@pytest.mark.parametrize("source", PARAMETERS)
@pytest.mark.parametrize("result", ["int8", "uint8", "int16"])
def test_quantize(single: Single, source: str, result: str) -> None:
    found = single.check("QUANTIZE", source, output=result)
    if found is not None:
        assert found is (source in ("float32", result) and result in ("int8", "uint8"))


@pytest.mark.parametrize("source", ["int8", "uint8", "int16"])
def test_dequantize(single: Single, source: str) -> None:
    assert single.check("DEQUANTIZE", source, output="float32") is (source != "int16")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(code=st.sampled_from(["ADD", "SUB", "MUL", "QUANTIZE"]), exponent=st.integers(-19, 11))
def test_limits_of_scales(single: Single, code: str, exponent: int) -> None:
    """The ratio of input to output scale: 2**exponent, and a bit above and below."""
    inputs = (IMAGE,) if code == "QUANTIZE" else (IMAGE, IMAGE)
    name = BINARY.get(code)
    real = 0.25 if code == "MUL" else 0.5
    for factor in (0.75, 1.0, 1.5):
        scale = real / (2.0**exponent * factor)
        single.check(
            code, "int8", inputs=inputs, options=(name, {}) if name else None,
            output_parameters={"scale": [scale]},
        )  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    alpha=st.sampled_from([-200.0, -128.0, -127.0, -1.0, -0.003, 0.0, 0.003, 0.004, 1.0, 129.0]),
    exponent=st.integers(-10, 9),
)
def test_limits_of_leaky_relu(single: Single, alpha: float, exponent: int) -> None:
    single.check(
        "LEAKY_RELU", "int8", options=("LeakyReluOptions", {"Alpha": alpha}),
        output_parameters={"scale": [0.5 / 2.0**exponent]},
    )  # fmt: skip
