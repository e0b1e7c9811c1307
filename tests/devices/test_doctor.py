from __future__ import annotations

import importlib.metadata

import numpy as np
import psutil
import pytest

from edgekit.base.errors import InputError, MissingDependencyError
from edgekit.devices import doctor
from edgekit.devices.doctor import examine, satisfies


@pytest.mark.parametrize(
    ("found", "wanted", "fits"),
    [
        ("2.3.0", ">=2.3", True),
        ("2.21.0", ">=2.3", True),
        ("2.2.9", ">=2.3", False),
        ("3.16.0", "<3.16,>=3.15", False),
        ("3.15.1", "<3.16,>=3.15", True),
        ("2.0.0", "<2", False),
        ("1.26.4", "<2", True),
        ("2.0.0rc1", ">=2.0", True),
        ("1.0", "==1.0.0", True),
        ("1.0", "!=1.0", False),
        ("5", "", True),
    ],
)
def test_versions_are_compared_by_their_numbers(found: str, wanted: str, fits: bool) -> None:
    assert satisfies(found, wanted) is fits


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> None:
    requirements = [
        "numpy>=1",
        'numpy>=1.0; extra == "here"',
        'psutil>=1; extra == "here"',
        "no-such-library>=2; extra == 'lacking'",
        "psutil<1; (python_version < '4') and extra == 'old'",
    ]
    monkeypatch.setattr(doctor, "_declared", lambda: (requirements, ["here", "lacking", "old"]))


@pytest.mark.usefixtures("declared")
def test_extras_with_versions_and_what_is_missing() -> None:
    here, lacking, old = examine().extras
    assert here.complete
    assert here.install is None
    assert [one.version for one in here.libraries] == [np.__version__, psutil.__version__]
    assert not lacking.complete
    assert lacking.install == "pip install 'edgekit[lacking]'"
    assert lacking.libraries[0].version is None
    assert not old.complete
    assert old.libraries[0].version == psutil.__version__


@pytest.mark.usefixtures("declared")
def test_strict_asks_for_one_extra() -> None:
    examine("here")
    for extra, library in (("lacking", "no-such-library"), ("old", "psutil")):
        with pytest.raises(MissingDependencyError, match=f"lacks {library}") as caught:
            examine(extra)
        assert caught.value.hint == f"pip install 'edgekit[{extra}]'"
    with pytest.raises(InputError, match="did you mean 'here'"):
        examine("hre")


def test_the_extras_are_those_that_the_package_declares() -> None:
    try:
        names = importlib.metadata.metadata("edgekit").get_all("Provides-Extra")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("edgekit is not installed")
    report = examine()
    assert [extra.name for extra in report.extras] == names
    assert all(extra.libraries for extra in report.extras)
    assert {tool.name for tool in report.tools} >= {"adb", "vela"}
