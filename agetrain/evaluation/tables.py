"""A table of a report, written as Markdown or as HTML."""

import html
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Table:
    """A title, the names of the columns, and the rows."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """Returns the table as Markdown, under its title."""
        lines = [f"### {self.title}", "", _row(self.head), "|" + "---|" * len(self.head), *map(_row, self.rows)]
        return "\n".join(lines)

    def html(self) -> str:
        """Returns the table as HTML, under its title."""
        head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in self.head)
        rows = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in self.rows)
        table = f"<table><thead><tr>{head}</tr></thead>{rows}</table>"
        return f"<h3>{html.escape(self.title)}</h3><div>{table}</div>"  # which scrolls where the screen is narrow


def number(value: float | None, decimals: int = 2) -> str:
    """Returns a number as a cell; a dash where there is none."""
    return "-" if value is None else f"{value:.{decimals}f}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
