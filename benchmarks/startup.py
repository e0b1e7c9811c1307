"""Start-up time of the command line against the bare import of the libraries that it is made of.

    python benchmarks/startup.py [--runs 20]

The commands take turns, so that a change of the machine's speed meets all of them alike.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import time

COMMANDS = {
    'python -c "import typer, rich"': [sys.executable, "-c", "import typer, rich"],
    "edgekit --version": [sys.executable, "-m", "edgekit", "--version"],
    "edgekit --help": [sys.executable, "-m", "edgekit", "--help"],
    "edgekit run --help": [sys.executable, "-m", "edgekit", "run", "--help"],
}


def seconds(command: list[str]) -> float:
    """Wall time of one process."""
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def main() -> None:
    """Prints the median of each command and its ratio to the first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    runs = parser.parse_args().runs
    for command in COMMANDS.values():
        seconds(command)
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(runs):
        for name, command in COMMANDS.items():
            times[name].append(seconds(command))
    base = statistics.median(next(iter(times.values())))
    print(f"Python {platform.python_version()}, {platform.machine()}, median of {runs} runs")
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:<34} {median * 1000:7.1f} ms  {median / base:5.2f} x")


if __name__ == "__main__":
    main()
