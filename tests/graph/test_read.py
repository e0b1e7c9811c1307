from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.base.errors import InputError, ModelFileError
from edgekit.graph.read import READERS, read_graph


def test_reads_by_suffix(small_tflite: Path) -> None:
    graph = read_graph(small_tflite)
    assert (graph.format, len(graph.ops)) == ("tflite", 5)
    assert READERS.names() == ["onnx", "openvino", "tflite"]


def test_unknown_suffix(tmp_path: Path) -> None:
    path = tmp_path / "model.pb"
    path.write_bytes(b"x")
    with pytest.raises(ModelFileError, match=r"unknown model format '\.pb'") as caught:
        read_graph(path)
    assert caught.value.hint == "formats: .onnx, .tflite, .xml"


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_keras_file_is_exported_first(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"x")
    with pytest.raises(ModelFileError) as caught:
        read_graph(path)
    assert f"edgekit export model{suffix}" in (caught.value.hint or "")


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_graph(tmp_path / "model.tflite")


@pytest.mark.parametrize(("suffix", "name"), [("tflite", "TFLite"), ("onnx", "ONNX"),
                                              ("xml", "OpenVINO")])  # fmt: skip
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 this is a zip", bytes(range(256)) * 8])
def test_suffix_and_content_disagree(
    tmp_path: Path, suffix: str, name: str, content: bytes
) -> None:
    if suffix != "tflite":
        pytest.importorskip("onnx" if suffix == "onnx" else "openvino")
    path = tmp_path / f"model.{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=f"not an? (readable )?{name}") as caught:
        read_graph(path)
    assert caught.value.where == str(path)
