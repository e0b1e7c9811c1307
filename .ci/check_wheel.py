"""Checks an edgekit that was installed from the wheel alone: `check_wheel.py PATH_OF_EDGEKIT`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.tflite_files import small_cnn

MOST_MEGABYTES = 100.0
FOUND_BEFORE = re.compile(r"pip|setuptools|pkg_resources|_distutils_hack|distutils-precedence")
ARTIFACT = {
    "path": "a.tflite",
    "format": "tflite",
    "precision": "int8",
    "bytes": 1000,
    "sha256": "0" * 64,
}
REPORT = {"recipe": "small", "run": ".", "artifacts": [ARTIFACT]}


def run(*arguments: str) -> str:
    """Runs a command in an empty folder and returns what it prints; fails if the command does."""
    done = subprocess.run(arguments, capture_output=True, text=True, cwd="/", check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(arguments)} exited {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    """Every help, the commands that need no extra, and the size of what was installed."""
    edgekit = sys.argv[1]
    listing = run(edgekit, "--help").partition("Commands:")[2]
    commands = re.findall(r"^  ([a-z]+)", listing, re.MULTILINE)
    for command in commands:
        if f"edgekit {command}" not in run(edgekit, command, "--help").partition("Examples:")[2]:
            sys.exit(f"edgekit {command} --help has no example")
    with tempfile.TemporaryDirectory() as scratch:
        model, report = str(Path(scratch) / "small.tflite"), str(Path(scratch) / "run.json")
        Path(model).write_bytes(small_cnn())
        Path(report).write_text(json.dumps(REPORT))
        run(edgekit, "inspect", model)
        run(edgekit, "check", model, "--target", "raspberry-pi-4")
        run(edgekit, "profile", model, "--target", "raspberry-pi-4", "--target", "coral-usb")
        run(edgekit, "gate", report, "--budget", "bytes<=2000")
    for command in ("targets", "recipes", "doctor"):
        json.loads(run(edgekit, command, "--json"))
    json.loads(run(edgekit, "schema", "recipe", "--json"))
    sites = next((Path(edgekit).parent.parent / "lib").glob("python*")) / "site-packages"
    if (sites / "tensorflow").exists():
        sys.exit("TensorFlow was installed without the extra")
    megabytes = (
        sum(size(path) for path in sites.iterdir() if not FOUND_BEFORE.match(path.name)) / 1e6
    )
    print(f"{len(commands)} commands with examples; {megabytes:.1f} MB installed without extras")
    if megabytes >= MOST_MEGABYTES:
        sys.exit(f"more than {MOST_MEGABYTES:g} MB")


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder, without the bytecode that Python caches."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files if file.suffix != ".pyc")


if __name__ == "__main__":
    main()
