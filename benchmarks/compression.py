"""edgekit's compression against its peers, on reference networks trained on hard tasks.

    python benchmarks/compression.py [--folder DIR] [--seeds 3] [--networks NAME...]
        [--sections train ptq qat structured tfmot] [--resume] [--tables] [--readme]

Trains each network once a seed, runs every tool on it, measures every file in its real runtime and
prints the tables, mean and spread over the seeds. `--resume` goes on where an earlier run ended,
`--tables` only prints what is there, `--readme` puts the tables into README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reference import Reference

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

SECTIONS = ("train", "ptq", "qat", "structured", "tfmot")
README = Path(__file__).parents[1] / "README.md"
START, END = "<!-- compression: begin -->", "<!-- compression: end -->"


def main() -> None:
    """Runs what is asked for, job by job, and prints the tables."""
    from reference import NETWORKS

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path("runs/compression"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--sections", nargs="+", default=list(SECTIONS), choices=SECTIONS)
    parser.add_argument("--resume", action="store_true", help="keep the rows that are there")
    parser.add_argument("--tables", action="store_true", help="run nothing")
    parser.add_argument("--readme", action="store_true", help="write the tables into README.md")
    parser.add_argument("--job", nargs=3, metavar=("SECTION", "NETWORK", "SEED"), help="only this")
    arguments = parser.parse_args()
    if arguments.job:
        section, network, seed = arguments.job
        run_job(section, network, int(seed), arguments.folder)
        return
    if not arguments.tables:
        run_all(arguments)
    from tables import tables

    text = tables(rows_of(arguments.folder))
    print(text)
    if arguments.readme:
        before, _, rest = README.read_text().partition(START)
        after = rest.partition(END)[2]
        README.write_text(f"{before}{START}\n{text}\n{END}{after}")


def run_all(arguments: argparse.Namespace) -> None:
    """Runs each job in a process of its own, so that none leaves memory or threads to the next."""
    jobs = [
        (section, network, seed)
        for section in SECTIONS
        if section in arguments.sections
        for seed in range(arguments.seeds)
        for network in arguments.networks
    ]
    for number, (section, network, seed) in enumerate(jobs, start=1):
        output = rows_file(arguments.folder, section, network, seed)
        if output.exists() and arguments.resume:
            continue
        output.unlink(missing_ok=True)
        started = time.monotonic()
        print(f"[{number}/{len(jobs)}] {section} {network} seed {seed}", end=" ", flush=True)
        command = [sys.executable, __file__, "--folder", str(arguments.folder)]
        done = subprocess.run(
            [*command, "--job", section, network, str(seed)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        print(f"{time.monotonic() - started:.0f} s", flush=True)
        if done.returncode:
            print(done.stderr[-2000:], file=sys.stderr)
            sys.exit(f"{section} {network} seed {seed} ended with {done.returncode}")


def run_job(section: str, network: str, seed: int, folder: Path) -> None:
    """One section on one network, and its rows as JSON."""
    from reference import reference

    trained = reference(network, seed, folder / "trained")
    files = folder / "files" / f"{section}-{network}-{seed}"
    if section == "train":
        rows = [described(trained)]
    elif section == "ptq":
        from ptq import run_ptq

        rows = [asdict(row) for row in run_ptq(trained, files, seed=seed)]
    elif section == "tfmot":
        from tfmot_side import run_tfmot

        rows = [asdict(row) for row in run_tfmot(trained, files, seed=seed)]
    else:
        from finetuned import run_qat, run_structured

        run = {"qat": run_qat, "structured": run_structured}[section]
        rows = [asdict(row) for row in run(trained, files, seed=seed)]
    output = rows_file(folder, section, network, seed)
    output.parent.mkdir(parents=True, exist_ok=True)
    scratch = output.with_suffix(".tmp")
    scratch.write_text(json.dumps(rows, indent=1))
    scratch.replace(output)


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
