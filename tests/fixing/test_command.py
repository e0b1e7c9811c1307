"""`edgekit check --fix`: what it writes, reports and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgekit.base.errors import DataError, InputError, ModelFileError
from edgekit.cli.main import run
from edgekit.graph.tflite import read_tflite
from edgekit.graph.tflite_edit import TFLiteEditor
from edgekit.pipeline.fixing import fix_file
from edgekit.profiling.targets import load_target
from edgekit.schema.fixing import FixReport
from tests.fixing.test_islands import island


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A file with an island that can go."""
    net = island("RESHAPE", 0.05, 3, shape=(1, 128))
    path = tmp_path / "model.tflite"
    path.write_bytes(net.content(len(net.tensors) - 1))
    return path


def test_the_command_writes_reports_and_exits(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, output = model.read_bytes(), tmp_path / "fixed.tflite"
    samples = tmp_path / "samples.npz"
    np.savez(samples, x=np.random.default_rng(0).normal(size=(5, 4, 4, 8)).astype(np.float32))
    arguments = ["check", str(model), "--target", "coral-usb", "--fix", "--data", str(samples)]
    assert run([*arguments, "-o", str(output), "--json"]) == 0
    report = FixReport.model_validate(json.loads(capsys.readouterr().out))
    assert report.output == str(output)
    assert report.rewrites[0].difference.samples == 32 + 5
    assert [op.name for op in read_tflite(output).ops] == ["RELU", "RESHAPE", "RELU"]
    assert model.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {model.name, output.name, samples.name}


def test_without_an_output_nothing_is_written(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = model.read_bytes()
    assert run(["check", str(model), "--target", "coral-usb", "--fix"]) == 0
    assert "give --output" in capsys.readouterr().out
    assert model.read_bytes() == before
    assert list(tmp_path.iterdir()) == [model]


def test_bad_input_is_refused(model: Path, tmp_path: Path) -> None:
    target = load_target("coral-usb")
    with pytest.raises(InputError, match="suffix"):
        fix_file(model, target, tmp_path / "fixed.onnx")
    (tmp_path / "a.h5").write_bytes(b"")
    with pytest.raises(InputError, match=r"suffix \.keras"):
        fix_file(tmp_path / "a.h5", target, tmp_path / "fixed.h5")
    (tmp_path / "a.onnx").write_bytes(b"")
    with pytest.raises(InputError, match="not rewritten"):
        fix_file(tmp_path / "a.onnx", target, None)
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(model.read_bytes()[:200])
    with pytest.raises(ModelFileError):
        fix_file(broken, target, None)
    samples = tmp_path / "samples.npz"
    np.savez(samples, x=np.zeros((2, 3), np.float32))
    with pytest.raises(DataError):
        fix_file(model, target, None, data=samples)


@pytest.mark.parametrize("tolerance", [-1.0, float("nan"), float("inf")])
def test_a_tolerance_is_a_number_from_zero_on(model: Path, tolerance: float) -> None:
    with pytest.raises(InputError, match="from zero on"):
        fix_file(model, load_target("coral-usb"), None, tolerance=tolerance)


@pytest.mark.parametrize(
    "options",
    [["--allow-inexact"], ["--tolerance", "-1"], ["--tolerance", "0.02"], ["--data", "x.npz"],
     ["--output", "fixed.tflite"]],
)  # fmt: skip
def test_the_options_of_fix_need_it(
    model: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["check", str(model), "--target", "coral-usb", *options]) == 2
    assert "are for --fix" in capsys.readouterr().err


def test_the_editor_changes_nothing_by_itself(small_tflite: Path) -> None:
    edit = TFLiteEditor.open(small_tflite)
    content = edit.content()
    again = small_tflite.with_name("again.tflite")
    again.write_bytes(content)
    one, other = read_tflite(small_tflite), read_tflite(again)
    assert one.ops == other.ops
    assert one.tensors == other.tensors
    assert (one.inputs, one.outputs) == (other.inputs, other.outputs)
    assert TFLiteEditor(content).content() == content


def test_the_editor_writes_constants_aligned(small_tflite: Path) -> None:
    content = TFLiteEditor.open(small_tflite).content()
    edit = TFLiteEditor.open(small_tflite)
    for index in range(12):
        values = edit.values(index)
        if values is not None and values.nbytes >= 64:
            assert content.index(values.tobytes()) % 16 == 0
