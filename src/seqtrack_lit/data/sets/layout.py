"""Lists of the publishers (`lists/`), and which of it lies on the disk. No image is opened."""

import csv
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float64

from seqtrack_lit.data.sets.annotations import has_area
from seqtrack_lit.data.video.frames import IMAGE_SUFFIXES
from seqtrack_lit.files import natural_order

HELP = "docs/datasets.md says where to get it and how it must lie"
FOLDER = Path(__file__).parent / "lists"


# Attribute names in the order of the bits we store; lists/*.csv hold names, so the publishers' orders do not matter.
LASOT_ATTRIBUTES = tuple("IV POC DEF MB CM ROT BC VC SV FOC FM OV LR ARC".split())  # noqa: SIM905
TNL2K_ATTRIBUTES = tuple("CM ROT DEF FOC IV OV POC VC SV BC MB ARC LR FM AS TC MS".split())  # noqa: SIM905
UAV123_ATTRIBUTES = tuple("SV ARC LR FM FOC POC OV BC IV VC CM SOB".split())  # noqa: SIM905
OTB_ATTRIBUTES = tuple("IV SV OCC DEF MB FM IPR OPR OV BC LR".split())  # noqa: SIM905


@cache
def table(name: str) -> tuple[dict[str, str], ...]:
    """The rows of `lists/<name>.csv`, in the publisher's order."""
    with (FOLDER / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return tuple(csv.DictReader(file))


# Sequences the publishers count, where no list of names is kept here.
COUNTS = {"got10k_train": 9335, "got10k_val": 180, "got10k_test": 180, "trackingnet_train": 12 * 2511}


def expected_frames(dataset: str) -> dict[str, int]:
    """Frames of each sequence as the publisher counts them; empty where that is not known."""
    column = {"lasot": "frames", "tnl2k": "frames", "nfs": "frames_30fps"}.get(dataset)
    return {row["name"]: int(row[column]) for row in table(dataset)} if column else {}


class Finding(NamedTuple):
    """One problem: a kind out of `tools.check.REMEDIES`, the sequence, what was found where."""

    kind: str
    sequence: str
    text: str


@dataclass
class Problems:
    """What is wrong with a data set: a reader with this notes a sequence that it cannot read and takes the next one.

    Attributes:
        findings: in the order found.
        expected: sequences the publisher counts, by name where names are known.
        count: their number; 0 where unknown.
    """

    findings: list[Finding] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, kind: str, sequence: str, text: str) -> None:
        """Note a problem."""
        self.findings.append(Finding(kind, sequence, text))


@contextmanager
def noted(problems: Problems | None, sequence: str) -> Iterator[None]:
    """Let errors about one sequence through, or note them where problems are collected."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        if problems is None:
            raise
        problems.add("missing" if isinstance(error, FileNotFoundError) else "annotation", sequence, str(error))


def existing_root(dataset: str, root: str | Path, expected: str) -> Path:
    """The root as an absolute path; links keep their names, "." and ".." get theirs.

    Raises:
        FileNotFoundError: it is no folder; the message names what was expected in it.
    """
    path = Path(os.path.abspath(Path(root).expanduser()))  # noqa: PTH100 - resolve() would follow links
    if not path.is_dir():
        raise FileNotFoundError(f"{dataset}: no folder {path}; expected {expected} in it; {HELP}")
    return path


def present(
    dataset: str, root: Path, files: Mapping[str, Path], *, complete: bool, problems: Problems | None
) -> list[str]:
    """Names of the sequences whose file exists, in the order given; the others are an error, or noted as problems.

    Raises:
        FileNotFoundError: none exists, or some are missing and `complete` requires all.
    """
    found = [name for name, file in files.items() if file.exists()]
    there = set(found)
    missing = [name for name in files if name not in there] if complete or not found else []
    if problems is not None:
        problems.expected = list(files) if complete else found
        problems.count = len(problems.expected)
    if not missing:
        return found
    if found and problems is not None:
        for name in missing:
            problems.add("missing", name, f"no {files[name]}")
        return found
    raise FileNotFoundError(
        f"{dataset}: {len(missing)} of {len(files)} sequences are missing under {root}, the first is "
        f"{missing[0]} (looked for {files[missing[0]]}); {HELP}"
        + ("; complete=false takes what is there (scores are then not the benchmark's)" if found else "")
    )


def images_in(folder: str | Path) -> list[str]:
    """Names of the image files in a folder, numbers in names sorted as numbers; other files are ignored.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: it holds no image, or two that differ in their endings only.
    """
    try:
        with os.scandir(folder) as entries:  # ten times faster than Path.iterdir on folders of thousands of frames
            names = [item.name for item in entries if item.name.lower().endswith(IMAGE_SUFFIXES)]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(f"no folder of images {folder}; {HELP}") from error
    names = [name for name in names if name[0] != "."]
    if not names:
        raise ValueError(f"{folder} holds no image ({', '.join(IMAGE_SUFFIXES)}); unpack it again; {HELP}")
    stems = {name.rpartition(".")[0]: name for name in names}
    if len(stems) < len(names):
        first = next(name for name in sorted(names) if stems[name.rpartition(".")[0]] != name)
        other = stems[first.rpartition(".")[0]]
        raise ValueError(
            f"{folder}: {first} and {other} have one name, which of them is the frame? move the others away"
        )
    return sorted(names, key=natural_order)


def numbering(names: list[str]) -> tuple[int, int, str] | None:
    """(first number, digits, suffix) if the names, in order, are consecutive numbers of one pattern, else None."""
    stem, suffix = Path(names[0]).stem, Path(names[0]).suffix
    if not re.fullmatch(r"[0-9]{1,18}", stem):
        return None
    first, digits = int(stem), len(stem) if stem[0] == "0" or len(stem) == len(Path(names[-1]).stem) else 1
    expected = (f"{number:0{digits}d}{suffix}" for number in range(first, first + len(names)))
    return (first, digits, suffix) if all(map(str.__eq__, names, expected)) else None


def require_numbered(
    folder: Path, first: int, digits: int, suffix: str, rows: int, *, extra: Literal["warn", "ignore"] = "warn"
) -> None:
    """Check that the frames `first` ... exist, one for each of `rows` boxes.

    More frames than boxes: extra="warn" warns that the last ones are not used, "ignore" does not.

    Raises:
        FileNotFoundError: a frame or the folder is missing.
    """
    names = set(images_in(folder))
    for number in range(first, first + rows):
        name = f"{number:0{digits}d}{suffix}"
        if name not in names:
            raise FileNotFoundError(
                f"{folder / name} is missing: {rows} boxes, but {len(names)} images in the folder; unpack it again"
            )
    if extra == "warn" and len(names) > rows:
        warnings.warn(
            f"{folder} has {len(names)} images for {rows} boxes; the images after the last box are not used",
            stacklevel=2,
        )


def require_first_box(file: Path, boxes: Float64[np.ndarray, "rows 4"], line: int = 1) -> None:
    """Check that a tracker can start on the first box.

    Raises:
        ValueError: it is absent, or has no area.
    """
    if not has_area(boxes[:1])[0]:
        raise ValueError(
            f"{file}, line {line}: the first box {','.join(f'{v:g}' for v in boxes[0])} has no area, so no tracker can "
            "start on it; expected x,y,w,h in pixels with w,h > 0"
        )


def require_rows(file: Path, rows: int, frames: int, where: Path) -> None:
    """Check that there is one box a frame.

    Raises:
        ValueError: there are more or fewer.
    """
    if rows != frames:
        missing = f"no box for frame {rows + 1}" if rows < frames else f"line {frames + 1} belongs to no frame"
        raise ValueError(
            f"{file} has {rows} rows, but {where} has {frames} frames ({missing}); write one row a frame, "
            "0,0,0,0 where the target is absent"
        )
