"""The report page of a run: one folder, `index.html` and the files beside it, no network, no scripts.

It assembles what training and evaluation wrote (see `run.py`) and draws plots from their numbers. What is missing
is said to be missing.
"""

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path

import cv2

from seqtrack_lit.data.video.file import VideoFrames
from seqtrack_lit.evaluation.results import write_atomic
from seqtrack_lit.evaluation.scores import Scores
from seqtrack_lit.evaluation.tables import compare
from seqtrack_lit.files import inside
from seqtrack_lit.reports import plots
from seqtrack_lit.reports.page import details, figure, fresh_folder, missing, scores_table, section, write_document
from seqtrack_lit.runs.read import Run, flatten, read_run
from seqtrack_lit.tracking.video_io import COLORS, TRUTH

_LARGEST = 500_000_000  # bytes of a clip; one of a thousand frames has about 10 MB

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

    Raises:
        FileNotFoundError: no run there.
        ValueError: a file of the run that cannot be read, or `out` holds something that is no report.
    """
    run = read_run(folder)
    page = out or folder / "report"
    fresh_folder(page, theirs=out is None)
    title = str(folder.resolve().name)
    body = [
        f"<h1>{escape(title)}</h1>",
        f"<p class=quiet>{escape(_subtitle(run))}</p>",
        _tiles(run),
        section("Scores", _scores(run, page)),
        section("Learning", _learning(run, page)),
        section("Tracked videos", _clips(run, page)),
        section("Attention while the four tokens are read", _attention(run, page)),
        section("What this shows and what it does not", _TOY) if _is_toy(run) else "",
        section("What was run", _facts(run)),
    ]
    return write_document(page, title, body)


def _is_toy(run: Run) -> bool:
    return any(one.benchmark.startswith("generated") for one in run.scores)


def _subtitle(run: Run) -> str:
    """Where and from which code; what run.json says of it."""
    revision = run.environment.get("revision")
    commit = str(revision.get("commit", ""))[:10] if isinstance(revision, Mapping) else ""
    known = [run.environment.get("machine"), run.facts.get("device"), f"revision {commit}" if commit else None]
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
        return missing("No scores were found.", "seqtrack-evaluate writes them to results/.")
    parts = []
    for benchmark in dict.fromkeys(one.benchmark for one in run.scores):
        of = [one for one in run.scores if one.benchmark == benchmark]
        parts += [f"<p>{escape(_verdict(one, of))}</p>" for one in _main(run.ours) if one.benchmark == benchmark]
        parts.append(scores_table(compare(of, paper_rows="none"), {one.tracker for one in run.ours}))
        convention = of[0].convention
        same = [one for one in of if one.convention == convention]
        known = [kind for kind in plots.KINDS if all(kind in one.curves for one in same)][:2]
        figures = [figure(partial(plots.curve_plot, same, kind), f"{benchmark}-{kind}", folder=page) for kind in known]
        if len(same[0].per_attribute) >= 3:
            figures.append(figure(partial(plots.attribute_radar, same), f"{benchmark}-attributes", folder=page))
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
            figures.append(figure(partial(plots.learning_plot, chosen), name, caption, folder=page))
    if not figures:
        return missing("No learning curves:", "there is no metrics.csv of a training in this folder.")
    text = f"<p>{_RELIANCE}</p>" if "val/pair_iou_other" in run.metrics else ""
    return f'<div class="grid">{"".join(figures)}</div>{text}{_pairs(run, page)}'


def _pairs(run: Run, page: Path) -> str:
    """The last picture of held-out pairs that training left."""
    pictures = sorted((run.folder / "pictures").glob("val_pairs_*.png"))
    if not pictures:
        return ""
    last = inside(run.folder, f"pictures/{pictures[-1].name}", f"{run.folder}, picture of pairs")
    _copy(last, page / "media" / "pairs.png")
    caption = "Held-out pairs at the end: templates above; below, the search image with the target and the box found."
    image = f'<img src="media/pairs.png" alt="{caption}" loading="lazy" class=pixels>'
    return f"<figure class=scroll>{image}<figcaption>{caption}</figcaption></figure>"


def _clips(run: Run, page: Path) -> str:
    cards = []
    for (tracker, _), (folder, media) in run.media.items():
        for clip in media.get("clips", []):
            source = _listed(folder, clip["file"])
            if source is None:
                cards.append(missing(f"{clip['file']} is listed,", "but the file is gone."))
                continue
            at = f"media/clip-{len(cards) + 1}"
            _copy(source, page / f"{at}.mp4")
            _poster(source, page / f"{at}.jpg")
            cards.append(
                f"<figure><h3>{escape(clip['kind'])}</h3>"
                f'<video controls loop muted playsinline preload="none" poster="{at}.jpg" src="{at}.mp4"></video>'
                f"<figcaption>{escape(tracker)} on {escape(clip['sequence'])}: "
                f"{escape(str(clip['value']))}</figcaption></figure>"
            )
    if not cards:
        return missing("No clips were found.", "seqtrack-evaluate media=true writes them beside the results.")
    legend = f"<p class=quiet>{_swatch(COLORS[0])} tracked box with its confidence, {_swatch(TRUTH)} ground truth.</p>"
    return f'{legend}<div class="grid">{"".join(cards)}</div>'


def _swatch(color: tuple[int, int, int]) -> str:
    return f'<span class=swatch style="background:rgb{color}"></span>'


def _poster(video: Path, path: Path) -> None:
    """A frame at a third of the clip."""
    frames = VideoFrames(video)
    image = cv2.cvtColor(frames[len(frames) // 3], cv2.COLOR_RGB2BGR)
    write_atomic(path, cv2.imencode(".jpg", image)[1].tobytes())


def _listed(folder: Path, name: str) -> Path | None:
    """A file that media.json names, None where it is gone; raises ValueError where it lies elsewhere, see `inside`."""
    try:
        return inside(folder, name, f"{folder / 'media.json'}: file")
    except FileNotFoundError:
        return None


def _copy(source: Path, target: Path) -> None:
    """Copy a clip or a picture.

    Raises:
        ValueError: it is larger than such files are.
    """
    if source.stat().st_size > _LARGEST:
        raise ValueError(f"{source} is larger than {_LARGEST / 1e6:g} MB; that is no clip of a report, evaluate again")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _attention(run: Run, page: Path) -> str:
    figures: list[str] = []
    for folder, media in run.media.values():
        for picture in media.get("attention", []):
            source = _listed(folder, picture["file"])
            if source is not None:
                name = f"media/attention-{len(figures) + 1}.png"
                _copy(source, page / name)
                caption = f"<figcaption>{escape(picture.get('caption', ''))}</figcaption>"
                image = f'<img src="{name}" alt="attention" loading="lazy" class=strip>'
                figures.append(f"<figure><div class=scroll>{image}</div>{caption}</figure>")
    if not figures:
        return missing("No pictures of attention were found.", "seqtrack-evaluate media=true writes them.")
    return f"<p>{_ATTENTION}</p>{''.join(figures)}"


def _facts(run: Run) -> str:
    """run.json as a table, the configuration below."""
    facts = {key: value for key, value in flatten(run.facts).items() if value not in (None, {})}
    versions = {key: facts.pop(key) for key in list(facts) if key.startswith("environment.versions.")}
    rows = "".join(
        f"<tr><td>{escape(key.removeprefix('environment.'))}</td>"
        f"<td>{escape(' '.join(map(str, value)) if isinstance(value, list) else str(value))}</td></tr>"
        for key, value in facts.items()
    )
    table = (
        f'<div class=scroll><table class="facts">{rows}</table></div>'
        if rows
        else missing("There is no run.json", "here.")
    )
    names = "".join(f"{key.removeprefix('environment.versions.')} {number}\n" for key, number in versions.items())
    more = [("Package versions", names), ("Configuration", run.config)]
    return table + "".join(details(title, f"<pre>{escape(text)}</pre>") for title, text in more if text)
