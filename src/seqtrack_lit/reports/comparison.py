"""The page that compares runs: what differs in them, their curves and scores, and what was around them.

Everything comes from the files that training and evaluation left in the runs' folders; see `runs.py`.
"""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from pathlib import Path
from statistics import mean, stdev
from urllib.parse import quote

import numpy as np

from seqtrack_lit.evaluation.scores import Scores
from seqtrack_lit.evaluation.table import Cell, Table
from seqtrack_lit.evaluation.tables import compare
from seqtrack_lit.reports import plots
from seqtrack_lit.reports.page import (
    details,
    figure,
    fresh_folder,
    missing,
    rows_table,
    scores_table,
    section,
    write_document,
)
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
    minutes = round(seconds / 60)
    return (
        f"{seconds:.0f} s"
        if seconds < 60
        else f"{minutes // 60}:{minutes % 60:02d} h"
        if minutes >= 60
        else f"{minutes} min"
    )


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


def write_comparison(found: Comparison, out: Path | None = None) -> Path:
    """Write the page to the folder `out` (None: `<common folder>/comparison`); gives back the path of index.html.

    Raises:
        ValueError: `out` holds something that is no page.
    """
    folder = out or found.folder / PAGE
    fresh_folder(folder, theirs=out is None)
    runs, kinds = len(found.members), len(found.groups)
    title = f"{found.folder.name}: {_counted(runs, 'run')} of {_counted(kinds, 'configuration')}"
    alerts = [f"<p class=alert>{escape(text)}</p>" for text in warnings(found.members)]
    body = [
        f"<h1>{escape(title)}</h1>",
        *alerts,
        section("Runs", _runs(found, folder)),
        section("What differs in the settings", _settings(found)),
        section("Learning", _learning(found)),
        section("Scores", _scores(found)),
        section("Environment", _environment(found.members)),
        section("Not compared", _problems(found)) if found.problems else "",
    ]
    return write_document(folder, title, body, style=_style(len(found.groups)))


def summary(found: Comparison) -> Table:
    """The runs by configuration, for the terminal."""
    wanted = ("best val/auc", "val/reliance", "val/loss", "time")
    numbers = [number for number in _known(found.members) if number.head in wanted]
    rows: list[tuple[Cell, ...]] = [
        (group.label, _state(group), *(_cell(number, group.counted) for number in numbers)) for group in found.groups
    ]
    title = f"{_counted(len(found.members), 'run')} of {_counted(len(found.groups), 'configuration')}"
    return Table(title, ("run", "status", *(number.head for number in numbers)), tuple(rows), tuple(_notes(found)))


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


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


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
    total = one.run.facts.get("budget")
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


def _runs(found: Comparison, folder: Path) -> str:
    """A row for each configuration, below it a row for each of its runs where there are several."""
    numbers = _known(found.members)
    means = [[_mean(number, group.counted) for group in found.groups] for number in numbers]
    tops = [
        number.best((value for value in of if value is not None), default=None) if number.best and len(of) > 1 else None
        for number, of in zip(numbers, means, strict=True)
    ]
    rows: list[tuple[str, list[str]]] = []
    for place, group in enumerate(found.groups):
        cells = [escape(_cell(number, group.counted) or "-") for number in numbers]
        cells = [
            f"<td class=best>{cell}</td>" if top is not None and of[place] == top else cell
            for cell, of, top in zip(cells, means, tops, strict=True)
        ]
        several = len(group.members) > 1
        name = escape(group.label) if several else _link(group.members[0], folder)
        rows.append(("ours" if several else "", [f"{_sample(place)} {name}", escape(_state(group)), *cells]))
        seeds = len({str(one.seed) for one in group.members}) == len(group.members)
        for one in group.members if several else ():
            cells = [escape(_cell(number, [one]) or "-") for number in numbers]
            link = _link(one, folder, f"seed {one.seed}" if seeds else None)
            rows.append(("one", [link, escape(_status(one)), *cells]))
    notes = "".join(f"<p class=quiet>{escape(note)}</p>" for note in _notes(found))
    heads = ["run", "status", *(escape(number.head) for number in numbers)]
    return f"<div class=pinned>{rows_table(heads, rows)}</div>{notes}"


def _settings(found: Comparison) -> str:
    """The settings that differ, as columns; what is not the usual value is bold."""
    keys = list(found.changed)
    usual = {key: _most([group.settings.get(key) for group in found.groups]) for key in keys}
    rows = []
    for place, group in enumerate(found.groups):
        values = [(group.settings.get(key), usual[key]) for key in keys]
        cells = [
            f"<td class=quiet>{escape(value or '-')}</td>"
            if value == most
            else f"<td><b>{escape(value or '-')}</b></td>"
            for value, most in values
        ]
        rows.append(("", [f"{_sample(place)} {escape(group.label)}", *cells]))
    short = [f'<th title="{escape(key)}">{escape(_short(key, keys))}</th>' for key in keys]
    parts = [f"<div class=pinned>{rows_table(['configuration', *short], rows)}</div>"] if keys else []
    parts += [
        f"<p class=quiet>{escape(key)} stands for {escape(', '.join(same))}, too.</p>"
        for key, same in found.changed.items()
        if same
    ]
    if not keys and not found.partial:
        parts.append("<p>Nothing: the runs differ in the seed at most.</p>")
    listed = "\n".join(f"{key}: {value}" for key, value in found.partial.items())
    if listed:
        parts.append(details("Settings that only some of the configurations have", f"<pre>{escape(listed)}</pre>"))
    return "".join(parts)


def _most(values: Sequence[str | None]) -> str | None:
    return max(values, key=values.count)


def _link(one: Member, folder: Path, text: str | None = None) -> str:
    """The name of a run, linked with its own page if it has one."""
    target = one.run.folder / "report" / "index.html"
    if not target.is_file():
        return escape(text or one.name)
    relative = Path(os.path.relpath(target, Path(os.path.realpath(folder)))).as_posix()
    return f'<a href="{quote(os.fsencode(relative))}">{escape(text or one.name)}</a>'


def _style(groups: int) -> str:
    """The lines' colours for light and dark ground."""
    light, dark = (
        "".join(f"--line{i}: {plots.run_style(i, theme)[0]}; " for i in range(groups))
        for theme in (plots.LIGHT, plots.DARK)
    )
    return (
        f"main {{ max-width: 80rem; }}\n:root {{ {light}}}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark}}} }}"
    )


def _sample(number: int) -> str:
    """A short piece of a configuration's line."""
    dashes = " ".join(f"{2 * length:g}" for length in plots.run_style(number)[1])
    return (
        f'<svg class=sample viewBox="0 0 26 8" aria-hidden="true"><path d="M0 4H26" stroke="var(--line{number})" '
        f'stroke-width="2.5" stroke-dasharray="{dashes}"></path></svg>'
    )


def _learning(found: Comparison) -> str:
    figures = []
    for column, caption in _PANELS.items():
        curves = [
            [one.run.metrics[column] for one in group.members if column in one.run.metrics] for group in found.groups
        ]
        if any(curves):
            figures.append(figure(partial(plots.runs_plot, curves, column), column, caption))
    if not figures:
        return missing("No learning curves:", "there is no metrics.csv of a training in these folders.")
    names = "".join(f"<li>{_sample(i)} {escape(group.label)}</li>" for i, group in enumerate(found.groups))
    thin = " Strong lines are means, thin ones the single runs." if len(found.members) > len(found.groups) else ""
    return f'<ul class=legend>{names}</ul><p class=quiet>{thin}</p><div class="grid wide">{"".join(figures)}</div>'


def _scores(found: Comparison) -> str:
    table = scores_of(found)
    if table is None:
        return missing("No scores were found.", "seqtrack-evaluate run=FOLDER writes them to <run>/results/.")
    return scores_table(table, set())


def _environment(members: Sequence[Member]) -> str:
    """What differs as a table, a row for each key; the rest once."""
    same, different = environments(members)
    if not same and not different:
        return missing("Nothing is known:", "the runs have no run.json.")
    rows = []
    for key, names in different.items():
        values = [f"{escape(value)} <span class=quiet>({escape(_who(of))})</span>" for value, of in names.items()]
        rows.append(("", [escape(key), "<br>".join(values)]))
    parts = [f"<div class=facts>{rows_table(['differs', 'value (runs)'], rows)}</div>"] if rows else []
    if same:
        first = [f"{key} {same[key]}" for key in ("revision.commit", "device", "precision", "machine") if key in same]
        where = "all runs" if len(members) > 1 else "this run"
        parts.append(f"<p>The same in {where}: {escape(', '.join(first))}.</p>" if first else "")
        lines = "".join(f"{key}: {value}\n" for key, value in same.items())
        parts.append(details("Everything that is the same", f"<pre>{escape(lines)}</pre>"))
    lacking = [one.name for one in members if not one.run.environment]
    if lacking:
        parts.append(f"<p class=quiet>Without a record of their environment: {escape(_who(lacking))}.</p>")
    return "".join(parts)


def _who(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{len(names)} runs, as {names[0]}"


def _problems(found: Comparison) -> str:
    rows = [("", [escape(name), escape(reason)]) for name, reason in found.problems]
    return f"<div class=facts>{rows_table(['folder', 'why'], rows)}</div>"
