from __future__ import annotations

import errno
import json
import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.base import files
from edgekit.base.errors import InputError, StorageError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def everything_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_file_is_written_whole_with_the_usual_permissions(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "text.txt"
    previous = os.umask(0o027)
    try:
        files.write_text(path, "grün")
    finally:
        os.umask(previous)
    assert path.read_bytes() == "grün".encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert everything_in(path.parent) == ["text.txt"]


def test_the_temporary_file_lies_beside_and_keeps_the_suffix(tmp_path: Path) -> None:
    with files.atomic_path(tmp_path / "model.keras") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".keras"
        temporary.write_text("new")
        assert not (tmp_path / "model.keras").exists()
    assert everything_in(tmp_path) == ["model.keras"]


def test_folders_made_for_what_failed_go_again(tmp_path: Path) -> None:
    def fail(folder: Path, leave: str | None = None) -> None:
        with files.new_folder(folder):
            assert folder.is_dir()
            if leave:
                (folder.parent / leave).touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail(tmp_path / "new" / "folder")
    assert everything_in(tmp_path) == []
    with pytest.raises(RuntimeError):
        fail(tmp_path)
    assert tmp_path.is_dir()
    with pytest.raises(RuntimeError):
        fail(tmp_path / "new" / "folder", leave="other")
    assert everything_in(tmp_path / "new") == ["other"]
    with files.new_folder(tmp_path / "kept"):
        pass
    assert (tmp_path / "kept").is_dir()


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_the_old_file(tmp_path: Path, failure: type[BaseException]) -> None:
    path = tmp_path / "model.keras"
    path.write_text("old")

    def write_half() -> None:
        with files.atomic_path(path) as temporary:
            temporary.write_text("half of the ne")
            raise failure

    with pytest.raises(failure):
        write_half()
    assert path.read_text() == "old"
    assert everything_in(tmp_path) == ["model.keras"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("step", ["mkstemp", "write", "fsync"])
def test_a_full_disk_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, step: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code), "x")

    place = {
        "mkstemp": "tempfile.mkstemp",
        "write": "pathlib.Path.write_bytes",
        "fsync": "os.fsync",
    }
    (tmp_path / "out.bin").write_bytes(b"old")
    with monkeypatch.context() as patch:
        patch.setattr(place.get(step, "os.fsync"), full)
        with pytest.raises(StorageError) as caught:
            files.write_bytes(tmp_path / "out.bin", b"new")
    assert caught.value.exit_code == 4
    assert "free some disk space" in str(caught.value)
    assert everything_in(tmp_path) == ["out.bin"]
    assert (tmp_path / "out.bin").read_bytes() == b"old"


def test_the_system_refusing_to_write_more_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "big.bin"
    program = (
        "import sys; from pathlib import Path; from edgekit.base import errors, files\n"
        "try: files.write_bytes(Path(sys.argv[1]), bytes(1 << 20))\n"
        "except errors.StorageError as error: print(error); sys.exit(error.exit_code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4, done.stderr
    assert "File too large" in done.stdout
    assert everything_in(tmp_path) == []


def test_a_kill_in_the_middle_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("old")
    program = (
        "import os, signal, sys; from pathlib import Path; from edgekit.base import files\n"
        "with files.atomic_path(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert done.returncode == -9
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a.bin"), StorageError),
        (OSError(errno.EROFS, "Read-only file system", "a.bin"), StorageError),
        (OSError(errno.EIO, "Input/output error", "a.bin"), StorageError),
        (PermissionError(errno.EACCES, "Permission denied", "a.bin"), InputError),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a.bin"), InputError),
    ],
)
def test_operating_system_errors_become_ours(error: OSError, kind: type[Exception]) -> None:
    ours = files.from_os_error(error)
    assert type(ours) is kind
    assert ours.where == "a.bin"
    assert error.strerror is not None
    assert error.strerror in ours.message


def test_a_file_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        files.write_text(tmp_path / "file" / "below.txt", "x")


@given(JSON)
def test_json_is_read_back_equal_and_has_one_spelling(value: object) -> None:
    text = files.canonical_json(value)
    assert json.loads(text) == value
    assert files.canonical_json(json.loads(text)) == text


def test_key_order_does_not_change_a_hash() -> None:
    one, two = files.canonical_json({"a": 1, "b": 2}), files.canonical_json({"b": 2, "a": 1})
    assert files.sha256_text(one) == files.sha256_text(two)


def test_sha256_matches_the_published_test_vector(tmp_path: Path) -> None:
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    (tmp_path / "abc").write_bytes(b"abc")
    assert files.sha256_text("abc") == expected
    assert files.sha256_file(tmp_path / "abc") == expected


def test_an_existing_file_is_a_regular_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="recipe does not exist"):
        files.existing_file(tmp_path / "none.yaml", what="recipe")
    with pytest.raises(InputError, match="not a regular file"):
        files.existing_file(tmp_path)
    (tmp_path / "a").write_text("")
    assert files.existing_file(tmp_path / "a") == tmp_path / "a"


def test_a_tree_is_linked_or_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    files.write_text(source / "deep" / "a.txt", "a")
    files.link_tree(source, tmp_path / "linked")
    assert (tmp_path / "linked/deep/a.txt").samefile(source / "deep/a.txt")

    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    files.link_tree(source, tmp_path / "copied")
    assert (tmp_path / "copied/deep/a.txt").read_text() == "a"
    assert not (tmp_path / "copied/deep/a.txt").samefile(source / "deep/a.txt")
