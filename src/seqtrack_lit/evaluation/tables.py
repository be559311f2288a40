"""Tables of scores, with the paper's rows: for the terminal, in markdown, LaTeX, CSV and JSON."""

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from statistics import mean, stdev
from typing import Any, Literal

from rich.markup import escape
from rich.table import Table as RichTable

from seqtrack_lit.checks import printable
from seqtrack_lit.evaluation.scores import Scores

Cell = str | float | int | None
Column = tuple[str, str, str]  # benchmark, convention, value
PaperRows = Literal["all", "seqtrack", "none"]

SPEED = "frames/s"  # head of the last column of a single benchmark's table

# The convention the paper's numbers of a benchmark are of; with another one they are not put beside.
_PAPER_CONVENTION = {"trackingnet": "trackingnet", "got10k_test": "got10k_ao", "vot2020": "vot_baseline"}


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
        padded = [[f"{cell:{'>' if i else '<'}{widths[i]}}" for i, cell in enumerate(row)] for row in cells]
        lines = [f"| {' | '.join(row)} |" for row in padded]
        rule = "|" + "|".join("-" * (width + 1) + ("-" if i == 0 else ":") for i, width in enumerate(widths)) + "|"
        return "\n".join([self.title, "", lines[0], rule, *lines[1:], *(f"\n{note}" for note in self.notes)]) + "\n"

    def latex(self) -> str:
        """A `tabular` for booktabs."""
        cells = [[_text(cell).translate(_LATEX) for cell in row] for row in (self.columns, *self.rows)]
        head, *rows = (" & ".join(row) + r" \\" for row in cells)
        top = [f"% {' '.join(line.split())}" for line in (self.title, *self.notes)]
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
            table.add_column(escape(column), justify="right" if i else "left", overflow="ellipsis" if i else "fold")
        for row in self.rows:
            table.add_row(*(escape(_text(cell)) for cell in row))
        return table


def _text(cell: Cell) -> str:
    if cell is None:
        return "-"
    return f"{cell:.1f}" if isinstance(cell, float) else str(cell)


_SPELT = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''", "±": r"$\pm$",
    "[": "{[}", "]": "{]}", "*": "{*}", "\n": " ",  # behind \\ a bracket or a star is its argument
}  # fmt: skip
_LATEX = str.maketrans({**_SPELT, **{symbol: "\\" + symbol for symbol in "&%$#_{}"}})


@cache
def paper() -> Mapping[str, Any]:
    """The results the paper prints (Tab. 2, Tab. 3 and Fig. 5), in percent, and where they come from."""
    content: Mapping[str, Any] = json.loads(files(__package__).joinpath("paper.json").read_text())
    return content


def paper_values(benchmark: str) -> dict[str, dict[str, float | None]]:
    """What the paper prints for a benchmark: values by tracker, None where it prints a dash.

    >>> paper_values("lasot")["SeqTrack-B256"]
    {'AUC': 69.9, 'PNorm': 79.7, 'P': 76.3}
    """
    found: dict[str, dict[str, float | None]] = {}
    for table in paper()["tables"].values():
        for tracker, *cells in table["rows"]:
            values = {name: cell for (of, name), cell in zip(table["columns"], cells, strict=True) if of == benchmark}
            if any(value is not None for value in values.values()):
                found[tracker] = values
    return found


def paper_rows(benchmark: str, convention: str) -> dict[str, dict[str, float | None]]:
    """The paper's own four trackers on a benchmark, where its numbers are by this convention; else none.

    >>> list(paper_rows("uav123", "seqtrack"))
    ['SeqTrack-L384', 'SeqTrack-L256', 'SeqTrack-B384', 'SeqTrack-B256']
    """
    if convention != _PAPER_CONVENTION.get(benchmark, "seqtrack"):
        return {}
    return {
        name: values
        for name, values in paper_values(benchmark).items()
        if name.startswith("SeqTrack") and not name.endswith("masks")
    }


def paper_ablations() -> list[dict[str, Any]]:
    """The rows of the paper's Tab. 4 by the names of `ablation=` and `inference=`: LaSOT AUC and GOT-10k AO, percent.

    >>> paper_ablations()[1]
    {'ablation': 'bidirectional', 'lasot AUC': 64.8, 'got10k_test AO': 72.4}
    """
    table = paper()["ablations"]
    return [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]


def compare(scores: Sequence[Scores], *, paper_rows: PaperRows = "all", average: bool = False) -> Table:
    """All trackers on all benchmarks: ours sorted by their first score, then the paper's.

    On a single benchmark the last column is the median speed, where times were written (on whatever machine that was).

    Args:
        scores: any trackers, benchmarks and conventions; at most one for each of the three together.
        paper_rows: the paper's rows for the benchmarks that are there: all, SeqTrack's four, or none.
        average: take several for the same tracker, benchmark and convention as repetitions (seeds): their mean and
            standard deviation stand in the table.

    Raises:
        ValueError: no scores, or several for the same tracker, benchmark and convention and no average asked for.
    """
    columns = list(
        dict.fromkeys((s.benchmark, s.convention, name) for s in sorted(scores, key=_place) for name in s.values)
    )
    if not columns:
        raise ValueError("there are no scores to compare")
    cells: dict[str, dict[Column, list[float]]] = {}
    for one in scores:
        row = cells.setdefault(one.tracker, {})
        for name, value in one.values.items():
            key = (one.benchmark, one.convention, name)
            if key in row and not average:
                raise ValueError(
                    f"two results of tracker {one.tracker!r} on {one.benchmark} ({one.convention}): give the folders "
                    "different tracker names, or ask for average=true if they are repetitions of one"
                )
            row.setdefault(key, []).append(value)
    ours = sorted(cells, key=lambda tracker: -mean(cells[tracker].get(columns[0], [-1.0])))
    rows: list[tuple[Cell, ...]] = [(tracker, *(_cell(cells[tracker].get(key)) for key in columns)) for tracker in ours]
    theirs = _paper(columns, paper_rows)
    speeds: dict[str, Cell] = {s.tracker: s.fps if s.fps < 100 else round(s.fps) for s in scores if s.fps is not None}
    heads = _heads(columns)
    if speeds and len({s.benchmark for s in scores}) == 1 and not average:
        heads.append(SPEED)
        rows = [(*row, speeds.get(tracker)) for row, tracker in zip(rows, ours, strict=True)]
        theirs = [(*row, None) for row in theirs]
    return Table(
        title="Scores in percent" if len(_groups(columns)) > 1 else f"{columns[0][0]}, scores in percent",
        columns=("tracker", *heads),
        rows=(*rows, *theirs),
        notes=(*_notes(scores, average), *([f"(paper) rows: {paper()['source']}"] if theirs else [])),
    )


def repetitions(scores: Sequence[Scores]) -> str:
    """Every run's values by tracker, with mean and standard deviation, as a small JSON text in percent.

    The order of the runs is that of `scores`. One run alone has no standard deviation (null).
    """
    results = []
    for benchmark, convention in _groups([(s.benchmark, s.convention, "") for s in sorted(scores, key=_place)]):
        runs: dict[str, list[Scores]] = {}
        for one in scores:
            if (one.benchmark, one.convention) == (benchmark, convention):
                runs.setdefault(one.tracker, []).append(one)
        values = {
            tracker: {name: [one.values[name] for one in of if name in one.values] for name in of[0].values}
            for tracker, of in runs.items()
        }
        results.append(
            {
                "benchmark": benchmark,
                "convention": convention,
                "sequences": max(one.sequences for of in runs.values() for one in of),
                "trackers": {t: {name: _spread(v) for name, v in of.items()} for t, of in values.items()},
            }
        )
    return json.dumps({"unit": "percent", "results": results}, indent=1) + "\n"


def _spread(values: Sequence[float]) -> dict[str, Any]:
    deviation = round(stdev(values), 1) if len(values) > 1 else None
    return {"runs": [round(value, 1) for value in values], "mean": round(mean(values), 1), "std": deviation}


def attribute_table(scores: Sequence[Scores], value: str | None = None) -> Table:
    """One value (None: the first) of several trackers for each attribute of one benchmark, and the number of videos.

    Raises:
        ValueError: the benchmark has no attributes, or the trackers were scored on different benchmarks.
    """
    first = scores[0]
    if not first.per_attribute:
        raise ValueError(f"{first.benchmark} has no attributes")
    if {(s.benchmark, s.convention) for s in scores} != {(first.benchmark, first.convention)}:
        raise ValueError("attributes are compared on one benchmark by one convention")
    name = value or next(iter(first.values))
    rows: list[tuple[Cell, ...]] = [
        (attribute, int(of["sequences"]), *(s.per_attribute.get(attribute, {}).get(name) for s in scores))
        for attribute, of in first.per_attribute.items()
    ]
    rows.append(("all", first.sequences, *(s.values[name] for s in scores)))
    title = f"{first.benchmark}, {name} by attribute (convention {first.convention})"
    return Table(title, ("attribute", "videos", *(s.tracker for s in scores)), tuple(rows))


def _place(one: Scores) -> int:
    """Where the paper's tables have this benchmark; others come last, in the order given."""
    order = [benchmark for table in paper()["tables"].values() for benchmark, _ in table["columns"]]
    return order.index(one.benchmark) if one.benchmark in order else len(order)


def _groups(columns: Sequence[Column]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((benchmark, convention) for benchmark, convention, _ in columns))


def _heads(columns: Sequence[Column]) -> list[str]:
    """Value names, with the benchmark where there are several, and the convention where two would read the same."""
    several = len({benchmark for benchmark, _, _ in columns}) > 1
    heads = [f"{benchmark} {name}" if several else name for benchmark, _, name in columns]
    return [
        f"{head} ({convention})" if heads.count(head) > 1 else head
        for head, (_, convention, _) in zip(heads, columns, strict=True)
    ]


def _paper(columns: Sequence[Column], which: PaperRows) -> list[tuple[Cell, ...]]:
    """The paper's rows that have a number in one of the columns."""
    if which == "none":
        return []
    values = {
        (benchmark, convention): paper_values(benchmark)
        for benchmark, convention in _groups(columns)
        if convention == _PAPER_CONVENTION.get(benchmark, "seqtrack")
    }
    trackers = dict.fromkeys(tracker for of in values.values() for tracker in of)
    rows: list[tuple[Cell, ...]] = []
    for tracker in trackers:
        cells = [values.get((b, c), {}).get(tracker, {}).get(name) for b, c, name in columns]
        wanted = which == "all" or tracker.startswith("SeqTrack")
        if wanted and any(cell is not None for cell in cells):
            rows.append((f"{tracker} (paper)", *cells))
    return rows


def _cell(values: Sequence[float] | None) -> Cell:
    """One value; or mean and standard deviation of repetitions."""
    if values is None or len(values) == 1:
        return None if values is None else values[0]
    return f"{mean(values):.1f} ± {stdev(values):.1f}"


def _notes(scores: Sequence[Scores], average: bool) -> list[str]:
    """By which convention, over how many sequences, of how many repetitions."""
    notes = []
    if average:
        repetitions = sorted(set(Counter((s.benchmark, s.convention, s.tracker) for s in scores).values()))
        notes.append(f"mean ± standard deviation of {' or '.join(map(str, repetitions))} runs")
    for benchmark, convention in dict.fromkeys((s.benchmark, s.convention) for s in sorted(scores, key=_place)):
        counts = {s.tracker: s.sequences for s in scores if (s.benchmark, s.convention) == (benchmark, convention)}
        most = max(counts.values())
        fewer = [f"{tracker} only {count}" for tracker, count in counts.items() if count != most]
        names = ", ".join(next(s for s in scores if (s.benchmark, s.convention) == (benchmark, convention)).values)
        whole = paper()["sequences"].get(benchmark, most)
        part = "" if most == whole else f" of {whole}, so not the benchmark's scores"
        notes.append(
            f"{benchmark}: {names} by convention {convention}, {most} sequences{part}{'; '.join(['', *fewer])}"
        )
        notes += [
            f"{benchmark}: {s.short} results of {s.tracker} are shorter than their videos"
            for s in scores
            if s.short and (s.benchmark, s.convention) == (benchmark, convention)
        ]
    return notes
