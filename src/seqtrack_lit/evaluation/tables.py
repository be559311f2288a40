"""Several trackers in one table, with the paper's rows beside ours."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from statistics import mean, stdev
from typing import Any, Literal

from seqtrack_lit.evaluation.scores import Scores
from seqtrack_lit.evaluation.table import Cell, Table

Column = tuple[str, str, str]  # benchmark, convention, value
PaperRows = Literal["all", "seqtrack", "none"]

SPEED = "frames/s"  # head of the last column of a single benchmark's table

# The convention the paper's numbers of a benchmark are of; with another one they are not put beside.
_PAPER_CONVENTION = {"trackingnet": "trackingnet", "got10k_test": "got10k_ao", "vot2020": "vot_baseline"}


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
