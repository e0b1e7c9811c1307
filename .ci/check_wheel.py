"""Checks an edgekit that was installed from the wheel alone: `check_wheel.py PATH_OF_EDGEKIT`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
MOST_MEGABYTES = 100.0


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
    commands = [
        line.split()[0] for line in listing.splitlines() if line.startswith("  ") and line[2] != " "
    ]
    for command in commands:
        if "Examples:" not in run(edgekit, command, "--help"):
            sys.exit(f"edgekit {command} --help has no example")
    model = str(ROOT / "tests" / "files" / "tiny-int8.tflite")
    run(edgekit, "inspect", model)
    run(edgekit, "check", model, "--target", "raspberry-pi-4")
    run(edgekit, "profile", model, "--target", "raspberry-pi-4", "--target", "coral-usb")
    for command in ("targets", "recipes", "doctor"):
        json.loads(run(edgekit, command, "--json"))
    json.loads(run(edgekit, "schema", "recipe", "--json"))
    report = str(ROOT / "tests" / "files" / "run.json")
    run(edgekit, "gate", report, "--budget", "bytes<=1000000")
    # pip and setuptools were there before.
    sites = next((Path(edgekit).parent.parent / "lib").glob("python*")) / "site-packages"
    own = [
        path
        for path in sites.iterdir()
        if path.name.split("-")[0] not in ("pip", "setuptools", "pkg_resources", "_distutils_hack")
    ]
    size = sum(
        file.stat().st_size
        for path in own
        for file in ([path] if path.is_file() else path.rglob("*"))
        if file.is_file()
    )
    megabytes = size / 1e6
    print(f"{len(commands)} commands with examples; {megabytes:.1f} MB installed without extras")
    if megabytes >= MOST_MEGABYTES:
        sys.exit(f"more than {MOST_MEGABYTES:g} MB")
    if (sites / "tensorflow").exists():
        sys.exit("TensorFlow was installed without the extra")


if __name__ == "__main__":
    main()
