"""A table that loses no word: where the terminal is too narrow for its columns, a block a row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Column, Table
from rich.text import Text

_FOLDED = 14
"""Characters that a word may be broken into without becoming unreadable."""
_FRAME = 3
"""Characters between two columns."""


class FittingTable:
    """Rows under headings.

    Args:
        headings: of the columns; one that is not wrapped, or its side, is told as a `Column`.
        rows: their cells.
        title: above the table.
    """

    def __init__(
        self, headings: Sequence[str | Column], rows: Iterable[Sequence[str]], *, title: str = ""
    ) -> None:
        self._columns = [
            one if isinstance(one, Column) else Column(one, overflow="fold") for one in headings
        ]
        self._rows = [tuple(row) for row in rows]
        self._title = title

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yields the table, or the blocks."""
        if self._title:
            yield Text(self._title, style="italic")
        yield self._table() if self._least_width() <= options.max_width else self._blocks()

    def _least_width(self) -> int:
        widths = []
        for number, column in enumerate(self._columns):
            cells = [str(column.header), *(row[number] for row in self._rows)]
            if column.no_wrap:
                widths.append(max(map(cell_len, cells)))
                continue
            words = (cell_len(word) for cell in cells for word in cell.split())
            widths.append(min(max(words, default=0), _FOLDED))
        return sum(widths) + _FRAME * len(widths) + 1

    def _table(self) -> RenderableType:
        table = Table(*self._columns)
        for row in self._rows:
            table.add_row(*map(Text, row))
        return table

    def _blocks(self) -> RenderableType:
        grid = Table.grid(
            Column(no_wrap=True, style="dim"), Column(overflow="fold"), padding=(0, 1)
        )
        for row in self._rows:
            for column, cell in zip(self._columns, row, strict=True):
                if cell:
                    grid.add_row(Text(str(column.header)), Text(cell))
            grid.add_row("", "")
        return grid
