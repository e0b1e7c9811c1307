from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from jsonschema import Draft202012Validator

from edgekit.base.errors import (
    BundleError,
    ConversionError,
    DataError,
    EdgekitError,
    MissingDependencyError,
    ModelFileError,
    ParityError,
    RecipeError,
    StorageError,
)
from edgekit.cli import main, schema

HEAVY = ("tensorflow", "keras", "onnx", "onnxruntime", "openvino", "ai_edge_litert")


def names() -> list[str]:
    return list(main.COMMANDS)


def test_all_commands_of_the_contract_are_there() -> None:
    wanted = "run train compress export inspect check verify profile bench package gate report "
    wanted += "targets recipes doctor schema init debug memory calibrate"
    assert sorted(wanted.split()) == sorted(names())


@pytest.mark.parametrize("name", names())
def test_every_help_has_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Examples:" in shown
    assert f"edgekit {name}" in shown
    for option in ("--json", "--quiet", "--verbose"):
        assert option in shown


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from edgekit.cli.main import run; run(sys.argv[1:]);"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    command = [sys.executable, "-c", code, *arguments]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ParityError("x"), 1),
        (RecipeError("x"), 2),
        (DataError("x"), 2),
        (ModelFileError("x"), 2),
        (BundleError("x"), 2),
        (MissingDependencyError("x"), 3),
        (ConversionError("x"), 4),
        (StorageError("x"), 4),
        (KeyboardInterrupt(), 130),
        (FileNotFoundError(2, "No such file or directory", "x.yaml"), 2),
        (OSError(28, "No space left on device", "x"), 4),
        (ValueError("a bug"), 4),
    ],
)
def test_exit_codes(
    error: BaseException,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(main, "app", fail)
    assert main.run(["schema"]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err
    if isinstance(error, EdgekitError):
        assert main.run(["schema", "--json"]) == code
        document = json.loads(capsys.readouterr().out)
        assert document["error"]["type"] == type(error).__name__


def test_verbose_shows_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(main, "app", fail)
    main.run(["schema", "--verbose"])
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["nonsense"], ["schema", "--nonsense"], ["schema", "recip"]])
def test_bad_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([*arguments, "--json"]) == 2
    assert "error" in json.loads(capsys.readouterr().out)
    assert main.run(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")


def test_schema_prints_json_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["schema", "recipe", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Recipe"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion(shell: str) -> None:
    environment = {
        **os.environ,
        "_EDGEKIT_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": "edgekit ta",
        "COMP_WORDS": "edgekit ta",
        "COMP_CWORD": "1",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    command = [sys.executable, "-m", "edgekit"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert "targets" in done.stdout


def test_schema_names_are_complete() -> None:
    from edgekit.schema.documents import DOCUMENTS, json_schema

    assert schema.EXAMPLES
    for name in DOCUMENTS:
        document = json_schema(name)
        Draft202012Validator.check_schema(document)
        assert not Draft202012Validator(document).is_valid([])


def test_the_command_alone_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("Usage: edgekit")
    assert shown.err == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")  # noqa: PTH110
@pytest.mark.parametrize("arguments", [["schema", "run", "--json"], ["schema", "run"]])
def test_an_output_that_takes_no_more_is_one_clear_error(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [sys.executable, "-m", "edgekit", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 4
    assert done.stderr.startswith("error: cannot write")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("edgekit check m.tflite --target raspb", "raspberry-pi-4"),
        ("edgekit profile m.tflite -t coral", "coral-usb"),
        ("edgekit run digits", "digits-cnn"),
    ],
)
def test_names_are_completed(typed: str, offered: str) -> None:
    environment = {
        **os.environ,
        "_EDGEKIT_COMPLETE": "complete_zsh",
        "_TYPER_COMPLETE_ARGS": typed,
    }
    command = [sys.executable, "-m", "edgekit"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert offered in done.stdout


def test_ctrl_c_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr("edgekit.profiling.targets.all_targets", interrupted)
    assert main.run(["targets"]) == 130
    assert capsys.readouterr().err == "interrupted\n"
