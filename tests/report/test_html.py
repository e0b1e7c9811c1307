from __future__ import annotations

import html
from html.parser import HTMLParser
from pathlib import Path

from edgekit.report.html import write_html
from edgekit.schema.figure import Figure
from edgekit.schema.memory import MemoryReport, MemoryStep
from edgekit.schema.results import RunReport


class Page(HTMLParser):
    """Collects tags, attributes and text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.title = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attributes)

    def handle_data(self, data: str) -> None:
        if self.lasttag == "title" and not self.title:
            self.title = data
        self.text += data


def read(report: RunReport, path: Path) -> tuple[Page, str]:
    write_html(report, path)
    source = path.read_text(encoding="utf-8")
    page = Page()
    page.feed(source)
    return page, source


def test_the_page_stands_alone_and_shows_the_run(report: RunReport, tmp_path: Path) -> None:
    page, source = read(report, tmp_path / "report.html")
    assert page.title == f"edgekit run: {report.recipe}"
    assert page.tags <= {"html", "head", "meta", "title", "style", "body", "pre", "code", "span"}
    assert not {"src", "href"} & page.attributes
    assert "http" not in source
    assert "url(" not in source
    for text in ("97.5%", "~400 µs", "no energy meter", "it died", "cached", "numpy 2.4"):
        assert text in page.text


def test_names_cannot_become_markup(report: RunReport, tmp_path: Path) -> None:
    page, source = read(report, tmp_path / "report.html")
    assert "script" not in page.tags
    assert "<script>alert(1)" in "".join(page.text.split())
    assert html.escape(report.recipe) in source


def test_the_same_report_gives_the_same_page(report: RunReport, tmp_path: Path) -> None:
    _, first = read(report, tmp_path / "a.html")
    _, again = read(report, tmp_path / "b.html")
    assert first == again


def test_memory_over_time_names_the_peak(report: RunReport, tmp_path: Path) -> None:
    steps = (
        MemoryStep(index=0, op="CONV_2D", layer="<b>first</b>", live_bytes=1024),
        MemoryStep(index=1, op="SOFTMAX", layer="last", live_bytes=512),
    )
    plan = MemoryReport(
        artifact="digits.tflite", target="board", arena_bytes=1024, peak_bytes=1024, peak=steps[0],
        ram=Figure(value=1024, unit="bytes", origin="estimated"), steps=steps, blocks=(),
        order_peak_bytes=1024, order_arena_bytes=1024, order_exact=False,
    )  # fmt: skip
    page, source = read(report.model_copy(update={"memory": (plan,)}), tmp_path / "report.html")
    assert "Memory over time" in page.text
    assert "digits.tflite on board: arena 1 KiB" in page.text
    assert "peak 1 KiB at operator 0, CONV_2D <b>first</b>" in page.text
    assert "<b>first" not in source
    bars = [line.count("█") for line in page.text.splitlines() if "█" in line]
    assert bars == [40, 20]
    assert "Memory over time" not in read(report, tmp_path / "without.html")[0].text
