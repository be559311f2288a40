"""A table of scores, written for people (terminal, markdown, LaTeX) and for programs (CSV, JSON)."""

import csv
import io
import json
from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table as RichTable

from seqtrack_lit.checks import printable

Cell = str | float | int | None


@dataclass(frozen=True)
class Table:
    """Rows of cells; the first column is text. None is "not given" and is written as a dash (empty in CSV).

    Args:
        title: what the numbers are, with benchmark and convention.
        columns: heads.
        rows: one cell for each column.
        notes: lines to be read under the table.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Names of trackers and sequences come from files: whatever prints a table finds no control characters."""
        clean = {
            "title": printable(self.title),
            "columns": tuple(map(printable, self.columns)),
            "rows": tuple(tuple(printable(c) if isinstance(c, str) else c for c in row) for row in self.rows),
            "notes": tuple(map(printable, self.notes)),
        }
        for name, value in clean.items():
            object.__setattr__(self, name, value)

    def __str__(self) -> str:
        return self.markdown()

    def markdown(self) -> str:
        """GitHub's markdown, padded so that it reads as text, too."""
        cells = [tuple(_text(cell).replace("|", r"\|") for cell in row) for row in (self.columns, *self.rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.columns))]
        lines = [
            "| "
            + " | ".join(_pad(cell, width, i) for i, (cell, width) in enumerate(zip(row, widths, strict=True)))
            + " |"
            for row in cells
        ]
        rule = "|" + "|".join("-" * (width + 1) + ("-" if i == 0 else ":") for i, width in enumerate(widths)) + "|"
        return "\n".join([self.title, "", lines[0], rule, *lines[1:], *(f"\n{note}" for note in self.notes)]) + "\n"

    def latex(self) -> str:
        """A `tabular` for booktabs."""
        head = " & ".join(_latex(column) for column in self.columns) + r" \\"
        rows = [" & ".join(_latex(_text(cell)) for cell in row) + r" \\" for row in self.rows]
        top = [f"% {line}" for line in (self.title, *self.notes)]
        begin = r"\begin{tabular}{l" + "r" * (len(self.columns) - 1) + "}"
        return "\n".join([*top, begin, r"\toprule", head, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}"]) + "\n"

    def csv(self) -> str:
        """Comma-separated, heads first."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(["" if cell is None else _text(cell) for cell in row] for row in self.rows)
        return out.getvalue()

    def json(self) -> str:
        """Title, notes, and a list of rows by column name."""
        rows = [
            {c: round(v, 1) if isinstance(v, float) else v for c, v in zip(self.columns, row, strict=True)}
            for row in self.rows
        ]
        return json.dumps({"title": self.title, "rows": rows, "notes": list(self.notes)}, indent=1) + "\n"

    def rich(self) -> RichTable:
        """For a rich console."""
        table = RichTable(title=escape(self.title), caption="\n".join(map(escape, self.notes)) or None)
        for i, column in enumerate(self.columns):
            table.add_column(
                escape(column), justify="left" if i == 0 else "right", overflow="fold" if i == 0 else "ellipsis"
            )
        for row in self.rows:
            table.add_row(*(escape(_text(cell)) for cell in row))
        return table


def _text(cell: Cell) -> str:
    if cell is None:
        return "-"
    return f"{cell:.1f}" if isinstance(cell, float) else str(cell)


def _pad(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column == 0 else cell.rjust(width)


_SPELT = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_LATEX = str.maketrans({**_SPELT, **{symbol: "\\" + symbol for symbol in "&%$#_{}"}})


def _latex(text: str) -> str:
    return text.translate(_LATEX)
