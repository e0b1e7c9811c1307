from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.base.errors import BundleError, DataError, InputError, StorageError
from edgekit.bundle import pack as pack_module
from edgekit.bundle.load import load_report, open_bundle
from edgekit.bundle.pack import pack, pack_files, pack_run, package
from edgekit.schema.results import RunReport, StageResult

Writer = Callable[..., Path]


def test_a_run_is_packed_whole(run_directory: Path) -> None:
    result = pack_run(run_directory)
    assert result.bundle == str(run_directory / "digits.zip")
    data = Path(result.bundle).read_bytes()
    assert (result.bytes, result.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    with zipfile.ZipFile(result.bundle) as archive:  # any zip reader sees the same
        assert archive.namelist() == [
            "manifest.json",
            "MODEL_CARD.md",
            "artifacts/digits-fp32.bin",
            "artifacts/digits-fp32.xml",
            "artifacts/digits-fp32.xml.json",
            "artifacts/digits-int8.tflite",
            "artifacts/digits-int8.tflite.json",
            "golden/input.x.npy",
            "golden/output.y.npy",
            "labels.txt",
            "recipe.lock.yaml",
            "run.json",
        ]
        assert archive.read("artifacts/digits-int8.tflite") == bytes(range(200))
        assert archive.read("labels.txt").decode().split() == list("0123456789")
        manifest = json.loads(archive.read("manifest.json"))
        for name, member in manifest["members"].items():
            assert hashlib.sha256(archive.read(name)).hexdigest() == member["sha256"]
    bundle = open_bundle(Path(result.bundle))
    assert bundle.report.artifacts[0].metrics == {"accuracy": 0.975}
    assert [profile.place for profile in bundle.report.profiles] == ["host", "coral-usb"]
    assert bundle.manifest.preprocessing.scale == 0.0625
    assert bundle.manifest.versions == {"numpy": "2.0"}
    np.testing.assert_array_equal(bundle.golden()["output.y"], np.ones((2, 10), np.float32))


def test_the_same_run_gives_the_same_bytes_elsewhere_and_later(
    run_directory: Path, tmp_path: Path
) -> None:
    first = Path(pack_run(run_directory).bundle).read_bytes()
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(run_directory, elsewhere)
    for file in elsewhere.rglob("*"):
        os.utime(file, (1e9, 1e9))
        file.chmod(0o700)
    report = load_report(run_directory).model_copy(
        update={
            "run": str(elsewhere),
            "stages": (StageResult(name="train", key="ab", cached=True, seconds=0.0),),
        }
    )
    (elsewhere / "run.json").write_text(report.model_dump_json())
    assert Path(pack_run(elsewhere, tmp_path / "b.zip").bundle).read_bytes() == first
    assert str(tmp_path).encode() not in first


def test_only_artifacts_that_passed_parity_are_released(
    run_directory: Path, report: RunReport
) -> None:
    int8, fp32 = report.artifacts
    failed = int8.model_copy(update={"parity": int8.parity.model_copy(update={"passed": False})})
    report = report.model_copy(update={"artifacts": (failed, fp32)})
    (run_directory / "run.json").write_text(report.model_dump_json())
    bundle = open_bundle(Path(pack_run(run_directory).bundle))
    assert [artifact.path for artifact in bundle.manifest.artifacts] == [
        "artifacts/digits-fp32.xml"
    ]
    assert bundle.report.profiles == ()


def test_model_files_are_packed_without_a_run(
    tmp_path: Path, artifact_writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = artifact_writer(tmp_path / "models", "net.onnx", b"model", "fp32")
    result = package([model])
    assert result.bundle == "net.zip"
    bundle = open_bundle(tmp_path / "net.zip")
    assert bundle.read("artifacts/net.onnx") == b"model"
    assert bundle.sidecars["artifacts/net.onnx"].precision == "fp32"
    assert package([model], tmp_path / "again.zip").sha256 == result.sha256


def test_what_a_sidecar_records_is_in_the_report(
    report: RunReport, tmp_path: Path, artifact_writer: Writer
) -> None:
    model = artifact_writer(tmp_path, "net.onnx", b"model", "fp32")
    sidecar = model.with_name("net.onnx.json")
    parity = report.artifacts[0].parity
    assert parity is not None
    plain = json.loads(sidecar.read_text())
    plain["parity"] = {"runtime": "onnxruntime", "reference": parity.model_dump(mode="json")}
    plain["provenance"] = {"versions": {"onnx": "1.23"}}
    sidecar.write_text(json.dumps(plain))
    bundle = open_bundle(Path(pack_files([model], tmp_path / "out.zip").bundle))
    (artifact,) = bundle.report.artifacts
    assert artifact.parity is not None
    assert (artifact.parity.snr_db, artifact.parity.artifact) == (31.5, "net.onnx")
    assert bundle.manifest.versions == {"onnx": "1.23"}


def test_the_card_says_what_it_is_how_fast_and_how_to_run_it(run_directory: Path) -> None:
    card = open_bundle(Path(pack_run(run_directory).bundle)).read("MODEL_CARD.md").decode()
    for text in (
        "# digits",
        "Handwritten digits.",
        "accuracy 97.5%",
        "99.5% same class",
        "`prune` (sparsity: 0.5)",
        "20 µs (19 to 21)",  # measured
        "~400 µs (300 to 600)",  # estimated
        "host: no energy figure: no energy meter on this machine",
        "host: other programs kept 0.9 cores busy",
        "`value = (raw * 0.0625 - 0.0) / 1.0`",
        "`clip(round(real / 0.5) + -3)`",
        "`real = (value - -3) * 0.5`",
    ):
        assert text in card


def test_an_altered_model_file_is_refused(tmp_path: Path, artifact_writer: Writer) -> None:
    model = artifact_writer(tmp_path, "net.onnx", b"model")
    model.write_bytes(b"other")
    with pytest.raises(InputError, match="altered since its sidecar"):
        pack_files([model], tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()


def test_a_model_file_without_sidecar_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"model")
    with pytest.raises(InputError, match=r"has no sidecar net\.onnx\.json"):
        pack_files([tmp_path / "net.onnx"])


def test_a_sidecar_cannot_name_files_elsewhere(tmp_path: Path, artifact_writer: Writer) -> None:
    model = artifact_writer(tmp_path / "a", "net.onnx", b"model")
    (tmp_path / "secret").write_bytes(b"secret")
    sidecar = model.with_name("net.onnx.json")
    plain = json.loads(sidecar.read_text())
    plain["files"]["../secret"] = hashlib.sha256(b"secret").hexdigest()
    sidecar.write_text(json.dumps(plain))
    with pytest.raises(InputError, match="outside its directory"):
        pack_files([model], tmp_path / "out.zip")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"file": 1}', "NaN"])
def test_a_broken_sidecar_is_one_clear_error(
    tmp_path: Path, artifact_writer: Writer, content: str
) -> None:
    model = artifact_writer(tmp_path, "net.onnx", b"model")
    model.with_name("net.onnx.json").write_text(content)
    with pytest.raises(InputError) as caught:
        pack_files([model], tmp_path / "out.zip")
    assert str(caught.value.where).endswith("net.onnx.json")


def test_two_files_of_one_name_are_refused(tmp_path: Path, artifact_writer: Writer) -> None:
    models = [artifact_writer(tmp_path / name, "net.onnx", b"model") for name in "ab"]
    with pytest.raises(InputError, match="two artifacts have a file"):
        pack_files(models, tmp_path / "out.zip")


def test_golden_arrays_are_never_pickles(run_directory: Path) -> None:
    np.save(run_directory / "golden" / "bad.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(DataError, match=r"not an \.npy array"):
        pack_run(run_directory)


def test_an_unsafe_name_is_refused(run_directory: Path, report: RunReport, tmp_path: Path) -> None:
    model = run_directory / "artifacts" / "digits-int8.tflite"
    with pytest.raises(InputError, match="leads out of the bundle"):
        pack(
            report,
            [model],
            tmp_path / "out.zip",
            golden={"../../evil": np.zeros(1)},
        )
    assert not (tmp_path / "out.zip").exists()


def test_nothing_to_pack_is_an_error(report: RunReport, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no artifact"):
        pack(report, [], tmp_path / "out.zip")


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(
    run_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, sources: object) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(pack_module, "write_archive", full)
    with pytest.raises(StorageError, match="No space left"):
        pack_run(run_directory, tmp_path / "out" / "bundle.zip")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_failed_pack_keeps_the_bundle_that_was_there(
    run_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Path(pack_run(run_directory).bundle)
    before = bundle.read_bytes()

    def wrong(path: Path, sources: object) -> None:
        path.write_bytes(before[:-1])

    monkeypatch.setattr(pack_module, "write_archive", wrong)
    with pytest.raises(BundleError):  # it is verified before it takes the old one's place
        pack_run(run_directory)
    assert bundle.read_bytes() == before


def test_the_code_on_the_card_runs(
    tmp_path: Path, artifact_writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "relu",
        [helper.make_tensor_value_info("x", kind, [1, 4])],
        [helper.make_tensor_value_info("y", kind, [1, 4])],
    )
    opset = [helper.make_opsetid("", 13)]
    content = helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    model = artifact_writer(tmp_path, "relu.onnx", content, "fp32")
    bundle = open_bundle(Path(pack_files([model], tmp_path / "relu.zip").bundle))
    monkeypatch.chdir(bundle.extract(tmp_path / "extracted"))
    code = Path("MODEL_CARD.md").read_text().split("```python\n")[1].split("```")[0]
    samples = {"x": np.array([[1, -1, 2, -2], [3, 4, -3, -4]], np.float32)}
    names: dict[str, object] = {"samples": samples}
    exec(code, names)
    np.testing.assert_array_equal(names["answers"]["y"], np.maximum(samples["x"], 0))
