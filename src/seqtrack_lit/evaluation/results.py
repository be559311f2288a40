"""Result files: what a tracker answered, on disk.

Ours, one folder `<out>/<tracker>/<benchmark>/` and for each sequence

- `<sequence>.txt`: one frame a line, `x,y,w,h` with 4 decimals, as the benchmark publishes its boxes (no shift
  by 1); the first line is the given box;
- `<sequence>_time.txt`: seconds per frame, the first line is the initialisation;
- `<sequence>_confidence.txt`: one value in [0, 1] a line, first line 1;
- further repetitions of a stochastic tracker: `<sequence>_002.txt`, `<sequence>_002_time.txt` ...

The boxes file is written last, under another name, and renamed: when it is there, the result is whole.
Reading accepts the raw results of other trackers: commas, tabs, blanks or semicolons, integers or floats,
file names with the prefix of the pytracking family (`uav_`, `nfs_` ...), GOT-10k's folder per sequence.
"""

import os
import platform
import re
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from seqtrack_lit.checks import path_part, same_files, shown
from seqtrack_lit.files import read_bytes

PREFIXES = ("uav_", "nfs_", "otb_", "lasot_", "tnl2k_")
_LARGEST = {4: 1e6}  # pixels of a box; of other columns 1e9 (seconds)
_LARGEST_FILE = 16_000_000  # bytes; a box of full precision takes 80, the longest videos have 30,000 frames
# What names of unfinished files begin with: the machine; then comes the process.
_HERE = f".{re.sub(r'[^A-Za-z0-9]', '', platform.node())[:40]}-"
_SEPARATORS = str.maketrans({",": " ", ";": " ", "\t": " "})


class Result(NamedTuple):
    """One tracked sequence; times and confidences are None where the tracker wrote none."""

    boxes: Float64[np.ndarray, "frames 4"]
    times: Float64[np.ndarray, "frames"] | None
    confidences: Float64[np.ndarray, "frames"] | None


def result_path(folder: Path, name: str, repetition: int = 1, kind: str = "") -> Path:
    """Where our own file of a sequence is; `kind` is "" (boxes), "time" or "confidence".

    Raises:
        ValueError: the sequence's name cannot name a file.
    """
    parts = (
        [path_part("the name of a sequence", name)]
        + ([f"{repetition:03d}"] if repetition > 1 else [])
        + ([kind] if kind else [])
    )
    return folder / ("_".join(parts) + ".txt")


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all: a temporary name beside it, flushed to the disk, then renamed.

    Raises:
        OSError: the disk is full, or the folder cannot be written. What was there before is untouched.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f"{_HERE}{os.getpid()}-", suffix=".part", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)  # mkstemp makes private files; results are to be shared
        Path(temporary).replace(path)
    except BaseException as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(
                error.errno,
                f"could not write {path}: {error.strerror}. Every file written before is whole and stays; make "
                "room (or choose another folder) and give the same command again: finished sequences are skipped",
            ) from error
        raise


def remove_leftovers(*folders: Path) -> None:
    """Delete the unfinished files that killed processes of this machine left in some folders."""
    for path in (path for folder in folders for path in folder.glob(f"{_HERE}*.part")):
        pid = path.name.removeprefix(_HERE).partition("-")[0]
        if pid.isdigit() and not _runs(int(pid)):
            path.unlink(missing_ok=True)


def _runs(pid: int) -> bool:
    if os.name == "nt":  # signal 0 would end it there
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's
        return True
    return True


def require_own_files(names: Collection[str]) -> None:
    """Refuse sequences whose result files would be one: times of `lap` and boxes of `lap_time` are both lap_time.txt.

    Raises:
        ValueError: names the two.
    """
    for other, name in same_files(names):
        raise ValueError(
            f"two sequences are called {shown(other)} and {shown(name)}: a result file {name}.txt could belong to "
            "either; rename one"
        )


def write_result(
    folder: Path,
    name: str,
    boxes: Float64[np.ndarray, "frames 4"],
    times: Float64[np.ndarray, "frames"],
    confidences: Float64[np.ndarray, "frames"],
    *,
    repetition: int = 1,
) -> Path:
    """Write the three files of one tracked sequence; the boxes (xywh, pixels) last. Returns the boxes' path.

    Raises:
        ValueError: a box, time or confidence is not finite.
        OSError: see `write_atomic`.
    """
    bad = np.flatnonzero(~np.isfinite(boxes).all(axis=1))
    if bad.size:
        raise ValueError(
            f"{name}: the tracker's box in frame {bad[0]} is {boxes[bad[0]].tolist()}; nothing was written"
        )
    for kind, values in (("time", times), ("confidence", confidences)):
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            raise ValueError(f"{name}: the tracker's {kind} in frame {bad[0]} is {values[bad[0]]}; nothing was written")
    columns = {"time": "".join(f"{t:.6f}\n" for t in times), "confidence": "".join(f"{c:.6g}\n" for c in confidences)}
    for kind, text in columns.items():
        write_atomic(result_path(folder, name, repetition, kind), text)
    path = result_path(folder, name, repetition)
    rows = np.round(boxes, 4) + 0.0  # + 0.0 turns -0.0 into 0.0
    write_atomic(path, "".join(f"{x:.4f},{y:.4f},{w:.4f},{h:.4f}\n" for x, y, w, h in rows.tolist()))
    return path


def read_boxes(path: Path) -> Float64[np.ndarray, "frames 4"]:
    """Boxes of any tracker's result file, one frame a line; NaN stays NaN (conventions differ on it).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: names file and line of what is not four numbers.
    """
    return _read_numbers(path, 4)


def read_column(path: Path) -> Float64[np.ndarray, "frames"]:
    """One number a line: times or confidences; raises as `read_boxes`."""
    return _read_numbers(path, 1)[:, 0]


def read_times(boxes: Path) -> Float64[np.ndarray, "frames"] | None:
    """Seconds per frame that were written beside a boxes file; None where there are none.

    They are in `<boxes>_time.txt`, or, with the got10k toolkit, for all repetitions of a sequence in the columns of
    one `<sequence>/<sequence>_time.txt`.

    Raises:
        ValueError: names file and line of what is not a number.
    """
    own = boxes.with_name(f"{boxes.stem}_time.txt")
    if own.is_file():
        return read_column(own)
    name, _, repetition = boxes.stem.rpartition("_")
    shared = boxes.with_name(f"{name}_time.txt")
    if boxes.parent.name != name or not repetition.isdigit() or not shared.is_file():
        return None
    columns = _read_numbers(shared, None)
    return columns[:, int(repetition) - 1] if int(repetition) <= columns.shape[1] else None


def _read_numbers(path: Path, columns: int | None) -> Float64[np.ndarray, "rows columns"]:
    """All lines of a file as numbers; blank lines only at the end. None: as many columns as the first line has."""
    if not path.is_file():
        raise FileNotFoundError(f"no result file {path}: track the sequence first, or correct the folder")
    content = read_bytes(path, largest=_LARGEST_FILE)
    lines = content.decode("utf-8-sig", errors="replace").rstrip().splitlines()
    if not lines:
        raise ValueError(f"{path}: the file is empty, probably a run that was stopped; delete it and track again")
    rows = [line.translate(_SEPARATORS).split() for line in lines]
    columns = len(rows[0]) if columns is None else columns
    expected = "four numbers x,y,w,h" if columns == 4 else "one number" if columns == 1 else f"{columns} numbers"
    for number, row in enumerate(rows, 1):
        if len(row) != columns:
            cause = (
                "a half-written last line: track it again" if number == len(rows) and number > 1 else "another format"
            )
            raise ValueError(f"{path}, line {number}: {shown(lines[number - 1])} is not {expected}; likely {cause}")
    try:
        values = np.array(rows, dtype=np.float64)
    except ValueError:
        number = next(i for i, row in enumerate(rows, 1) if not all(_is_number(word) for word in row))
        raise ValueError(
            f"{path}, line {number}: {shown(lines[number - 1])} is not {expected}; remove headers and words"
        ) from None
    if columns != 4 and np.isnan(values).any():
        number = int(np.isnan(values).any(axis=1).argmax()) + 1
        raise ValueError(f"{path}, line {number}: {shown(lines[number - 1])} is not {expected}; track it again")
    infinite = np.flatnonzero((np.abs(values) > _LARGEST.get(columns, 1e9)).any(axis=1))
    if infinite.size:
        raise ValueError(
            f"{path}, line {infinite[0] + 1}: {shown(lines[infinite[0]])} is beyond any image; the tracker diverged "
            "here, track it again"
        )
    return values


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def find_boxes(folder: Path, name: str, repetition: int = 1) -> Path | None:
    """The boxes file of a sequence in a tracker's folder, under any of the known file names, or None.

    Known: `<name>.txt`; with a prefix of the pytracking family added or left out; `<name>/<name>_001.txt`
    (GOT-10k) and `<name>/<name>.txt`.
    """
    names = [name, *(prefix + name for prefix in PREFIXES), *(name.removeprefix(p) for p in PREFIXES if p in name)]
    for candidate in names:
        path = result_path(folder, candidate, repetition)
        if path.is_file():
            return path
    nested = [folder / name / f"{name}_{repetition:03d}.txt"]
    nested += [folder / name / f"{name}.txt"] if repetition == 1 else []
    return next((path for path in nested if path.is_file()), None)


def read_result(folder: Path, name: str, repetition: int = 1) -> Result:
    """Boxes of a sequence, with times and confidences where the tracker wrote them beside the boxes.

    Raises:
        FileNotFoundError: no boxes file for this sequence.
        ValueError: names file and line that cannot be read, or a column that is not as long as the boxes.
    """
    path = find_boxes(folder, name, repetition)
    if path is None:
        raise FileNotFoundError(f"no result of {name!r} in {folder} (expected {name}.txt): track it first")
    boxes = read_boxes(path)
    side = path.with_name(f"{path.stem}_confidence.txt")
    columns = {"time": read_times(path), "confidence": read_column(side) if side.is_file() else None}
    for kind, column in columns.items():
        if column is not None and len(column) != len(boxes):
            raise ValueError(
                f"{path.parent}: {len(column)} lines of {kind}, but {path.name} has {len(boxes)}; track {name} again"
            )
    return Result(boxes, columns["time"], columns["confidence"])


def list_done(folder: Path, frames: Mapping[str, int], repetition: int = 1) -> list[str]:
    """The sequences whose result is there and whole: as many rows as the sequence has frames.

    Args:
        folder: `<out>/<tracker>/<benchmark>`, may not exist yet.
        frames: number of frames by sequence name.
        repetition: which repetition, 1 is the first.
    """
    done = []
    for name, count in frames.items():
        path = result_path(folder, name, repetition)
        if path.is_file() and read_bytes(path, largest=_LARGEST_FILE).count(b"\n") == count:
            done.append(name)
    return done
