"""Puts what a benchmark prints into the documents that quote it."""

from __future__ import annotations

from pathlib import Path

from edgekit.base.files import write_text

ROOT = Path(__file__).parents[1]
README, DOCS = ROOT / "README.md", ROOT / "docs"


def put_between(path: Path, name: str, text: str) -> None:
    """Replaces what stands between `<!-- name: begin -->` and `<!-- name: end -->`."""
    start, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = path.read_text(encoding="utf-8").partition(start)
    if not found or end not in rest:
        raise SystemExit(f"{path.name} has no place for {name}")
    write_text(path, f"{before}{start}\n{text}\n{end}{rest.partition(end)[2]}")
