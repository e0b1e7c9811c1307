from __future__ import annotations

from pathlib import Path

from edgekit.pipeline.fingerprint import fingerprint, fingerprints


def test_a_model_function_is_hashed_with_the_files_that_it_imports(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("def build():\n    from blocks import WIDTH\n")
    (tmp_path / "blocks.py").write_text("import os\nWIDTH = 8\n")
    (tmp_path / "other.py").write_text("")
    (tmp_path / "build").mkdir()  # a folder with the function's name is not what is meant
    first = fingerprint("net.py:build", tmp_path)
    assert first
    (tmp_path / "other.py").write_text("x = 1\n")
    (tmp_path / "build" / "x").write_text("x")
    assert fingerprint("net.py:build", tmp_path) == first
    (tmp_path / "blocks.py").write_text("WIDTH = 16\n")
    second = fingerprint("net.py:build", tmp_path)
    assert second not in (None, first)
    (tmp_path / "net.py").write_text("from blocks import WIDTH\n")
    assert fingerprint("net.py:build", tmp_path) not in (None, first, second)
    (tmp_path / "net.py").write_text("def build(:\n")
    assert fingerprint("net.py:build", tmp_path)
    assert fingerprint("missing.py:build", tmp_path) is None


def test_files_and_folders_of_data(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"1")
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    file, folder = fingerprint("npz:x.npz", tmp_path), fingerprint("image_folder:photos", tmp_path)
    assert file
    (tmp_path / "x.npz").write_bytes(b"2")
    (tmp_path / "photos" / "cat" / "1.png").write_bytes(b"2")
    assert fingerprint("npz:x.npz", tmp_path) not in (None, file)
    assert fingerprint("image_folder:photos", tmp_path) not in (None, folder)
    assert fingerprint("digits", tmp_path) is None


def test_files_that_arguments_name(tmp_path: Path) -> None:
    (tmp_path / "teacher.keras").write_bytes(b"1")
    (tmp_path / "mlp").mkdir()
    arguments = {"teacher": {"name": "teacher.keras", "args": {}}, "features": [{"student": "mlp"}]}
    first = fingerprints(arguments, tmp_path)
    assert list(first) == ["teacher.keras"]
    (tmp_path / "teacher.keras").write_bytes(b"2")
    assert fingerprints(arguments, tmp_path) != first
    assert fingerprints({"sparsity": 0.5, "layers": None}, tmp_path) == {}
