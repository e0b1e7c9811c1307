"""edgekit's compression against its peers, on reference networks trained on hard tasks.

    python benchmarks/compression.py [--folder DIR] [--seeds 3] [--networks NAME...]
        [--sections train ptq qat structured chain tfmot latency] [--parallel 1]
        [--resume] [--tables] [--readme]

Trains each network once a seed, runs every tool on it, measures every file in its real runtime and
prints the tables, mean and spread over the seeds. `--resume` goes on where an earlier run ended,
`--tables` only prints what is there, `--readme` puts the tables into README.md and those of all
tools into docs/compression.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.base.files import write_text

if TYPE_CHECKING:
    from reference import Reference

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

SECTIONS = ("train", "ptq", "qat", "structured", "chain", "tfmot")
LATENCY = "latency"
HEAD = """# Post-training int8 quantization by every tool

Made by `python benchmarks/compression.py --readme`: mean and standard deviation over the seeds.
"score lost" is in percentage points of the float network's test score, SNR that of the outputs
against the float network's. Seconds go from the float Keras file to the int8 file, beside other
work; latencies are medians of one thread, measured in turns, alone.
"""


def main() -> None:
    """Runs what is asked for, job by job, and prints the tables."""
    from reference import NETWORKS

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path("runs/compression"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument(
        "--sections", nargs="+", default=[*SECTIONS, LATENCY], choices=[*SECTIONS, LATENCY]
    )
    parser.add_argument("--resume", action="store_true", help="keep the rows that are there")
    parser.add_argument("--tables", action="store_true", help="run nothing")
    parser.add_argument("--parallel", type=int, default=1, help="jobs at once, but for latencies")
    parser.add_argument("--readme", action="store_true", help="write the tables into README.md")
    parser.add_argument("--job", nargs=3, metavar=("SECTION", "NETWORK", "SEED"), help="only this")
    arguments = parser.parse_args()
    if arguments.job:
        section, network, seed = arguments.job
        run_job(section, network, int(seed), arguments.folder)
        return
    if not arguments.tables:
        run_all(arguments)
    from tables import every_tool, tables

    rows = rows_of(arguments.folder)
    text = tables(rows)
    print(text)
    if arguments.readme:
        from markdown import DOCS, README, put_between

        put_between(README, "compression", text)
        write_text(DOCS / "compression.md", f"{HEAD}\n{every_tool(rows)}\n")


def run_all(arguments: argparse.Namespace) -> None:
    """Runs each job in a process of its own, and measures the latencies last, alone."""
    pairs = [(name, seed) for seed in range(arguments.seeds) for name in arguments.networks]
    folder = arguments.folder
    for name, seed in pairs if not arguments.resume else ():
        for section in set(arguments.sections) - {LATENCY}:
            rows_file(folder, section, name, seed).unlink(missing_ok=True)
    jobs = [
        (section, *pair)
        for section in arguments.sections
        for pair in pairs
        if section in SECTIONS and not rows_file(folder, section, *pair).exists()
    ]
    print(f"{len(jobs)} jobs, {arguments.parallel} at once", flush=True)
    with ThreadPoolExecutor(arguments.parallel) as pool:
        done = [*pool.map(lambda job: run_process(folder, *job), jobs)]
    if LATENCY in arguments.sections:
        done += [run_process(folder, LATENCY, *pair) for pair in pairs]
    if not all(done):
        sys.exit("some jobs failed")


def run_process(folder: Path, section: str, network: str, seed: int) -> bool:
    """One job in its own process, so that it leaves neither memory nor threads to the next."""
    started = time.monotonic()
    job = (section, network, str(seed))
    done = subprocess.run(
        [sys.executable, __file__, "--folder", str(folder), "--job", *job],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    print(*job, f"{time.monotonic() - started:.0f} s", flush=True)
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
    return done.returncode == 0


def run_job(section: str, network: str, seed: int, folder: Path) -> None:
    """One section on one network, and its rows as JSON."""
    from reference import reference

    trained = reference(network, seed, folder / "trained")
    if section == LATENCY:
        add_latencies(trained, folder)
        return
    if section == "train":
        write_rows(rows_file(folder, section, network, seed), [described(trained)])
        return
    from finetuned import run_chain, run_qat, run_structured
    from ptq import run_ptq
    from tfmot_side import run_tfmot

    run = {
        "ptq": run_ptq,
        "qat": run_qat,
        "structured": run_structured,
        "chain": run_chain,
        "tfmot": run_tfmot,
    }[section]
    rows = run(trained, folder / "files" / f"{section}-{network}-{seed}", seed=seed)
    write_rows(rows_file(folder, section, network, seed), [asdict(row) for row in rows])


def add_latencies(trained: Reference, folder: Path) -> None:
    """Measures all files of a network in turns, and adds the latencies to their rows."""
    from measure import latencies

    paths = [rows_file(folder, section, trained.name, trained.seed) for section in SECTIONS]
    found = {path: json.loads(path.read_text()) for path in paths if path.exists()}
    files = {row["file"] for rows in found.values() for row in rows if row.get("file")}
    times = latencies({file: Path(file) for file in files}, x=trained.dataset.test.x)
    for path, rows in found.items():
        new = [
            row | {"latency_ms": times.get(row["file"])} if row.get("file") else row for row in rows
        ]
        write_rows(path, new)


def write_rows(path: Path, rows: list[Any]) -> None:
    """Writes JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".tmp")
    scratch.write_text(json.dumps(rows, indent=1))
    scratch.replace(path)


def described(trained: Reference) -> dict[str, Any]:
    """What is known of a float network, for the first table."""
    from reference import linear_score

    from edgekit.models.inspect import describe

    return {
        "network": trained.name,
        "seed": trained.seed,
        "task": trained.task,
        "metric": trained.metric,
        "value": trained.value,
        "linear": linear_score(trained),
        "parameters": trained.model.count_params(),
        "macs": sum(layer["macs"] for layer in describe(trained.model)),
    }


def rows_file(folder: Path, section: str, network: str, seed: int) -> Path:
    """Where the rows of a job are kept."""
    return folder / "rows" / f"{section}-{network}-{seed}.json"


def rows_of(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """All rows that are there, by section."""
    return {
        section: [
            row
            for path in sorted((folder / "rows").glob(f"{section}-*.json"))
            for row in json.loads(path.read_text())
        ]
        for section in SECTIONS
    }


if __name__ == "__main__":
    main()
