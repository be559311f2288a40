"""The report page of a run: one file, or with the pictures and clips beside it; no network.

It shows what training and evaluation wrote (see `runs/read.py`) and plots of their numbers. What is missing is
named as missing.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from seqtrack_lit.data.video.file import VideoFrames
from seqtrack_lit.evaluation.scores import Scores
from seqtrack_lit.evaluation.tables import compare
from seqtrack_lit.files import flatten, inside
from seqtrack_lit.pictures import COLORS, TRUTH, encoded
from seqtrack_lit.reports import plots
from seqtrack_lit.reports.page import Media, Plot, draw_plot, draw_scores, fresh_folder, scores_table, write_document
from seqtrack_lit.reports.sequences import lines_of, sequences_part
from seqtrack_lit.runs.read import COURSES, Run, read_run

# Plots of metrics.csv: beginning of the columns' names, and the caption.
_LEARNING = {
    "loss": ("train/loss_", "Cross-entropy of each token, in the order they are predicted."),
    "reliance": ("val/pair_iou", "One search image, one template: overlap of the predicted box."),
    "tracked": ("val/a", "Whole held-out videos, tracked while training."),
}
_THUMBNAIL = 300_000  # bytes of a sequence's picture


def write_page(folder: Path, out: Path | None = None, *, linked: bool = False) -> Path:
    """Write the report of the run in `folder` to `out` (None: `<folder>/report`); returns the path of index.html.

    With `linked`, pictures and clips lie in its folder media/, else inside the page.

    Raises:
        FileNotFoundError: no run there.
        ValueError: a file of the run that cannot be read, or `out` holds something that is no report.
    """
    run = read_run(folder)
    page = out or folder / "report"
    fresh_folder(page, inside_run=out is None)
    media = Media(page, linked=linked)
    metadata = {key: value for key, value in flatten(run.metadata).items() if value is not None}
    start = "environment.versions."
    versions = {key.removeprefix(start): metadata.pop(key) for key in list(metadata) if key.startswith(start)}
    more = [("Package versions", "".join(f"{name} {number}\n" for name, number in versions.items()))]
    return write_document(
        page,
        "run.html",
        title=folder.resolve().name,
        subtitle=_subtitle(run),
        tiles=_tiles(run),
        benchmarks=_benchmarks(run, media),
        sequences_of=_sequences(run, media),
        lines=lines_of(len(run.scores)),
        learning=_learning(run, media),
        reliance="val/pair_iou_other" in run.metrics,
        pairs=_pairs(run, media),
        clips=_clips(run, media),
        colors={"tracked": COLORS[0], "truth": TRUTH},
        attention=_attention(run, media),
        generated=any(one.benchmark.startswith("generated") for one in run.scores),
        metadata={
            key.removeprefix("environment."): " ".join(map(str, value)) if isinstance(value, list) else value
            for key, value in metadata.items()
        },
        more=[(title, text) for title, text in (*more, ("Configuration", run.config)) if text],
    )


def _subtitle(run: Run) -> str:
    """Machine, device and revision, as far as run.json has them."""
    revision = run.environment.get("revision")
    commit = str(revision.get("commit", ""))[:10] if isinstance(revision, Mapping) else ""
    known = [run.environment.get("machine"), run.metadata.get("device"), f"revision {commit}" if commit else None]
    return " · ".join(str(fact) for fact in known if fact) or "A run of seqtrack-lit"


def _tiles(run: Run) -> list[tuple[str, str]]:
    """The main numbers, each with its text."""
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
    return tiles


def _main(scores: Sequence[Scores]) -> list[Scores]:
    """Scores by the first convention of each tracker and benchmark."""
    first: dict[tuple[str, str], Scores] = {}
    for one in scores:
        first.setdefault((one.tracker, one.benchmark), one)
    return list(first.values())


def _benchmarks(run: Run, media: Media) -> list[dict[str, Any]]:
    """Of each benchmark: a line for each tracker, the table, the plots."""
    parts = []
    for benchmark in dict.fromkeys(one.benchmark for one in run.scores):
        of = [one for one in run.scores if one.benchmark == benchmark]
        same = [one for one in of if one.convention == of[0].convention]
        parts.append(
            {
                "verdicts": [_verdict(one, of) for one in _main(run.ours) if one.benchmark == benchmark],
                "table": scores_table(compare(of, paper_rows="none"), {one.tracker for one in run.ours}),
                "plots": draw_scores(same, media, most=2),
            }
        )
    return parts


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


def _sequences(run: Run, media: Media) -> list[dict[str, Any]]:
    """Of each benchmark: every sequence over time, as far as evaluation wrote it."""
    parts: list[dict[str, Any]] = []
    for benchmark in dict.fromkeys(one.benchmark for one in run.scores if one.per_sequence):
        of = [one for one in _main(run.scores) if one.benchmark == benchmark and one.per_sequence]
        same = [one for one in of if one.convention == of[0].convention]
        same.sort(key=lambda one: (one.tracker, benchmark) not in run.courses)  # who is drawn comes first
        known = {one.tracker: run.courses.get((one.tracker, benchmark)) for one in same}
        drawn = {tracker: of for tracker, of in known.items() if of is not None}
        courses = {tracker: {one["sequence"]: one for one in listed} for tracker, (_, listed) in drawn.items()}
        pictures: dict[str, str] = {}
        for folder, listed in list(drawn.values())[:1]:
            for number, one in enumerate(listed, 1):
                if (source := _listed(folder, one["file"], COURSES)) is not None:
                    name = f"sequence-{len(parts) + 1}-{number}.jpg"
                    pictures[one["sequence"]] = media.copy(name, source, largest=_THUMBNAIL)
        parts.append({"benchmark": benchmark, **sequences_part(same, courses, pictures)})
    return parts


def _learning(run: Run, media: Media) -> list[Plot]:
    drawn = []
    for name, (start, caption) in _LEARNING.items():
        chosen = {key: run.metrics[key] for key in run.metrics if key.startswith(start)}
        if chosen:
            drawn.append(draw_plot(partial(plots.learning_plot, chosen), name, caption, media=media))
    return drawn


def _pairs(run: Run, media: Media) -> str:
    """The address of the last picture of held-out pairs, copied to the page; empty where there is none."""
    pictures = sorted((run.folder / "pictures").glob("val_pairs_*.png"))
    if not pictures:
        return ""
    last = inside(run.folder, f"pictures/{pictures[-1].name}", f"{run.folder}, picture of pairs")
    return media.copy("pairs.png", last)


def _clips(run: Run, media: Media) -> list[dict[str, object]]:
    """The clips of media.json, copied to the page; the addresses are empty where one is gone."""
    clips: list[dict[str, object]] = []
    for (tracker, _), (folder, listed) in run.media.items():
        for clip in listed.get("clips", []):
            source, name = _listed(folder, clip["file"]), f"clip-{len(clips) + 1}"
            video = poster = ""
            if source is not None:
                frames = VideoFrames(source)
                poster = media.add(f"{name}.jpg", encoded(frames[len(frames) // 3], ".jpg"))
                video = media.copy(f"{name}.mp4", source)
            clips.append({**clip, "tracker": tracker, "video": video, "poster": poster})
    return clips


def _attention(run: Run, media: Media) -> list[dict[str, str]]:
    """The pictures of attention of media.json, copied to the page."""
    pictures: list[dict[str, str]] = []
    for folder, listed in run.media.values():
        for picture in listed.get("attention", []):
            source = _listed(folder, picture["file"])
            if source is not None:
                at = media.copy(f"attention-{len(pictures) + 1}.png", source)
                pictures.append({"at": at, "caption": picture.get("caption", "")})
    return pictures


def _listed(folder: Path, name: str, listed: str = "media.json") -> Path | None:
    """A file that `listed` names; None where it is gone; raises ValueError where it lies elsewhere, see `inside`."""
    try:
        return inside(folder, name, f"{folder / listed}: file")
    except FileNotFoundError:
        return None
