"""The page that compares runs: what differs in them, their curves and scores, and their environments.

Everything comes from the files that training and evaluation left in the runs' folders; see `runs/compare.py`.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple
from urllib.parse import quote

import numpy as np

from seqtrack_lit.evaluation import tables
from seqtrack_lit.evaluation.scores import Scores
from seqtrack_lit.evaluation.tables import Table, compare
from seqtrack_lit.reports import plots
from seqtrack_lit.reports.page import Cell, Media, Plot, draw_plot, fresh_folder, scores_table, write_document
from seqtrack_lit.runs.compare import PAGE, Comparison, Group, Member, environments, warnings
from seqtrack_lit.runs.read import BASELINES


@dataclass(frozen=True)
class Number:
    """A column of the table of runs: how it is read from a run, how it is written, whether more is better."""

    head: str
    read: Callable[[Member], float | None]
    write: Callable[[float], str]
    best: Callable[..., float] | None = None


def _last(column: str) -> Callable[[Member], float | None]:
    return lambda one: float(one.values(column)[-1]) if one.values(column).size else None


def _best_auc(one: Member) -> float | None:
    return float(one.values("val/auc").max()) if one.values("val/auc").size else one.number("best")


def _speed(one: Member) -> float | None:
    values = one.values("time/samples_per_second")
    return float(np.median(values)) if values.size else None


def _decimals(digits: int) -> Callable[[float], str]:
    def write(value: float) -> str:
        if not math.isfinite(value) or abs(value) >= 1e6:  # of a training that diverged
            return f"{value:.3g}"
        return f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: no "-0.0"

    return write


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d} h"


def _large(count: float) -> str:
    return f"{count / 1e6:.2f} M" if count >= 1e6 else f"{count / 1e3:.1f} k"


NUMBERS = (
    Number("best val/auc", _best_auc, _decimals(1), max),
    Number("val/auc", _last("val/auc"), _decimals(1), max),
    Number("val/reliance", _last("val/reliance"), _decimals(1), max),
    Number("val/loss", _last("val/loss"), _decimals(3)),
    Number("time", lambda one: one.number("seconds"), _duration),
    Number("samples/s", _speed, _decimals(0)),
    Number("parameters", lambda one: one.number("parameters"), _large),
)
_PANELS = {
    "train/loss": "Training loss, means of neighbouring values.",
    "val/loss": "The same loss on held-out pairs.",
    "val/auc": "AUC on whole held-out videos, percent.",
    "val/ao": "Average overlap on the same videos, percent.",
    "val/reliance": "Template reliance: overlap with the right template minus that with another, IoU points.",
    "val/pair_iou": "One search image, one template: overlap of the box that is read out, percent.",
}


class Row(NamedTuple):
    """A row of the table of runs.

    Args:
        kind: of a configuration of several runs "ours", of one of its runs "one", else "".
        line: number of the configuration's line in the plots; None for one of several runs.
        name: of the configuration or the run.
        link: to the run's own page, empty where it has none.
        status: of the run, or the number of runs.
        cells: the numbers.
    """

    kind: str
    line: int | None
    name: str
    link: str
    status: str
    cells: Sequence[Cell]


def write_comparison(found: Comparison, out: Path | None = None) -> Path:
    """Write the page to the folder `out` (None: `<common folder>/comparison`); returns the path of index.html.

    Raises:
        ValueError: `out` holds something that is no page.
    """
    folder = out or found.folder / PAGE
    fresh_folder(folder, inside_run=out is None)
    table = scores_of(found)
    return write_document(
        folder,
        "comparison.html",
        title=f"{found.folder.name}: {_counts(found)}",
        warnings=warnings(found.members),
        heads=[number.head for number in _known(found.members)],
        rows=_rows(found, folder),
        notes=_notes(found),
        lines=[_line(number) for number in range(len(found.groups))],
        labels=[group.label for group in found.groups],
        settings=_settings(found),
        learning=_learning(found, Media(folder, linked=False)),
        repeated=len(found.members) > len(found.groups),
        table=None if table is None else scores_table(table),
        problems=found.problems,
        **_environment(found.members),
    )


def summary(found: Comparison) -> Table:
    """The runs by configuration, for the terminal."""
    wanted = ("best val/auc", "val/reliance", "val/loss", "time")
    numbers = [number for number in _known(found.members) if number.head in wanted]
    rows: list[tuple[tables.Cell, ...]] = [
        (group.label, _state(group), *(_cell(number, group.counted) for number in numbers)) for group in found.groups
    ]
    return Table(
        _counts(found), ("run", "status", *(number.head for number in numbers)), tuple(rows), tuple(_notes(found))
    )


def scores_of(found: Comparison) -> Table | None:
    """Scores of all runs that were evaluated, repetitions as mean and standard deviation; None where there are none."""
    scores: list[Scores] = []
    baselines: dict[tuple[str, str, str], Scores] = {}
    for group in found.groups:
        for one in group.members:
            label = group.label if one in group.counted else f"{one.name} ({one.status})"
            own = one.settings.get("tracker.name")
            for score in one.run.scores:
                if score.tracker in BASELINES:
                    baselines.setdefault((score.tracker, score.benchmark, score.convention), score)
                else:
                    alone = own is None and len({s.tracker for s in one.run.ours}) == 1
                    name = label if alone or score.tracker == own else f"{label}: {score.tracker}"
                    scores.append(replace(score, tracker=name))
    everything = [*scores, *baselines.values()]
    keys = [(s.tracker, s.benchmark, s.convention) for s in everything]
    return compare(everything, paper_rows="none", average=len(set(keys)) < len(keys)) if everything else None


def _counts(found: Comparison) -> str:
    counts = {"run": len(found.members), "configuration": len(found.groups)}
    return " of ".join(f"{count} {what}{'' if count == 1 else 's'}" for what, count in counts.items())


def _known(members: Sequence[Member]) -> list[Number]:
    """The numbers that any of the runs has."""
    return [number for number in NUMBERS if any(number.read(one) is not None for one in members)]


def _mean(number: Number, members: Sequence[Member]) -> float | None:
    values = [value for value in map(number.read, members) if value is not None]
    return mean(values) if values else None


def _cell(number: Number, members: Sequence[Member]) -> str | None:
    """The number; of several runs mean and standard deviation."""
    values = [value for value in map(number.read, members) if value is not None]
    if len(values) < 2 or min(values) == max(values):
        return number.write(mean(values)) if values else None
    if number.write is _duration:
        return _duration(mean(values))
    if not all(map(math.isfinite, values)):
        return "not finite"
    return f"{number.write(mean(values))} ± {number.write(stdev(values))}"


def _state(group: Group) -> str:
    """The status; of repetitions how many count."""
    if len(group.members) == 1:
        return _status(group.members[0])
    done = sum(one.finished for one in group.members)
    return f"n = {done}" if done == len(group.members) else f"n = {done} of {len(group.members)}"


def _status(one: Member) -> str:
    """The status, and how far an unfinished run came."""
    at = max((float(along[-1]) for along, _ in one.run.metrics.values()), default=None)
    total = one.run.metadata.get("length")
    whole = total.get("total") if isinstance(total, dict) else None
    far = f", {at / whole:.0%}" if not one.finished and at is not None and isinstance(whole, int) and whole > 0 else ""
    return f"{one.status or 'no run.json'}{far}"


def _notes(found: Comparison) -> list[str]:
    notes = []
    if any(len(group.members) > 1 for group in found.groups):
        notes.append(
            "± is the standard deviation over runs that differ in the seed only; unfinished runs do not count."
        )
    if any(one.status == "running" for one in found.members):
        notes.append("A run that was killed is called running, too.")
    return notes


def _short(key: str, keys: Sequence[str]) -> str:
    """The end of a key, as long as it must be to be the only one."""
    parts = key.split(".")
    ends = (".".join(parts[-count:]) for count in range(min(2, len(parts)), len(parts)))
    return next((end for end in ends if sum(f".{other}".endswith(f".{end}") for other in keys) == 1), key)


def _rows(found: Comparison, folder: Path) -> list[Row]:
    """A row for each configuration, below it a row for each of its runs where there are several."""
    numbers = _known(found.members)
    means = [[_mean(number, group.counted) for group in found.groups] for number in numbers]
    tops = [
        number.best((value for value in of if value is not None), default=None) if number.best and len(of) > 1 else None
        for number, of in zip(numbers, means, strict=True)
    ]
    rows = []
    for place, group in enumerate(found.groups):
        cells = [
            Cell(_cell(number, group.counted) or "-", top is not None and of[place] == top)
            for number, of, top in zip(numbers, means, tops, strict=True)
        ]
        several = len(group.members) > 1
        link = "" if several else _link(group.members[0], folder)
        rows.append(Row("ours" if several else "", place, group.label, link, _state(group), cells))
        seeds = len({str(one.seed) for one in group.members}) == len(group.members)
        for one in group.members if several else ():
            cells = [Cell(_cell(number, [one]) or "-") for number in numbers]
            name = f"seed {one.seed}" if seeds else one.name
            rows.append(Row("one", None, name, _link(one, folder), _status(one), cells))
    return rows


def _settings(found: Comparison) -> Mapping[str, object]:
    """The settings that differ, as columns; what is not the most frequent value is bold."""
    keys = list(found.changed)
    columns = {key: [group.settings.get(key) for group in found.groups] for key in keys}
    usual = {key: max(values, key=values.count) for key, values in columns.items()}
    return {
        "columns": {key: _short(key, keys) for key in keys},
        "rows": [
            [Cell(columns[key][place] or "-", columns[key][place] != usual[key]) for key in keys]
            for place in range(len(found.groups))
        ],
        "copies": {key: same for key, same in found.changed.items() if same},
        "partial": "\n".join(f"{key}: {value}" for key, value in found.partial.items()),
    }


def _link(one: Member, folder: Path) -> str:
    """The address of a run's own page, empty where it has none."""
    target = one.run.folder / "report" / "index.html"
    if not target.is_file():
        return ""
    relative = Path(os.path.relpath(target, Path(os.path.realpath(folder)))).as_posix()
    return quote(os.fsencode(relative))


def _line(number: int) -> dict[str, str]:
    """Colours for light and dark ground, and dashes, of a configuration's line."""
    color, dashes = plots.run_style(number)
    dark, _ = plots.run_style(number, plots.DARK)
    return {"light": color, "dark": dark, "dashes": " ".join(f"{2 * length:g}" for length in dashes)}


def _learning(found: Comparison, media: Media) -> list[Plot]:
    drawn = []
    for column, caption in _PANELS.items():
        curves = [
            [one.run.metrics[column] for one in group.members if column in one.run.metrics] for group in found.groups
        ]
        if any(curves):
            drawn.append(draw_plot(partial(plots.runs_plot, curves, column), column, caption, media=media))
    return drawn


def _environment(members: Sequence[Member]) -> dict[str, object]:
    """What differs, by key: the runs by value; what is the same; the runs that recorded nothing."""
    same, different = environments(members)
    first = [f"{key} {same[key]}" for key in ("revision.commit", "device", "precision", "machine") if key in same]
    return {
        "different": {key: {value: _who(of) for value, of in names.items()} for key, names in different.items()},
        "same_first": ", ".join(first),
        "same": "".join(f"{key}: {value}\n" for key, value in same.items()),
        "unrecorded": _who([one.name for one in members if not one.run.environment]),
    }


def _who(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{len(names)} runs, as {names[0]}"
