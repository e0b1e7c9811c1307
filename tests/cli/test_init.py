"""`edgekit init`: a recipe that can run, or a clear error."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.cli.main import run


@pytest.mark.parametrize("data", ["digits", "npz:mine.npz", "image_folder:photos"])
def test_known_sources_are_written(data: str, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    assert run(["init", str(path), "--data", data, "--yes", "--quiet"]) == 0
    assert f"source: {data}" in path.read_text()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("digit", "did you mean 'digits'"),
        ("foo", "unknown data source 'foo'"),
        ("npz", "is written npz:"),
        ("digits:x", "takes nothing after its name"),
    ],
)
def test_an_unknown_source_is_an_error_and_nothing_is_written(
    data: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.yaml"
    assert run(["init", str(path), "--data", data, "--yes"]) == 2
    assert said in capsys.readouterr().err
    assert not path.exists()
