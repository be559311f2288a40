"""The report page of a run: one folder, `index.html` and the files beside it, no network, no scripts.

It assembles what training and evaluation wrote (see `run.py`) and draws plots from their numbers. What is missing
is said to be missing.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2
from matplotlib.figure import Figure

from seqtrack_lit.analysis import plots
from seqtrack_lit.analysis.run import Run, read_run
from seqtrack_lit.data.video import VideoFrames
from seqtrack_lit.evaluation.report import SPEED, compare
from seqtrack_lit.evaluation.results import write_atomic
from seqtrack_lit.evaluation.scores import Scores
from seqtrack_lit.evaluation.table import Table
from seqtrack_lit.tracking.video import COLORS, TRUTH

_RELIANCE = """Template reliance is the overlap (IoU) of the box read out for a search image with its own template,
minus that with the template of another sample. Zero means that the model found "the thing near the centre" and never
looked at the template; only when the two lines part has it learned to track <em>this</em> object."""

_TOY = """<p><b>Such a run can show</b> that the whole path works: a box written as four tokens and read out one after
the other, learned from nothing in minutes, then used to follow objects through whole videos; and whether the model
looks at its template, which is what separates tracking from guessing. How far it got is in the numbers above.</p>
<p><b>It cannot show</b> how good SeqTrack is. The videos are generated: short, with smooth and rigid motion, which
flatters classical trackers, too. The network of the quickstart is some sixty times smaller than SeqTrack-B256 and
starts without pretraining, and its recipe departs from the paper's where so small a model needs it. None of these
numbers can be put beside the paper's tables.</p>"""

_ATTENTION = """Where the decoder looks in the search image while it reads out the box, token by token: the weights of
its last cross-attention, averaged over heads. Under each map: how likely each bin was for that token."""


def write_page(folder: Path, out: Path | None = None) -> Path:
    """Write the report of the run in `folder` to `out` (None: `<folder>/report`); returns the path of index.html.

    The folder `out` is made anew: it holds nothing that cannot be made again.

    Raises:
        FileNotFoundError: no run there.
        ValueError: a file of the run that cannot be read, or `out` holds something that is no report.
    """
    run = read_run(folder)
    page = out or folder / "report"
    if page.exists() and any(page.iterdir()) and not (page / "index.html").is_file():
        raise ValueError(f"{page} is not empty and holds no report; give another folder")
    shutil.rmtree(page, ignore_errors=True)
    page.mkdir(parents=True)
    title = str(folder.resolve().name)
    body = [
        f"<h1>{escape(title)}</h1>",
        f"<p class=quiet>{escape(_subtitle(run))}</p>",
        _tiles(run),
        _section("Scores", _scores(run, page)),
        _section("Learning", _learning(run, page)),
        _section("Tracked videos", _clips(run, page)),
        _section("Attention while the four tokens are read", _attention(run, page)),
        _section("What this shows and what it does not", _TOY) if _is_toy(run) else "",
        _section("What was run", _facts(run)),
    ]
    css = files(__package__).joinpath("page.css").read_text()
    write_atomic(
        page / "index.html",
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{css}</style>\n<main>\n" + "\n".join(body) + "\n</main>\n</html>\n",
    )
    return page / "index.html"


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>"


def _missing(what: str, how: str) -> str:
    return f"<p class=missing>{escape(what)} {escape(how)}</p>"


def _is_toy(run: Run) -> bool:
    return any(one.benchmark.startswith("generated") for one in run.scores)


def _subtitle(run: Run) -> str:
    """When, where, from which code; what run.json says of it."""
    revision = run.facts.get("revision")
    commit = str(revision.get("commit", ""))[:10] if isinstance(revision, Mapping) else ""
    known = [run.facts.get("started"), run.facts.get("machine"), f"revision {commit}" if commit else None]
    return " · ".join(str(fact) for fact in known if fact) or "A run of seqtrack-lit"


def _tiles(run: Run) -> str:
    """The few numbers to look at first."""
    tiles = []
    for one in _main(run.ours)[:1]:
        value = next(iter(one.values))
        tiles.append((f"{one.values[value]:.1f}", f"{value} of {one.tracker}, {one.sequences} videos"))
        rivals = [
            s for s in run.scores if (s.benchmark, s.convention) == (one.benchmark, one.convention) and s is not one
        ]
        for rival in sorted(rivals, key=lambda s: -s.values[value])[:3]:
            tiles.append((f"{rival.values[value]:.1f}", f"{value} of {rival.tracker}"))
        if one.fps is not None:
            tiles.append((f"{one.fps:.0f}", f"frames/s of {one.tracker}"))
    if "val/reliance" in run.metrics:
        tiles.append((f"{run.metrics['val/reliance'][1][-1]:.0f}", "template reliance, IoU points"))
    cells = [
        f'<div class="tile{" first" if i == 0 else ""}"><b>{escape(number)}</b>'
        f"<span class=quiet>{escape(text)}</span></div>"
        for i, (number, text) in enumerate(tiles)
    ]
    return f'<div class="tiles">{"".join(cells)}</div>' if cells else ""


def _main(scores: Sequence[Scores]) -> list[Scores]:
    """Scores by the first convention of each tracker and benchmark."""
    first: dict[tuple[str, str], Scores] = {}
    for one in scores:
        first.setdefault((one.tracker, one.benchmark), one)
    return list(first.values())


def _scores(run: Run, page: Path) -> str:
    if not run.scores:
        return _missing("No scores were found.", "seqtrack-evaluate writes them to results/.")
    parts = []
    for benchmark in dict.fromkeys(one.benchmark for one in run.scores):
        of = [one for one in run.scores if one.benchmark == benchmark]
        parts += [f"<p>{escape(_verdict(one, of))}</p>" for one in _main(run.ours) if one.benchmark == benchmark]
        parts.append(_table(compare(of, paper_rows="none"), {one.tracker for one in run.ours}))
        convention = of[0].convention
        same = [one for one in of if one.convention == convention]
        known = [kind for kind in plots.KINDS if all(kind in one.curves for one in same)][:2]
        figures = [_plot(page, f"{benchmark}-{kind}", partial(plots.curve_plot, same, kind)) for kind in known]
        if len(same[0].per_attribute) >= 3:
            figures.append(_plot(page, f"{benchmark}-attributes", partial(plots.attribute_radar, same)))
        parts.append(f'<div class="grid wide">{"".join(figures)}</div>')
    return "\n".join(parts)


def _verdict(ours: Scores, others: Sequence[Scores]) -> str:
    """Where our tracker stands among the others by its first score, in words."""
    value = next(iter(ours.values))
    rivals = [s for s in others if s.convention == ours.convention and s.tracker != ours.tracker]
    if not rivals:
        return f"{ours.tracker}: {value} {ours.values[value]:.1f} on {ours.sequences} videos; nothing beside it."
    ahead = [s.tracker for s in rivals if round(s.values[value], 1) > round(ours.values[value], 1)]
    behind = [s.tracker for s in rivals if round(s.values[value], 1) < round(ours.values[value], 1)]
    level = [s.tracker for s in rivals if s.tracker not in (*ahead, *behind)]
    places = [("above", behind), ("level with", level), ("below", ahead)]
    words = ", ".join(f"{place} {' and '.join(names)}" for place, names in places if names)
    return f"{ours.tracker} has {value} {ours.values[value]:.1f} on {ours.sequences} videos: {words}."


def _table(table: Table, ours: set[str]) -> str:
    """The table as HTML; the best of each column is bold."""
    heads = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    best = [
        max((cell for cell in column if isinstance(cell, float)), default=None) if head != SPEED else None
        for head, column in zip(table.columns, zip(*table.rows, strict=True), strict=True)
    ]
    rows = []
    for row in table.rows:
        cells = "".join(
            f"<td{' class=best' if isinstance(cell, float) and cell == top else ''}>"
            f"{escape('-' if cell is None else f'{cell:.1f}' if isinstance(cell, float) else str(cell))}</td>"
            for cell, top in zip(row, best, strict=True)
        )
        rows.append(f"<tr{' class=ours' if row[0] in ours else ''}>{cells}</tr>")
    notes = "".join(f"<p class=quiet>{escape(note)}</p>" for note in table.notes)
    return f"<div class=scroll><table><tr>{heads}</tr>{''.join(rows)}</table></div>{notes}"


def _plot(page: Path, name: str, draw: Callable[..., Figure], caption: str = "") -> str:
    """A figure in a light and a dark form; the browser takes the one that fits."""
    for suffix, theme in (("", plots.LIGHT), ("-dark", plots.DARK)):
        plots.save(draw(theme=theme), page / "plots" / f"{name}{suffix}.svg")
    dark = f'<source srcset="plots/{quote(name)}-dark.svg" media="(prefers-color-scheme: dark)">'
    image = (
        f'<picture>{dark}<img src="plots/{quote(name)}.svg" alt="{escape(caption or name)}" loading="lazy"></picture>'
    )
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _learning(run: Run, page: Path) -> str:
    panels = {
        "loss": ("train/loss_", "Cross-entropy of each token, in the order they are read."),
        "reliance": ("val/pair_iou", "One search image, one template: overlap of the box that is read out."),
        "tracked": ("val/a", "Whole held-out videos, tracked after each epoch."),
    }
    figures = []
    for name, (start, caption) in panels.items():
        chosen = {key: run.metrics[key] for key in run.metrics if key.startswith(start)}
        if chosen:
            figures.append(_plot(page, name, partial(plots.learning_plot, chosen), caption))
    if not figures:
        return _missing("No learning curves:", "there is no metrics.csv of a training in this folder.")
    text = f"<p>{_RELIANCE}</p>" if "val/pair_iou_other" in run.metrics else ""
    return f'<div class="grid">{"".join(figures)}</div>{text}{_pairs(run, page)}'


def _pairs(run: Run, page: Path) -> str:
    """The last picture of held-out pairs that training left."""
    pictures = sorted((run.folder / "pictures").glob("val_pairs_*.png"))
    if not pictures:
        return ""
    _copy(pictures[-1], page / "media" / "pairs.png")
    caption = "Held-out pairs at the end: templates above; below, the search image with the target and the box found."
    image = f'<img src="media/pairs.png" alt="{caption}" loading="lazy" class=pixels>'
    return f"<figure class=scroll>{image}<figcaption>{caption}</figcaption></figure>"


def _clips(run: Run, page: Path) -> str:
    cards = []
    for (tracker, benchmark), (folder, media) in run.media.items():
        for clip in media.get("clips", []):
            source = folder / clip["file"]
            if not source.is_file():
                cards.append(_missing(f"{source.name} is listed,", "but the file is gone."))
                continue
            stem = f"{tracker}-{benchmark}-{clip['kind']}"
            _copy(source, page / "media" / f"{stem}.mp4")
            _poster(source, page / "media" / f"{stem}.jpg")
            at = quote(f"media/{stem}")
            cards.append(
                f"<figure><h3>{escape(str(clip['kind']))}</h3>"
                f'<video controls loop muted playsinline preload="none" poster="{at}.jpg" src="{at}.mp4"></video>'
                f"<figcaption>{escape(tracker)} on {escape(str(clip['sequence']))}: "
                f"{escape(str(clip['value']))}</figcaption></figure>"
            )
    if not cards:
        return _missing("No clips were found.", "seqtrack-evaluate media=true writes them beside the results.")
    legend = f"<p class=quiet>{_swatch(COLORS[0])} tracked box with its confidence, {_swatch(TRUTH)} ground truth.</p>"
    return f'{legend}<div class="grid">{"".join(cards)}</div>'


def _swatch(color: tuple[int, int, int]) -> str:
    return f'<span class=swatch style="background:rgb{color}"></span>'


def _poster(video: Path, path: Path) -> None:
    """A frame at a third of the clip."""
    frames = VideoFrames(video)
    image = cv2.cvtColor(frames[len(frames) // 3], cv2.COLOR_RGB2BGR)
    write_atomic(path, cv2.imencode(".jpg", image)[1].tobytes())


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _attention(run: Run, page: Path) -> str:
    figures = []
    for (tracker, benchmark), (folder, media) in run.media.items():
        for picture in media.get("attention", []):
            source = folder / picture["file"]
            if source.is_file():
                name = f"media/{tracker}-{benchmark}-{source.name}"
                _copy(source, page / name)
                caption = f"<figcaption>{escape(str(picture.get('caption', '')))}</figcaption>"
                image = f'<img src="{quote(name)}" alt="attention" loading="lazy" class=strip>'
                figures.append(f"<figure><div class=scroll>{image}</div>{caption}</figure>")
    if not figures:
        return _missing("No pictures of attention were found.", "seqtrack-evaluate media=true writes them.")
    return f"<p>{_ATTENTION}</p>{''.join(figures)}"


def _facts(run: Run) -> str:
    """run.json as a table, the configuration below."""
    facts = _flat({key: value for key, value in run.facts.items() if key != "versions"})
    rows = "".join(f"<tr><td>{escape(key)}</td><td>{escape(value)}</td></tr>" for key, value in facts)
    table = (
        f'<div class=scroll><table class="facts">{rows}</table></div>'
        if rows
        else _missing("There is no run.json", "here.")
    )
    versions = "".join(f"{name} {number}\n" for name, number in dict(run.facts.get("versions") or {}).items())
    more = [("Package versions", versions), ("Configuration", run.config)]
    return table + "".join(
        f"<details><summary>{title}</summary><pre>{escape(text)}</pre></details>" for title, text in more if text
    )


def _flat(facts: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in facts.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{above}{key}.")
        elif value is not None:
            rows.append((f"{above}{key}", " ".join(map(str, value)) if isinstance(value, list) else str(value)))
    return rows
