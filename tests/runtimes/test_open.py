"""Sessions of the three runtimes on files written by hand, good and bad."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edgekit.base.errors import DataError, InputError, ModelFileError, ToolError
from edgekit.runtimes.metadata import IoRecord
from edgekit.runtimes.open import open_session
from edgekit.runtimes.session import predict, run_raw
from edgekit.schema.artifact import TensorInfo
from edgekit.schema.quantization import Quantization

SUFFIXES = (".tflite", ".onnx", ".xml")
X = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)


def write(tiny: ModuleType, folder: Path, suffix: str) -> Path:
    writer = {".tflite": tiny.write_tflite, ".onnx": tiny.write_onnx, ".xml": tiny.write_openvino}
    return writer[suffix](folder / f"tiny{suffix}")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_runs_any_number_of_samples_by_signature_name(
    tiny: ModuleType, tmp_path: Path, suffix: str
) -> None:
    with open_session(write(tiny, tmp_path, suffix)) as session:
        assert [info.name for info in session.inputs] == ["features"]
        assert [info.name for info in session.outputs] == ["scores"]
        assert session.version not in ("", "unknown")
        outputs = predict(session, {"features": X})
    np.testing.assert_allclose(outputs["scores"], tiny.expected(X), rtol=1e-5)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "arrays",
    [
        {"features": X[:1].astype(np.float64)},
        {"features": X[:1, :2]},
        {"features": X[0]},
        {"features": X[:1], "other": X[:1]},
        {},
    ],
)
def test_refuses_wrong_arrays(
    tiny: ModuleType, tmp_path: Path, suffix: str, arrays: dict[str, np.ndarray]
) -> None:
    with (
        open_session(write(tiny, tmp_path, suffix)) as session,
        pytest.raises(DataError, match="input"),
    ):
        session.run(arrays)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("damage", ["empty", "truncated", "random", "missing"])
def test_a_damaged_file_is_one_error(
    tiny: ModuleType, tmp_path: Path, suffix: str, damage: str
) -> None:
    path = write(tiny, tmp_path, suffix)
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        noise = np.random.default_rng(0).bytes(500)
        path.write_bytes({"empty": b"", "truncated": content[:-40], "random": noise}[damage])
    with pytest.raises(ModelFileError) as caught:
        open_session(path)
    assert caught.value.where == str(path)


def test_an_openvino_file_without_its_weights_is_one_error(
    tiny: ModuleType, tmp_path: Path
) -> None:
    path = tiny.write_openvino(tmp_path / "tiny.xml")
    path.with_suffix(".bin").unlink()
    with pytest.raises(ModelFileError):
        open_session(path)


def test_a_tflite_file_without_signature_has_tensor_names(tiny: ModuleType, tmp_path: Path) -> None:
    path = tiny.write_tflite(tmp_path / "tiny.tflite", signature=False)
    with open_session(path) as session:
        assert (session.inputs[0].name, session.outputs[0].name) == ("in0", "out0")


def test_an_unknown_operator_is_the_runtimes_error(tiny: ModuleType, tmp_path: Path) -> None:
    path = tiny.write_tflite(tmp_path / "tiny.tflite", custom="npu-op")
    with pytest.raises(ToolError, match="npu-op") as caught:
        open_session(path)
    assert caught.value.exit_code == 4


def test_unknown_suffix_and_runtime_are_named(tiny: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(b"x")
    with pytest.raises(InputError, match="unknown kind"):
        open_session(path)
    with pytest.raises(InputError, match="unknown runtime 'litrt'") as caught:
        open_session(tiny.write_tflite(tmp_path / "a.tflite"), runtime="litrt")
    assert "litert" in str(caught.value.hint)


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
@pytest.mark.parametrize(("dtype", "kept"), [("float32", True), ("int8", False)])
def test_quantization_comes_from_the_record_inside_the_file(
    tiny: ModuleType, tmp_path: Path, suffix: str, dtype: str, kept: bool
) -> None:
    quantization = Quantization(scale=(0.5,), zero_point=(3,))
    info = TensorInfo(name="scores", shape=(1, 2), dtype=dtype, quantization=quantization)
    record = IoRecord(inputs=(), outputs=(info,)).model_dump_json()
    if suffix == ".onnx":
        path = tiny.write_onnx(tmp_path / "tiny.onnx", props={"edgekit.io": record})
    else:
        path = tiny.write_openvino(tmp_path / "tiny.xml", record=record)
    with open_session(path) as session:
        assert session.outputs[0].quantization == (quantization if kept else None)


@pytest.mark.parametrize("record", ["not json", "{}", '{"inputs": 3}'])
def test_a_damaged_record_is_left_alone(tiny: ModuleType, tmp_path: Path, record: str) -> None:
    path = tiny.write_onnx(tmp_path / "tiny.onnx", props={"edgekit.io": record})
    with open_session(path) as session:
        assert session.inputs[0].quantization is None


def test_third_party_int8_file_has_its_own_quantization(shared: Path) -> None:
    with open_session(shared / "models" / "mlperf_tiny_kws_int8.tflite") as session:
        (info,) = session.inputs
        assert (info.dtype, info.shape) == ("int8", (None, 49, 10, 1))
        assert info.quantization == Quantization(scale=(0.5847029089927673,), zero_point=(83,))
        x = np.random.default_rng(0).normal(size=(5, 49, 10, 1)).astype(np.float32)
        together = run_raw(session, {"x": x})["Identity"]
        single = [run_raw(session, {"x": x[i : i + 1]})["Identity"] for i in range(5)]
    np.testing.assert_array_equal(together, np.concatenate(single))


def test_opening_writes_nothing_of_its_own(
    tiny: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for suffix in SUFFIXES:
        with open_session(write(tiny, tmp_path, suffix)) as session:
            session.run({"features": X[:1]})
    assert capfd.readouterr() == ("", "")
