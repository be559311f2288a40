"""Trajectories of VOT experiments on disk, in the toolkit's layout.

    <experiment>/<sequence>/<sequence>_00000015.txt              baseline, realtime: the run from anchor 15 (0-based)
    <experiment>/<sequence>/<sequence>_001.txt                   unsupervised
    <experiment>/<sequence>/<run>_time.value, _confidence.value  one number a frame

A trajectory has one region a frame, the first one is special 1. We write text; the toolkit's .bin is read, too. The
trajectory is written last, under another name, and renamed: when it is there, the run is whole.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from seqtrack_lit.checks import path_part
from seqtrack_lit.data.video.regions import (
    LARGEST_TEXT,
    Polygon,
    Rectangle,
    Region,
    Regions,
    Special,
    VotAnnotation,
    mask_of_runs,
    read_regions,
)
from seqtrack_lit.files import read_bytes, remove_leftovers, write_atomic

EXPERIMENTS = ("baseline", "realtime", "unsupervised")


@dataclass(frozen=True)
class Run:
    """One start of a tracker: from frame `start` to the last frame, or to the first one.

    Args:
        sequence: name of the sequence.
        start: first frame (0-based).
        frames: number of frames.
        reverse: backwards.
        stem: name of its files.
    """

    sequence: str
    start: int
    frames: int
    reverse: bool
    stem: str

    @property
    def order(self) -> range:
        """Frames of the sequence in the order of the run."""
        return range(self.start, -1, -1) if self.reverse else range(self.start, self.start + self.frames)


def runs_of(experiment: str, known: VotAnnotation) -> list[Run]:
    """The runs of an experiment on a sequence, in the toolkit's order: forward anchors, then backward anchors."""
    name, frames = path_part("the name of a sequence", known.name), len(known)
    if experiment == "unsupervised":
        return [Run(name, 0, frames, False, f"{name}_001")]
    forward = [
        Run(name, at, frames - at, False, f"{name}_{at:08d}") for at in np.flatnonzero(known.anchors > 0).tolist()
    ]
    backward = [Run(name, at, at + 1, True, f"{name}_{at:08d}") for at in np.flatnonzero(known.anchors < 0).tolist()]
    return [*forward, *backward]


def write_trajectory(
    folder: Path,
    run: Run,
    lines: Sequence[str],
    times: Float64[np.ndarray, "frames"],
    confidences: Float64[np.ndarray, "frames"],
) -> Path:
    """Write the files of one run, the trajectory last. Returns its path.

    Args:
        folder: of the experiment.
        run: which run.
        lines: the text of a region a frame; the first is replaced by special 1.
        times: seconds a frame.
        confidences: in [0, 1], one a frame.

    Raises:
        OSError: see `results.write_atomic`.
    """
    place = folder / run.sequence
    write_atomic(place / f"{run.stem}_time.value", "".join(f"{value:.6f}\n" for value in times))
    write_atomic(place / f"{run.stem}_confidence.value", "".join(f"{value:.6g}\n" for value in confidences))
    write_atomic(place / f"{run.stem}.txt", "".join(f"{line}\n" for line in ("1", *lines[1:])))
    return place / f"{run.stem}.txt"


def find_trajectory(folder: Path, run: Run) -> Path | None:
    """The trajectory of a run, text before binary as in the toolkit; None where there is none."""
    paths = (folder / run.sequence / f"{run.stem}{suffix}" for suffix in (".txt", ".bin"))
    return next((path for path in paths if path.is_file()), None)


def read_trajectory(folder: Path, run: Run) -> "Regions | BinaryRegions":
    """The regions of a run, parsed when asked for.

    Raises:
        FileNotFoundError: there is no trajectory.
        ValueError: it cannot be read, or has another number of frames; names file and line.
    """
    path = find_trajectory(folder, run)
    if path is None:
        raise FileNotFoundError(f"no trajectory {folder / run.sequence / run.stem}.txt (or .bin): track it first")
    regions = (
        read_regions(path) if path.suffix == ".txt" else BinaryRegions(path, read_bytes(path, largest=LARGEST_TEXT))
    )
    if len(regions) != run.frames:
        raise ValueError(f"{path} has {len(regions)} rows; this run has {run.frames} frames; delete it and track again")
    return regions


def done(folder: Path, runs: Iterable[Run]) -> list[Run]:
    """The runs whose trajectory is there with one row a frame; text files that we wrote."""
    found = []
    for run in runs:
        path = find_trajectory(folder, run)
        if path is None:
            continue
        if path.suffix == ".bin" or read_bytes(path, largest=LARGEST_TEXT).count(b"\n") == run.frames:
            found.append(run)
    return found


def clean(folder: Path) -> None:
    """Delete unfinished files of killed processes of this machine."""
    remove_leftovers(folder, *(path for path in folder.glob("*") if path.is_dir()))


def find_vot_trackers(root: Path) -> dict[str, Path]:
    """Folders with VOT experiments at or up to three levels below a folder, by the tracker's name.

    A tracker's folder is `<tracker>/<experiment>/` in the toolkit, `<tracker>/<benchmark>/<experiment>/` here.

    Raises:
        FileNotFoundError: there are none.
    """
    places = [root, *(path for depth in ("*", "*/*", "*/*/*") for path in sorted(root.glob(depth)))]
    trackers: dict[str, Path] = {}
    for place in places:
        if any(path.is_dir() for kind in EXPERIMENTS for path in (place / kind).glob("*")):
            whole = place.resolve()
            name = whole.parent.name if whole.name.lower() in ("vot2020", "vot20") else whole.name
            trackers[name if name not in trackers else str(place.relative_to(root))] = place
    if not trackers:
        raise FileNotFoundError(
            f"{root} holds no VOT experiments: no folder with {', '.join(EXPERIMENTS)} in it or 3 levels below"
        )
    return trackers


class BinaryRegions:
    """The regions of a .bin trajectory of the toolkit (region/io.py), parsed when asked for; little endian.

    Header: version 1 (int16), frames (uint32). A region: type (uint8), then 0 special: code (uint32); 1 rectangle: four
    float32; 2 polygon: number of points (uint16), float32 pairs; 3 mask: x, y (int16), width, height, number of run
    lengths (uint16), run lengths (uint16).

    Args:
        path: the file, for messages.
        data: its content.

    Raises:
        ValueError: not such a file, or cut off; names the region.
    """

    def __init__(self, path: Path, data: bytes) -> None:
        self.path, self.data = path, data
        version, frames = self._unpack("<hI", 0, "the header")
        if version != 1 or frames > len(self.data):
            raise ValueError(f"{path}: no trajectory of the VOT toolkit (version {version}); track it again")
        self.places = []
        at = 6
        for frame in range(frames):
            self.places.append(at)
            at = self._end(at, f"region {frame + 1}")
        if at != len(self.data):
            raise ValueError(f"{path}: {len(self.data) - at} bytes after the last region; track it again")

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[Region]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, index: int, /) -> Region:
        number = range(len(self.places))[index]
        at, where = self.places[number] + 1, f"region {number + 1}"
        kind = self.data[at - 1]
        if kind == 0:
            return Special(int(self._unpack("<I", at, where)[0]))
        if kind == 1:
            return Rectangle(*self._unpack("<ffff", at, where))
        if kind == 2:
            count = int(self._unpack("<H", at, where)[0])
            return Polygon(np.frombuffer(self.data, "<f4", 2 * count, at + 2).reshape(-1, 2).astype(np.float64))
        x, y, width, height, count = (int(value) for value in self._unpack("<hhHHH", at, where))
        runs = np.frombuffer(self.data, "<u2", count, at + 10).astype(np.int64)
        return mask_of_runs(runs, (x, y, width, height), f"{self.path}, {where}")

    def _end(self, at: int, where: str) -> int:
        kind = self._unpack("<B", at, where)[0]
        if kind == 2:
            return at + 3 + 8 * int(self._unpack("<H", at + 1, where)[0])
        if kind == 3:
            return at + 11 + 2 * int(self._unpack("<hhHHH", at + 1, where)[4])
        if kind not in (0, 1):
            raise ValueError(f"{self.path}, {where}: unknown type {kind}; track it again")
        return at + (5 if kind == 0 else 17)

    def _unpack(self, form: str, at: int, where: str) -> tuple[Any, ...]:
        try:
            return struct.unpack_from(form, self.data, at)
        except struct.error:
            raise ValueError(f"{self.path}, {where}: the file is cut off; track it again") from None
