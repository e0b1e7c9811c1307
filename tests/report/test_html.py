from __future__ import annotations

import html
from html.parser import HTMLParser
from pathlib import Path

from edgekit.report.html import write_html
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
