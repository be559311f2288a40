"""A finished run, read back from the files that training and evaluation left in its folder.

    run.json, config.yaml, metrics.csv             by training
    pictures/                                      by training
    results/<tracker>/<benchmark>/scores.json      by evaluation, one for each tracker and baseline
    results/<tracker>/<benchmark>/media/           by evaluation: clips and pictures of attention (media.json), every
                                                   sequence over time (sequences.json)

Nothing of it has to be there.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NotRequired

import numpy as np
from annotated_types import Ge, Le, Len
from jaxtyping import Float64
from typing_extensions import TypedDict

from seqtrack_lit.checks import printable, shown
from seqtrack_lit.evaluation.scores import Scores
from seqtrack_lit.files import inside, read_json, read_text
from seqtrack_lit.runs.folder import CONFIG, METADATA, METRICS, read_metadata, read_rows

Curve = tuple[Float64[np.ndarray, "rows"], Float64[np.ndarray, "rows"]]
Columns = Mapping[str, Curve]
BASELINES = ("static", "kcf", "csrt")
COURSES = "sequences.json"
MOST_PARTS = 200  # into which the frames of a sequence are divided
_FURTHEST = 1e15  # steps or samples
_LARGEST = 1e39  # float32 ends at 3e38


class Clip(TypedDict):
    """A video of media.json: which one, of what sequence, its score, the file beside media.json."""

    kind: str
    sequence: str
    value: str | float
    file: str


class Picture(TypedDict):
    """A picture of attention in media.json."""

    file: str
    caption: NotRequired[str]


class Media(TypedDict, total=False):
    """A media.json; every file in it is copied to the page."""

    clips: Annotated[list[Clip], Len(0, 50)]
    attention: Annotated[list[Picture], Len(0, 50)]


Fraction = Annotated[float, Ge(0), Le(1)]
Parts = Annotated[list[Fraction], Len(0, MOST_PARTS)]
Frame = Annotated[int, Ge(0), Le(10**8)]


class Course(TypedDict):
    """A tracker on a sequence over time, in sequences.json.

    Args:
        sequence: its name.
        frames: their number.
        frame: in which the tracker overlaps the ground truth least.
        file: picture of that frame beside sequences.json.
        overlap: the lowest overlap with the ground truth in each of the parts the frames are divided into; 1 where
            there is none.
        confidence: the mean in each of these parts; empty where the tracker wrote none.
        failed: number of frames in which the tracker failed.
        updates: frames from which templates were taken.
    """

    sequence: str
    frames: Frame
    frame: Frame
    file: str
    overlap: Parts
    confidence: Parts
    failed: Frame
    updates: Annotated[list[Frame], Len(0, 100_000)]


@dataclass(frozen=True, eq=False)
class Run:
    """What is known of a run; empty where a file is missing.

    Args:
        folder: of the run.
        metadata: revision, versions, machine, data ... (run.json).
        config: the resolved configuration as text.
        metrics: columns of metrics.csv, see `read_metrics`.
        scores: of all trackers and conventions found, baselines last.
        media: lists of clips and pictures by tracker and benchmark, with the folder they lie in.
        courses: of every sequence, likewise.
    """

    folder: Path
    metadata: Mapping[str, Any]
    config: str
    metrics: Columns
    scores: tuple[Scores, ...]
    media: Mapping[tuple[str, str], tuple[Path, Media]]
    courses: Mapping[tuple[str, str], tuple[Path, list[Course]]]

    @property
    def environment(self) -> Mapping[str, Any]:
        """Revision, versions, machine, command; empty where they were not recorded."""
        found = self.metadata.get("environment")
        return found if isinstance(found, Mapping) else {}

    @property
    def ours(self) -> list[Scores]:
        """Scores that are not a baseline's."""
        return [one for one in self.scores if one.tracker not in BASELINES]


def is_trained(folder: Path) -> bool:
    """Whether something of a training lies directly in this folder."""
    return any((folder / name).is_file() for name in (CONFIG, METADATA, METRICS))


def is_run(folder: Path) -> bool:
    """Whether this is the folder of a training, or of scores alone."""
    return is_trained(folder) or any(folder.glob("results/*/*/scores.json"))


def read_run(folder: Path) -> Run:
    """Read what is there.

    Raises:
        FileNotFoundError: no such folder, or nothing of a run in it.
        ValueError: a file that is there and cannot be read (names it).
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}: train and evaluate first, or give run=FOLDER")
    results = folder / "results"
    if not is_run(folder):
        if below := sorted(str(path) for path in folder.iterdir() if path.is_dir() and is_run(path)):
            raise FileNotFoundError(
                f"{folder} holds runs and is none: runs=[{folder}] compares all {len(below)}, run={below[0]} takes one"
            )
        raise FileNotFoundError(
            f"{folder} holds no run: no config.yaml, run.json, metrics.csv or results/<tracker>/<benchmark>/scores.json"
        )
    metadata, config, metrics = (own_file(folder, name) for name in (METADATA, CONFIG, METRICS))
    scores: list[Scores] = []
    for path in sorted(results.glob("*/*/scores.json")):
        scores += Scores.load_all(inside(folder, path.relative_to(folder).as_posix(), str(folder))).values()
    return Run(
        folder=folder,
        metadata=read_metadata(folder) if metadata else {},
        config=read_text(config, largest=1_000_000) if config else "",
        metrics=read_metrics(metrics) if metrics else {},
        scores=tuple(sorted(scores, key=lambda one: one.tracker in BASELINES)),
        media=_by_tracker(folder, "media.json", Media),
        courses=_by_tracker(folder, COURSES, Annotated[list[Course], Len(0, 5000)]),
    )


def _by_tracker(folder: Path, name: str, kind: Any) -> dict[tuple[str, str], tuple[Path, Any]]:
    """What evaluation wrote to a file of every media/, by tracker and benchmark, with that folder."""
    found = {}
    for path in sorted(folder.glob(f"results/*/*/media/{name}")):
        listed = inside(folder, path.relative_to(folder).as_posix(), str(folder))
        found[path.parts[-4], path.parts[-3]] = (path.parent, read_json(listed, kind, "evaluate again"))
    return found


def own_file(folder: Path, name: str) -> Path | None:
    """A file of the run; None where there is none.

    Raises:
        ValueError: it is a link (what it leads to would be shown on a page), or no file.
    """
    return inside(folder, name, str(folder)) if (folder / name).exists() or (folder / name).is_symlink() else None


def read_metrics(path: Path) -> Columns:
    """Columns of a metrics.csv as (training pairs seen, values), sorted; rows that lack a value are left out of it.

    Where the file has no column `samples`, steps stand in its place. A loss that is not finite stays.

    Raises:
        ValueError: it is not the metrics.csv of a run, or a value is no number (names the line).
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for number, row in enumerate(read_rows(path), 2):
        at = _number(row.get("samples") or row["step"], f"{path}, line {number}: samples")
        if not 0 <= at <= _FURTHEST:
            raise ValueError(f"{path}, line {number}: {at:g} samples, no count")
        for name, text in row.items():
            if text and name not in ("epoch", "step", "samples"):
                found.setdefault(name, []).append((at, _number(text, f"{path}, line {number}: {printable(name)}")))
    columns = {name: np.array(sorted(pairs)) for name, pairs in found.items()}
    return {name: (pairs[:, 0], pairs[:, 1]) for name, pairs in columns.items()}


def _number(text: str, where: str) -> float:
    """The number; raises ValueError where it is none, or larger than a training computes."""
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{where} is {shown(text)}, not a number") from None
    if abs(value) > _LARGEST and math.isfinite(value):
        raise ValueError(f"{where} is {shown(text)}, which no training gives")
    return value
