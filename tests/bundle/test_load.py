from __future__ import annotations

import io
import json
import stat
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit.base.errors import BundleError, EdgekitError, InputError
from edgekit.bundle.archive import Source, write_archive
from edgekit.bundle.load import load_report, open_bundle
from edgekit.bundle.pack import pack_run

in_one_directory = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def bundle_path(run_directory: Path, tmp_path: Path) -> Path:
    return Path(pack_run(run_directory, tmp_path / "bundle.zip").bundle)


def repack(bundle: Path, output: Path, change: dict[str, bytes | None], *, honest: bool) -> Path:
    """The bundle with members replaced, added or (None) left out; honest: the manifest follows."""
    with zipfile.ZipFile(bundle) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for name, data in change.items():
        if data is None:
            del members[name]
        else:
            members[name] = data
    sources = {name: Source.of_bytes(data) for name, data in members.items()}
    if honest:
        manifest = json.loads(members["manifest.json"])
        manifest["members"] = {
            name: source.member().model_dump()
            for name, source in sources.items()
            if name != "manifest.json"
        }
        sources["manifest.json"] = Source.of_bytes(json.dumps(manifest).encode())
    write_archive(output, sources)
    return output


@in_one_directory
@given(data=st.data())
def test_any_flipped_byte_is_found(bundle_path: Path, data: st.DataObject) -> None:
    content = bytearray(bundle_path.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    altered = bundle_path.with_name("altered.zip")
    altered.write_bytes(content)
    with pytest.raises(BundleError):
        open_bundle(altered)


def test_every_flipped_byte_of_the_zip_structure_is_found(bundle_path: Path) -> None:
    content = bundle_path.read_bytes()
    altered = bundle_path.with_name("altered.zip")
    with zipfile.ZipFile(bundle_path) as archive:
        headers = [*range(30), *range(archive.start_dir, len(content))]
    for position in headers:
        altered.write_bytes(
            content[:position] + bytes([content[position] ^ 0x01]) + content[position + 1 :]
        )
        with pytest.raises(BundleError):
            open_bundle(altered)


@in_one_directory
@given(data=st.data())
def test_a_truncated_bundle_is_found(bundle_path: Path, data: st.DataObject) -> None:
    content = bundle_path.read_bytes()
    altered = bundle_path.with_name("altered.zip")
    altered.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(BundleError):
        open_bundle(altered)


@given(content=st.binary(max_size=300), prefix=st.sampled_from([b"", b"PK\x03\x04", b"PK\x05\x06"]))
@in_one_directory
def test_random_bytes_are_one_clear_error(tmp_path: Path, content: bytes, prefix: bytes) -> None:
    path = tmp_path / "random.zip"
    path.write_bytes(prefix + content)
    with pytest.raises(BundleError):
        open_bundle(path)
    with pytest.raises(InputError):
        load_report(path)


@pytest.mark.parametrize("extra", [b"\0", b"PK", bytes(100)])
def test_nothing_hides_before_or_after_the_members(bundle_path: Path, extra: bytes) -> None:
    content = bundle_path.read_bytes()
    altered = bundle_path.with_name("altered.zip")
    for changed in (content + extra, extra + content):
        altered.write_bytes(changed)
        with pytest.raises(BundleError):
            open_bundle(altered)


def test_members_must_be_those_of_the_manifest(bundle_path: Path, tmp_path: Path) -> None:
    changes: list[tuple[dict[str, bytes | None], str]] = [
        ({"labels.txt": None}, "'labels.txt' is missing"),
        ({"extra.txt": b"x"}, r"'extra.txt' is not in the manifest"),
        ({"artifacts/digits-int8.tflite": bytes(200)}, "was altered"),
        ({"artifacts/digits-int8.tflite": bytes(201)}, "was altered"),
        ({"manifest.json": None}, "not an edgekit bundle"),
        ({"manifest.json": b"{}"}, "'name'"),
        ({"manifest.json": b"\xff"}, "not valid JSON"),
        ({"manifest.json": b"[" * 100_000}, "not valid JSON"),
    ]
    for change, message in changes:
        with pytest.raises(BundleError, match=message):
            open_bundle(repack(bundle_path, tmp_path / "altered.zip", change, honest=False))


@pytest.mark.parametrize(
    "name",
    ["../evil", "a/../../evil", "/etc/passwd", "C:/evil", "a//b", "a/./b", "a\\b", "a\nb", "con. "],
)
def test_unsafe_names_are_refused(bundle_path: Path, tmp_path: Path, name: str) -> None:
    altered = repack(bundle_path, tmp_path / "altered.zip", {name: b"x"}, honest=True)
    with pytest.raises(BundleError, match="member"):
        open_bundle(altered)


def test_names_that_collide_when_extracted_are_refused(bundle_path: Path, tmp_path: Path) -> None:
    for name in ("LABELS.txt", "labels.txt/x"):
        altered = repack(bundle_path, tmp_path / "altered.zip", {name: b"x"}, honest=True)
        with pytest.raises(BundleError, match=r"upper and lower case|a file and a directory"):
            open_bundle(altered)


def rewrite(bundle: Path, output: Path, compression: int, mode: int) -> Path:
    with zipfile.ZipFile(bundle) as source, zipfile.ZipFile(output, "w") as target:
        for info in source.infolist():
            copy = zipfile.ZipInfo(info.filename)
            copy.external_attr = mode << 16
            target.writestr(copy, source.read(info), compression)
    return output


def test_links_are_refused(bundle_path: Path, tmp_path: Path) -> None:
    linked = rewrite(bundle_path, tmp_path / "a.zip", zipfile.ZIP_STORED, stat.S_IFLNK | 0o777)
    with pytest.raises(BundleError, match="link"):
        open_bundle(linked)


def test_compressed_members_are_refused_so_that_there_are_no_bombs(
    bundle_path: Path, tmp_path: Path
) -> None:
    packed = rewrite(bundle_path, tmp_path / "a.zip", zipfile.ZIP_DEFLATED, 0o100644)
    with pytest.raises(BundleError, match="compressed"):
        open_bundle(packed)


def test_overlapping_members_are_refused(bundle_path: Path, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(50):
            archive.writestr(f"m{number}", bytes(1000))
        for info in archive.filelist[1:]:  # all point at the first member's bytes
            info.header_offset = 0
    start = buffer.getvalue().index(b"m1")
    directory = buffer.getvalue().index(b"PK\x01\x02")
    path = tmp_path / "overlap.zip"
    path.write_bytes(buffer.getvalue()[: start - 30] + buffer.getvalue()[directory:])
    with pytest.raises(BundleError):
        open_bundle(path)


def test_a_file_above_the_limit_is_not_read(bundle_path: Path) -> None:
    with pytest.raises(BundleError, match="100 are allowed"):
        open_bundle(bundle_path, max_bytes=100)


def test_extraction_is_whole_or_not_at_all(bundle_path: Path, tmp_path: Path) -> None:
    bundle = open_bundle(bundle_path)
    directory = bundle.extract(tmp_path / "out")
    found = {str(file.relative_to(directory)) for file in directory.rglob("*") if file.is_file()}
    assert found == {*bundle.manifest.members, "manifest.json"}
    assert (directory / "artifacts/digits-int8.tflite").read_bytes() == bytes(range(200))
    with pytest.raises(InputError, match="not an empty directory"):
        bundle.extract(directory)
    content = bundle_path.read_bytes()
    position = content.index(bytes(range(200)))
    bundle_path.write_bytes(content[:position] + b"\xff" + content[position + 1 :])
    with pytest.raises(BundleError):  # altered after it was opened
        bundle.extract(tmp_path / "late")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle.zip", "out", "runs"]


def test_reading_a_member_that_is_not_there(bundle_path: Path) -> None:
    with pytest.raises(BundleError, match="has no member 'nothing'"):
        open_bundle(bundle_path).read("nothing")


def test_a_report_is_found_in_a_run_a_file_and_a_bundle(
    run_directory: Path, bundle_path: Path
) -> None:
    for path in (run_directory, run_directory / "run.json", bundle_path):
        assert load_report(path).reference_metrics == {"accuracy": 0.981}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"recipe": 1}', "[" * 100_000])
def test_a_broken_run_report_is_one_clear_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(content)
    with pytest.raises(EdgekitError) as caught:
        load_report(path)
    assert caught.value.exit_code == 2
    assert str(path) in str(caught.value)


def test_a_directory_without_a_report(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load_report(tmp_path)
