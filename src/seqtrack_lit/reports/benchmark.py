"""The report page of trackers on a benchmark: scores, curves, attributes, and every sequence over time."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from seqtrack_lit.data.video.sequence import Video
from seqtrack_lit.evaluation.results import Result, read_result
from seqtrack_lit.evaluation.scores import Scores
from seqtrack_lit.evaluation.tables import Cell, Table, compare
from seqtrack_lit.reports.media import pick
from seqtrack_lit.reports.page import Media, draw_scores, fresh_folder, scores_table, write_document
from seqtrack_lit.reports.sequences import compared, course_of, lines_of, picture, sequences_part
from seqtrack_lit.tracking.video_io import write_clip

_DRAWN = 4  # trackers whose course is drawn
_NAMED = 4  # trackers that the title names


def write_benchmark(
    trackers: Mapping[str, Path], videos: Sequence[Video], scores: Sequence[Scores], out: Path, *, linked: bool = False
) -> Path:
    """Write the page to the folder `out`; returns the path of index.html.

    Args:
        trackers: folders of result files by name; the first one decides the order of the sequences.
        videos: the benchmark, with ground truth for every frame.
        scores: of these trackers by one convention, in the same order.
        out: the folder.
        linked: whether pictures and clips lie beside the page.

    Raises:
        ValueError: `out` holds something that is no page, or a result cannot be read.
    """
    fresh_folder(out)
    media, first = Media(out, linked=linked), scores[0]
    value, names = compared(scores)
    named = {video.name: video for video in videos}
    known = {name: named[name] for name in names}
    results = {name: {one: read_result(folder, name) for one, folder in trackers.items()} for name in known}
    courses = {
        one: {name: course_of(video, results[name][one]) for name, video in known.items()}
        for one in list(trackers)[:_DRAWN]
    }
    pictures = {}
    for name, video in known.items():
        drawn = picture(video, list(results[name].values()), courses[first.tracker][name]["frame"])
        pictures[name] = media.add(f"{name.replace('/', '_')}.jpg", drawn)
    return write_document(
        out,
        "benchmark.html",
        title=f"{first.benchmark}: {', '.join(trackers) if len(trackers) <= _NAMED else f'{len(trackers)} trackers'}",
        subtitle=f"{len(known)} sequences, {sum(map(len, known.values())):,} frames, convention {first.convention}",
        table=scores_table(compare(scores, paper_rows="seqtrack"), set(trackers)),
        plots=draw_scores(scores, media),
        lines=lines_of(len(trackers)),
        part=sequences_part(scores, courses, pictures),
        clips=_clips(known, {name: results[name][first.tracker] for name in known}, first, value, media),
    )


def sequences_table(scores: Sequence[Scores]) -> Table:
    """One value of several trackers for each sequence that all have, the worst of the first tracker first."""
    value, names = compared(scores)
    rows: list[tuple[Cell, ...]] = [(name, *(one.per_sequence[name][value] for one in scores)) for name in names]
    title = f"{scores[0].benchmark}, {value} by sequence (convention {scores[0].convention})"
    return Table(title, ("sequence", *(one.tracker for one in scores)), tuple(rows))


def _clips(
    videos: Mapping[str, Video], results: Mapping[str, Result], scores: Scores, value: str, media: Media
) -> list[dict[str, str]]:
    """Clips of the best, the median and the worst sequence of a tracker."""
    values = {name: scores.per_sequence[name][value] for name in videos}
    clips = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, name in pick(values).items():
            result, video = results[name], videos[name]
            path = write_clip(Path(folder) / f"{kind}.mp4", video, result.boxes, result.confidences, shrink=True)
            middle = min(len(video), len(result.boxes)) // 2
            poster = media.add(f"{kind}.jpg", picture(video, [result], middle))
            address = media.copy(path.name, path)
            clips.append(
                {"kind": kind, "name": name, "value": f"{values[name]:.1f}", "video": address, "poster": poster}
            )
    return clips
