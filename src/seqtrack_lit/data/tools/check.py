"""Whether a data set is whole: annotations in seconds, every image on request; each problem with its remedy."""

import hashlib
import os
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from seqtrack_lit.boxes import misread
from seqtrack_lit.checks import same_files
from seqtrack_lit.data.sets.layout import Finding, Problems, expected_frames, images_in
from seqtrack_lit.data.video.file import VideoFrames
from seqtrack_lit.data.video.frames import ImageFiles, NumberedFrames
from seqtrack_lit.data.video.index import SequenceIndex
from seqtrack_lit.data.video.sequence import Frames, FramesPart
from seqtrack_lit.process import end_with_parent

# kind -> (what it is, what to do). Those in `NOTES` are known of published data, where nothing can be mended and the
# scoring convention says what they count; in one's own data they are problems like the others.
REMEDIES: dict[str, tuple[str, str]] = {
    "missing": ("files or sequences that are not there", "unpack or download again; docs/datasets.md shows the layout"),
    "annotation": ("annotation that cannot be read or does not fit the frames", "unpack the annotation again"),
    "unreadable": ("images that are empty, cut off or damaged", "unpack or download these files again"),
    "lost": ("video files that are cut short or damaged", "take the original file, or cut it anew at a key frame"),
    "frames": ("more or fewer frames than the publisher counts", "the video is incomplete or altered: unpack it again"),
    "duplicate": ("sequences that occur twice", "remove one of them"),
    "names": ("sequences whose result files would be one, so that they cannot be evaluated", "rename one of the two"),
    "duplicate_boxes": ("sequences with the same boxes as another", "look whether one is a copy of the other"),
    "extra_frames": (
        "videos with more images than boxes",
        "the last images are not used; if a row is lost, unpack again",
    ),
    "zero": ("boxes without width or height", "write 0,0,0,0 or a flag where the target is absent"),
    "nan": ("boxes that are not a number", "write 0,0,0,0 where the target is absent"),
    "negative": ("boxes of negative size", "write x,y,w,h with the top-left corner, not two corners"),
    "fractions": ("boxes in fractions of the picture", "multiply by its width and height: x,y,w,h are pixels"),
    "corners": (
        "boxes that seem to be two corners, not x,y,w,h",
        "write x,y,w,h: x2 - x1 and y2 - y1 instead of x2 and y2",
    ),
    "huge": ("boxes far larger than their picture", "write x,y,w,h in pixels of the picture as it is, not resized"),
    "outside": ("boxes wholly outside of their image", "check that boxes and frames belong together"),
    "resolution": (
        "images of another size than their annotation says",
        "take the publisher's images, not resized ones",
    ),
    "size": ("videos whose frames change size", "boxes are in pixels of their own frame: check that they are"),
}
NOTES = (
    "names", "duplicate_boxes", "extra_frames", "zero", "nan", "negative", "outside", "size", "fractions", "corners",
    "huge",
)  # fmt: skip

_SHARED_FOLDERS = ("uav123", "otb100")  # several sequences are cut out of one folder, extra images are normal
_FEWEST_EQUAL_ROWS = 10  # equal boxes in fewer rows may be chance
_AT_RANDOM = 5  # frames of a video file that are read again, out of order

Open = Callable[..., SequenceIndex]
Step = Callable[[int, int], None]


@dataclass(frozen=True)
class Report:
    """What a check found.

    Args:
        name: what was checked.
        root: where it lies.
        sequences, frames: found.
        expected_sequences, expected_frames: as the publisher counts; 0 where unknown.
        findings: all of them, notes included.
        strict: whether notes count as problems (one's own data).
    """

    name: str
    root: str
    sequences: int
    frames: int
    expected_sequences: int
    expected_frames: int
    findings: tuple[Finding, ...]
    strict: bool

    @property
    def problems(self) -> int:
        """Number of findings that are not mere notes."""
        return sum(self.strict or finding.kind not in NOTES for finding in self.findings)

    def text(self) -> str:
        """Counts, then each kind of finding with its first example and its remedy, problems first."""

        def of(found: int, expected: int) -> str:
            return f"{found:,} of {expected:,}" if expected else f"{found:,}"

        sequences, frames = of(self.sequences, self.expected_sequences), of(self.frames, self.expected_frames)
        lines = [f"{self.name} in {self.root}: {sequences} sequences, {frames} frames"]
        kinds = [kind for kind in REMEDIES if any(finding.kind == kind for finding in self.findings)]
        for kind in sorted(kinds, key=NOTES.__contains__):
            found = [finding for finding in self.findings if finding.kind == kind]
            what, remedy = REMEDIES[kind]
            if kind in NOTES and not self.strict:
                remedy = "none needed: known of published data, the scoring convention says what it counts"
            lines += [
                f"{'note' if kind in NOTES and not self.strict else 'PROBLEM'}: {what}: {len(found):,}",
                f"  first:  {found[0].sequence}: {found[0].text}",
                f"  remedy: {remedy}",
            ]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        counts = {key: getattr(self, key) for key in ("sequences", "frames", "expected_sequences", "expected_frames")}
        findings = [finding._asdict() for finding in self.findings]
        return {"name": self.name, "root": self.root, **counts, "problems": self.problems, "findings": findings}


def check(
    name: str,
    open_index: Open,
    *,
    count: int = 0,
    fast: bool = False,
    every: int = 1,
    workers: int | None = None,
    strict: bool = False,
    step: Step = lambda done, total: None,
) -> Report:
    """Check a data set.

    Args:
        name: for the report.
        open_index: a reader with its arguments; called with `problems=`.
        count: sequences the publisher counts, where no list of names is kept.
        fast: look at annotations only, not at images.
        every: look at every so many frames; 1 is all.
        workers: processes that read images; None: one a processor.
        strict: notes are problems.
        step: called with frames done and frames in all.

    Raises:
        FileNotFoundError: the root is not there.
    """
    problems = Problems()
    try:
        index = open_index(problems=problems)
    except ValueError as error:
        problems.add("annotation", name, str(error))
        return Report(name, "", 0, 0, problems.count, 0, tuple(problems.findings), strict)
    if count:
        problems.count = count
        if len(index) < count and not problems.findings:
            problems.add("missing", name, f"{len(index)} of {count} sequences are there")
    known = expected_frames(index.dataset)
    for i, found in enumerate(index.lengths.tolist() if known else ()):
        if found != known[index.name(i)]:
            problems.add("frames", index.name(i), f"{found} frames, the publisher counts {known[index.name(i)]}")
    problems.findings += _boxes(index, strict)
    if not index.repeats_image:
        for i in range(len(index)):  # as far as annotations alone show; without a size the first frame is compared
            problems.findings += _misread(index.name(i), index.boxes(i), *index.columns["resolution"][i].tolist())
        problems.findings += _duplicate_boxes(index)
        for other, name in same_files(index.names):
            problems.add("names", name, f"a result file {name}.txt could belong to {other}, too")
    if not fast:
        for findings in _images(index, every, workers, step):
            problems.findings += findings
    frames, wanted = int(index.lengths.sum()), sum(known[item] for item in problems.expected if known)
    return Report(name, str(index.root), len(index), frames, problems.count, wanted, tuple(problems.findings), strict)


def _boxes(index: SequenceIndex, strict: bool) -> Iterator[Finding]:
    """Boxes that are zero, NaN, negative, or outside of a known resolution: one finding a video and kind.

    Strict: only where the target is marked visible; in own data zeros mark it absent.
    """
    boxes, rows = index.columns["boxes"], index.columns["rows"]
    counted = index.columns["visible"] | (not strict)
    nan = np.isnan(boxes).any(1)
    negative = ~nan & (boxes[:, 2:] < 0).any(1)
    zero = ~nan & ~negative & (boxes[:, 2:] == 0).any(1)
    size = np.repeat(index.columns["resolution"], np.diff(rows), axis=0)
    out = (size[:, 0] > 0) & ~(nan | negative | zero) & _outside(boxes, size)
    for kind, mask in (("nan", nan), ("negative", negative), ("zero", zero), ("outside", out)):
        places = np.flatnonzero(mask & counted)
        videos, first, counts = np.unique(
            np.searchsorted(rows, places, side="right") - 1, return_index=True, return_counts=True
        )
        for video, place, number in zip(videos.tolist(), places[first].tolist(), counts.tolist(), strict=True):
            yield Finding(kind, index.name(video), _row(boxes[place], place - int(rows[video]), number))


def _misread(name: str, boxes: Float64[np.ndarray, "rows 4"], width: int, height: int) -> list[Finding]:
    """Boxes that look like something else than x,y,w,h in pixels."""
    found = misread(boxes, width, height)
    of = f" in a picture of {width} x {height}" if width else ""
    return [Finding(found[0], name, _row(boxes[found[1]], found[1], 1) + of)] if found else []


def _row(box: Float[np.ndarray, "4"], frame: int, number: int) -> str:
    more = f", {number} such frames" if number > 1 else ""
    return f"frame {frame + 1}: {','.join(f'{value:g}' for value in box)}{more}"


def _outside(
    boxes_xywh: Float[np.ndarray, "rows 4"], size: Int64[np.ndarray, "rows 2"] | Any
) -> Bool[np.ndarray, "rows"]:
    """Boxes that share nothing with an image of this width and height; they have no 1-pixel shift to fear."""
    low, high = boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]
    return np.asarray((low >= size).any(1) | (high <= 0).any(1), np.bool_)


def _duplicate_boxes(index: SequenceIndex) -> Iterator[Finding]:
    seen: dict[bytes, str] = {}
    for i in range(len(index)):
        boxes = index.boxes(i)
        if len(boxes) >= _FEWEST_EQUAL_ROWS:
            other = seen.setdefault(hashlib.sha256(boxes.tobytes()).digest(), index.name(i))
            if other != index.name(i):
                yield Finding("duplicate_boxes", index.name(i), f"the boxes of {other}")


def _images(index: SequenceIndex, every: int, workers: int | None, step: Step) -> Iterator[list[Finding]]:
    """The findings of one video after the other, read by several processes."""
    chosen = np.arange(len(index))
    if index.repeats_image:  # many boxes, one image
        _, chosen = np.unique(index.columns["first"], return_index=True)
    lengths = index.lengths[chosen]
    total, done = int(lengths.sum()), 0
    processes = workers if workers is not None else os.cpu_count() or 1
    with ProcessPoolExecutor(max(processes, 1), initializer=_start, initargs=(index,)) as pool:
        try:
            for length, findings in zip(
                lengths.tolist(), pool.map(_one_video, chosen.tolist(), repeat(every), chunksize=1), strict=True
            ):
                done += length
                step(done, total)
                yield findings
        except BaseException:  # Ctrl-C or SIGTERM: do not wait for the videos in hand
            for process in list(pool._processes.values()):
                process.terminate()
            raise


_shared: dict[str, SequenceIndex] = {}  # of a worker process: the index, sent once


def _start(index: SequenceIndex) -> None:
    end_with_parent()
    cv2.setNumThreads(0)
    _shared["index"] = index


def _one_video(video: int, every: int) -> list[Finding]:
    """Read the frames of one video and compare them with each other and with the boxes."""
    index = _shared["index"]
    name, boxes, found = index.name(video), index.boxes(video), list[Finding]()
    try:
        frames = index.frames(video)
    except ValueError as error:
        return [Finding("unreadable", name, str(error))]
    width, height = index.columns["resolution"][video].tolist()  # as the annotation says; 0: unknown
    known = width, height
    size, outside, absent = None, list[int](), list[str]()
    again: dict[int, int | None] = {}  # frames of a video file that are read again, in a random order
    if isinstance(frames, FramesPart) and isinstance(frames.whole, VideoFrames):
        drawn = np.random.default_rng(video).permutation(np.arange(0, len(frames), every))[:_AT_RANDOM]
        again = dict.fromkeys(drawn.tolist())  # no sum is known yet
    for t in range(0, len(frames), every):
        try:
            image = frames[t]
            height, width = image.shape[:2]
            if t in again:
                again[t] = zlib.crc32(image.tobytes())
        except ValueError as error:
            path = frames.path(t) if isinstance(frames, ImageFiles) else ""
            if path and not Path(path).exists():
                absent.append(path)
            else:
                found.append(Finding("unreadable", name, str(error)))
            continue
        if size is None:
            size = width, height
            if all(known) and size != known:
                said = f"frame {t + 1} is {width} x {height}, the annotation says {known[0]} x {known[1]}"
                found.append(Finding("resolution", name, said))
            if not all(known):
                found += [item for item in _misread(name, boxes, *size) if item.kind != "fractions"]  # found before
        if (width, height) != size and not any(finding.kind == "size" for finding in found):
            sizes = f"{size[0]} x {size[1]}, from frame {t + 1} on {width} x {height}"
            found.append(Finding("size", name, sizes))
        box = boxes[t : t + 1]
        if len(box) and (box[:, 2:] > 0).all() and _outside(box, np.array([[width, height]]))[0]:
            outside.append(t)
    if absent:
        found.append(Finding("missing", name, f"no {absent[0]}, {len(absent)} of {len(frames)} frames"))
    if outside and not all(known):
        found.append(Finding("outside", name, _row(boxes[outside[0]], outside[0], len(outside))))
    found += _read_again(frames, again, name)
    if isinstance(frames, NumberedFrames) and index.dataset not in _SHARED_FOLDERS and not index.repeats_image:
        with suppress(FileNotFoundError, ValueError):  # a finding already, frame by frame
            images = len(images_in(frames.folder))
            if images > len(frames):
                found.append(Finding("extra_frames", name, f"{images} images, {len(frames)} boxes in {frames.folder}"))
    return found


def _read_again(frames: Frames, sums: dict[int, int | None], name: str) -> Iterator[Finding]:
    """Whether frames of a video file are the same out of order, as training reads them; what the file leaves out."""
    for t, known in sums.items():
        try:
            if known is not None and zlib.crc32(frames[t].tobytes()) != known:
                yield Finding("unreadable", name, f"frame {t + 1} is another one when it is read out of order")
        except ValueError as error:
            yield Finding("unreadable", name, f"read out of order, {error}")
    if isinstance(frames, FramesPart) and isinstance(frames.whole, VideoFrames):
        yield from (Finding("lost", name, note) for note in frames.whole.notes)
