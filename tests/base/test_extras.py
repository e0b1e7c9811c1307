import subprocess
import sys

import pytest

from edgekit.base import extras
from edgekit.base.errors import MissingDependencyError


def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "have", lambda _: False)
    with pytest.raises(MissingDependencyError) as caught:
        extras.require("onnx.helper", purpose="to read ONNX files")
    assert caught.value.message == "onnx is needed to read ONNX files and is not installed"
    assert caught.value.hint == "pip install 'edgekit[onnx]'"
    assert caught.value.exit_code == 3


def test_an_installed_library_is_imported() -> None:
    numpy = extras.require("numpy.linalg", purpose="to test")
    assert numpy.__name__ == "numpy.linalg"


def test_versions_of_what_is_installed() -> None:
    assert set(extras.versions("numpy", "no-such-distribution")) == {"numpy"}


def test_native_lines_are_dropped_and_those_of_python_shown() -> None:
    code = """
import os, sys
from edgekit.base.extras import native_stderr_dropped
with native_stderr_dropped():
    os.write(2, b"native")
    sys.stderr.write("python\\n")
os.write(2, b"after")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "python\nafter"
