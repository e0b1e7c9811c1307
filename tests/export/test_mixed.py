"""Layers in precisions of their own: what the file stores, read by the schema's own classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tflite
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.base.errors import ConversionError, InputError
from edgekit.export.layer_precision import is_mixed, layer_precisions
from edgekit.export.mixed import mix_precisions
from edgekit.graph.tflite import constant_values, read_buffer
from edgekit.runtimes.open import open_session
from edgekit.runtimes.session import predict

WIDTH = 12
TYPES = {number: name.lower() for name, number in vars(tflite.TensorType).items() if name.isupper()}


def chain(files: ModuleType, weights: Mapping[str, np.ndarray], ops: Sequence[str] = ()) -> bytes:
    """A float file: dense layers by name, then operators of one input."""
    tensors = [files.TensorSpec("serving_default_x:0", (1, WIDTH))]
    made = []
    for name, values in weights.items():
        rows = len(values)
        count = len(tensors)
        tensors += [
            files.TensorSpec(f"m/{name}/MatMul", values.shape, data=values.tobytes()),
            files.TensorSpec(
                f"m/{name}/BiasAdd", (rows,), data=np.linspace(-1, 1, rows, dtype="f4").tobytes()
            ),
            files.TensorSpec(f"m/{name}/Relu;m/{name}_act/Add", (1, rows)),
        ]
        source = count - 1 if count > 1 else 0
        inputs, outputs = [source, count, count + 1], [count + 2]
        made.append(
            files.OpSpec("FULLY_CONNECTED", inputs, outputs, options_class="FullyConnectedOptions")
        )
    for op in ops:
        count = len(tensors)
        tensors.append(files.TensorSpec(f"m/{op.lower()}/Out", tensors[-1].shape))
        made.append(files.OpSpec(op, [count - 1], [count], options_class=f"{op.title()}Options"))
    last = len(tensors) - 1
    content: bytes = files.build(
        files.GraphSpec(tensors, made, [0], [last]),
        names={"Inputs": {"x": 0}, "Outputs": {"y": last}},
    )
    return content


def stored(content: bytes) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """Operators with the types of their inputs and outputs, without our reader."""
    model = tflite.Model.GetRootAs(content, 0)
    graph = model.Subgraphs(0)
    found = []
    for op in (graph.Operators(i) for i in range(graph.OperatorsLength())):
        code = model.OperatorCodes(op.OpcodeIndex()).BuiltinCode()
        inputs, outputs = (
            tuple(TYPES[graph.Tensors(i).Type()] for i in indices)
            for indices in (op.InputsAsNumpy(), op.OutputsAsNumpy())
        )
        found.append((tflite.BUILTIN_OPCODE2NAME[code], inputs, outputs))
    return found


def batches(seed: int = 0, count: int = 32) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(seed)
    return [{"x": random.normal(size=(1, WIDTH)).astype(np.float32)} for _ in range(count)]


@pytest.fixture(scope="module")
def three(tflite_files: ModuleType) -> bytes:
    random = np.random.default_rng(0)
    weights = {n: random.normal(size=(WIDTH, WIDTH)).astype(np.float32) for n in "abc"}
    return chain(tflite_files, weights)


DENSE = "FULLY_CONNECTED"
INT8 = (DENSE, ("int8", "int8", "int32"), ("int8",))
INT16 = (DENSE, ("int16", "int8", "int64"), ("int16",))
FLOAT = (DENSE, ("float32",) * 3, ("float32",))
DYNAMIC = (DENSE, ("float32", "int8", "float32"), ("float32",))


@pytest.mark.parametrize(
    ("layers", "expected", "ports"),
    [
        ({}, [INT8, INT8, INT8], ("int8", "int8")),
        ({"a": "int16x8"}, [INT16, INT8, INT8], ("int16", "int8")),
        ({"b": "int16x8"}, [INT8, INT16, INT8], ("int8", "int8")),
        ({"b_act": "fp32"}, [INT8, FLOAT, INT8], ("int8", "int8")),
        ({"b": "int8-dynamic", "c": "int8"}, [INT8, DYNAMIC, INT8], ("int8", "int8")),
        ({"a": "fp32", "c": "int16x8"}, [FLOAT, INT8, INT16], ("float32", "int16")),
        (dict.fromkeys("abc", "fp32"), [FLOAT] * 3, ("float32", "float32")),
    ],
)
def test_each_layer_is_stored_as_planned(
    three: bytes,
    tmp_path: Path,
    layers: dict[str, Any],
    expected: list[Any],
    ports: tuple[str, ...],
) -> None:
    made = mix_precisions(three, layers, batches())
    assert [op for op in stored(made) if op[0] == DENSE] == expected
    words = {"a": "int8", "b": "int8", "c": "int8"} | {k[0]: v for k, v in layers.items()}
    told = layer_precisions(read_buffer(made))
    assert {name: told[name] for name in "abc"} == words
    assert is_mixed(read_buffer(made)) == (len(set(words.values())) > 1)
    (tmp_path / "float.tflite").write_bytes(three)
    (tmp_path / "made.tflite").write_bytes(made)
    x = {"x": np.concatenate([batch["x"] for batch in batches()])}
    with open_session(tmp_path / "float.tflite") as session:
        reference = predict(session, x)["y"]
    with open_session(tmp_path / "made.tflite") as session:
        assert (session.inputs[0].dtype, session.outputs[0].dtype) == ports
        error = predict(session, x)["y"] - reference
    assert 10 * np.log10(np.square(reference).sum() / max(1e-30, np.square(error).sum())) > 30


def test_older_readers_find_the_operators(three: bytes) -> None:
    """tf2onnx and OpenVINO look at the first field of an operator code only."""
    model = tflite.Model.GetRootAs(mix_precisions(three, {"b": "fp32"}, batches()), 0)
    codes = [model.OperatorCodes(i) for i in range(model.OperatorCodesLength())]
    assert {code.DeprecatedBuiltinCode() for code in codes} == {
        tflite.BuiltinOperator.FULLY_CONNECTED,
        tflite.BuiltinOperator.DEQUANTIZE,
        tflite.BuiltinOperator.QUANTIZE,
    }


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ({"aa": "fp32"}, "'aa'"),
        ({"a": "fp32", "a_act": "int16x8"}, "both are one FULLY_CONNECTED"),
        ({"a": "fp16"}, "planned in fp16"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(three: bytes, layers: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        mix_precisions(three, layers, batches())


def test_a_wrong_name_gets_a_hint(three: bytes) -> None:
    with pytest.raises(InputError) as caught:
        mix_precisions(three, {"b_at": "fp32"}, batches())
    assert "did you mean 'b_act'" in (caught.value.hint or "")


def test_what_the_quantizer_does_not_know_stays_float_unless_it_is_asked_for(
    tflite_files: ModuleType,
) -> None:
    weights = {"a": np.eye(WIDTH, dtype=np.float32)}
    content = chain(tflite_files, weights, ["NEG"])
    made = stored(mix_precisions(content, {}, batches()))
    assert [op for op in made if op[0] in (DENSE, "NEG")] == [
        INT8,
        ("NEG", ("float32",), ("float32",)),
    ]
    with pytest.raises(ConversionError, match="NEG in int16x8"):
        mix_precisions(content, {"neg": "int16x8"}, batches())


row = st.lists(st.integers(-126, 126), min_size=WIDTH - 1, max_size=WIDTH - 1)


@settings(max_examples=8)
@given(rows=st.lists(row, min_size=WIDTH, max_size=WIDTH), scale=st.floats(1e-3, 1.0))
def test_weights_on_int8_steps_keep_their_codes(
    tflite_files: ModuleType, rows: list[list[int]], scale: float
) -> None:
    """As adaptive rounding and quantization-aware training leave them."""
    wanted = np.array([[127, *values] for values in rows], np.int8)
    steps = (scale * np.linspace(0.1, 1, WIDTH) / 127)[:, None]
    weights = (wanted * steps).astype(np.float32)
    content = chain(tflite_files, {"a": weights, "b": weights})
    made = mix_precisions(content, {"b": "int16x8"}, batches(count=4))
    graph = read_buffer(made)
    dense = [op for op in graph.ops if op.name == DENSE]
    for op in dense:
        tensor = graph.tensors[op.inputs[1]]
        assert np.array_equal(constant_values(made, op.inputs[1]), wanted)
        assert tensor.quantization is not None and set(tensor.quantization.zero_point) == {0}
        np.testing.assert_allclose(tensor.quantization.scale, steps[:, 0], rtol=1e-5)
