from __future__ import annotations

import io
from pathlib import Path
from xml.etree import ElementTree

from rich.console import Console

from edgekit.report.memory import memory_view, write_memory_svg
from edgekit.schema.figure import Figure
from edgekit.schema.memory import MemoryBlock, MemoryReport, MemoryStep

RAM = Figure(value=4096, unit="bytes", origin="estimated", method="m")
STEPS = (
    MemoryStep(index=0, op="CONV_2D", layer="first", live_bytes=1024),
    MemoryStep(index=1, op="SOFTMAX", layer="<last>", live_bytes=2048),
)
REPORT = MemoryReport(
    artifact="m.tflite", target="board", arena_bytes=2048, peak_bytes=2048, peak=STEPS[1], ram=RAM,
    flash=RAM, parts={"arena_tail": RAM}, steps=STEPS,
    blocks=(
        MemoryBlock(tensor="a & b", bytes=1024, first=0, last=1, offset=0),
        MemoryBlock(tensor=None, bytes=1024, first=1, last=1, offset=1024),
    ),
    order=(1, 0), order_peak_bytes=1024, order_arena_bytes=1040, order_exact=True,
)  # fmt: skip


def shown(report: MemoryReport) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(memory_view(report))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_terminal_names_the_peak() -> None:
    text = shown(REPORT)
    assert "peak 2 KiB at operator 1, SOFTMAX <last>" in text
    assert "peak could be 1 KiB with another order" in text
    bars = [line.count("█") for line in text.splitlines() if "█" in line]
    assert bars == [20, 40]
    kept = REPORT.model_copy(update={"order": ()})
    assert "no other order" in shown(kept)
    assert "order" not in shown(kept.model_copy(update={"order_exact": False}))


def test_svg_is_self_contained(tmp_path: Path) -> None:
    path = tmp_path / "arena.svg"
    write_memory_svg(REPORT, path)
    root = ElementTree.fromstring(path.read_text())
    space = "{http://www.w3.org/2000/svg}"
    blocks = [r for r in root.iter(f"{space}rect") if r.find(f"{space}title") is not None]
    assert len(blocks) == 2
    high, low = (float(r.attrib["y"]) for r in reversed(blocks))
    assert high < low  # the second lies above the first
    titles = [title.text for title in root.iter(f"{space}title")]
    assert titles == ["a & b: 1 KiB at 0", "scratch: 1 KiB at 1024"]
    assert path.read_text().count("http") == 1  # the name space, and nothing to fetch


def test_svg_of_a_graph_without_operators(tmp_path: Path) -> None:
    empty = REPORT.model_copy(update={"steps": (), "blocks": (), "peak": None, "arena_bytes": 0})
    write_memory_svg(empty, tmp_path / "arena.svg")
    ElementTree.fromstring((tmp_path / "arena.svg").read_text())
    assert "operator 1" not in shown(empty)
