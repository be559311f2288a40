"""Result files of trackers on disk: written, read, found.

Ours, one folder `<out>/<tracker>/<benchmark>/` and for each sequence

- `<sequence>.txt`: one frame a line, `x,y,w,h` with 4 decimals, as the benchmark publishes its boxes (no shift
  by 1); the first line is the given box;
- `<sequence>_time.txt`: seconds per frame, the first line is the initialisation;
- `<sequence>_confidence.txt`: one value in [0, 1] a line, first line 1;
- `<sequence>_update.txt`: 1 where a template was taken from the frame, else 0; only where that ever happened;
- further repetitions of a stochastic tracker: `<sequence>_002.txt`, `<sequence>_002_time.txt` ...

The boxes file is written last, under another name, and renamed: when it is there, the result is whole.
Reading accepts the raw results of other trackers: commas, tabs, blanks or semicolons, integers or floats,
file names with the prefix of the pytracking family (`uav_`, `nfs_` ...), GOT-10k's folder per sequence.
`find_trackers` knows the folders `<tracker>/<benchmark>/` (ours), `<tracker>/<configuration>[_000]/<benchmark>/`
(pytracking family), `<tracker>_tracking_result/` (MATLAB kits of LaSOT and TNL2K), a folder per sequence (GOT-10k),
a folder of files.
"""

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64

from seqtrack_lit.checks import path_part, same_files, shown
from seqtrack_lit.files import encoding_of, read_bytes, write_atomic

# Folder names that say which benchmark lies in them: ours first, then those of other code.
BENCHMARK_FOLDERS: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in ("lasot", "trackingnet", "nfs240", "generated")},
    "lasot_ext": ("lasot_ext", "lasot_extension_subset", "lasotext"),
    "got10k_test": ("got10k_test", "got10k"),
    "got10k_val": ("got10k_val", "got10k_ltrval"),
    "tnl2k": ("tnl2k", "tnl2k_test"),
    "nfs": ("nfs", "nfs30"),
    "nfs_official": ("nfs_official", "nfs30", "nfs"),
    "uav123": ("uav123", "uav"),
    "otb100": ("otb100", "otb"),
    "vot2020": ("vot2020", "vot20", "baseline"),
}
_RUN = re.compile(r"_\d{3}")  # pytracking's repetitions
_DEPTH = 5
PREFIXES = ("uav_", "nfs_", "otb_", "lasot_", "tnl2k_")
_LARGEST = {4: 1e6}  # pixels of a box; of other columns 1e9 (seconds)
_LARGEST_FILE = 16_000_000  # bytes; a box of full precision takes 80, the longest videos have 30,000 frames
_SEPARATORS = str.maketrans({",": " ", ";": " ", "\t": " "})


class Result(NamedTuple):
    """One tracked sequence; times, confidences and updates are None where the tracker wrote none."""

    boxes: Float64[np.ndarray, "frames 4"]
    times: Float64[np.ndarray, "frames"] | None
    confidences: Float64[np.ndarray, "frames"] | None
    updates: Float64[np.ndarray, "frames"] | None = None


def result_path(folder: Path, name: str, repetition: int = 1, kind: str = "") -> Path:
    """Where our own file of a sequence is; `kind` is "" (boxes), "time", "confidence" or "update".

    Raises:
        ValueError: the sequence's name cannot name a file.
    """
    number = f"_{repetition:03d}" if repetition > 1 else ""
    return folder / f"{path_part('the name of a sequence', name)}{number}{f'_{kind}' if kind else ''}.txt"


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
    updates: Bool[np.ndarray, "frames"] | None = None,
    repetition: int = 1,
) -> Path:
    """Write the files of one tracked sequence; the boxes (xywh, pixels) last. Returns the boxes' path.

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
    if updates is not None and updates.any():
        columns["update"] = "".join(f"{int(flag)}\n" for flag in updates)
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
    lines = content.decode(encoding_of(content), errors="replace").rstrip().splitlines()
    if not lines:
        raise ValueError(f"{path}: the file is empty, probably a run that was stopped; delete it and track again")
    rows = [line.translate(_SEPARATORS).split() for line in lines]
    columns = len(rows[0]) if columns is None else columns
    expected = "four numbers x,y,w,h" if columns == 4 else "one number" if columns == 1 else f"{columns} numbers"
    for number, row in enumerate(rows, 1):
        if len(row) != columns:
            text, cause = shown(lines[number - 1]), _cause(len(row), lines[number - 1], last=number == len(rows) > 1)
            kind = cause or f"another format: write {expected} of a frame on each line"
            raise ValueError(f"{path}, line {number}: {text} is not {expected}; likely {kind}")
    try:
        values = np.array(rows, dtype=np.float64)
    except ValueError:
        for number, row in enumerate(rows, 1):
            try:
                np.array(row, dtype=np.float64)
            except ValueError:
                text = shown(lines[number - 1])
                raise ValueError(f"{path}, line {number}: {text} is not {expected}; remove headers and words") from None
        raise
    if columns != 4 and np.isnan(values).any():
        number = int(np.argmax(np.isnan(values).any(axis=1))) + 1
        raise ValueError(f"{path}, line {number}: {shown(lines[number - 1])} is not {expected}; track it again")
    infinite = np.flatnonzero((np.abs(values) > _LARGEST.get(columns, 1e9)).any(axis=1))
    if infinite.size:
        raise ValueError(
            f"{path}, line {infinite[0] + 1}: {shown(lines[infinite[0]])} is beyond any image; the tracker diverged "
            "here, track it again"
        )
    return values


def _cause(count: int, line: str, *, last: bool) -> str:
    """Why a line may hold another number of values, and the remedy; empty where that is not known."""
    if "\0" in line:
        return "UTF-16 without its mark: write UTF-8"
    if last and count < 4:
        return "a half-written last line: track it again"
    if not count:
        return "a blank line: delete it; where a box is missing, write one"
    if "," in line and len(re.split(r"[;\t]", line.strip())) == 4:
        return "decimal commas: write points"
    kinds = {
        5: "a score behind the box or a frame number in front: leave it out",
        8: "a polygon: write the box around it",
    }
    return kinds.get(count, "")


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
    columns = {"time": read_times(path)}
    for kind in ("confidence", "update"):
        side = path.with_name(f"{path.stem}_{kind}.txt")
        columns[kind] = read_column(side) if side.is_file() else None
    for kind, column in columns.items():
        if column is not None and len(column) != len(boxes):
            raise ValueError(
                f"{path.parent}: {len(column)} lines of {kind}, but {path.name} has {len(boxes)}; track {name} again"
            )
    return Result(boxes, *columns.values())


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


class Found(NamedTuple):
    """Folders with results by tracker; and those that hold files of the same names but lie beside the benchmark's."""

    trackers: dict[str, Path]
    passed_over: list[Path]


def find_trackers(root: Path, benchmark: str, sequences: Collection[str]) -> Found:
    """Folders at or below `root` that hold results of the benchmark's sequences, by tracker name.

    Where some are called as the benchmark, the others are passed over: sequences of two benchmarks share names.

    Args:
        root: the folder of one tracker or of many.
        benchmark: the benchmark's name; folders with the name of another one are passed over.
        sequences: names of its sequences.

    Raises:
        FileNotFoundError: no such folder, or nothing in it (names what was looked for).
    """
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}: results=[...] takes folders of result files")
    root = root.resolve()
    own = {folder.lower() for folder in BENCHMARK_FOLDERS.get(benchmark, (benchmark,))} | {benchmark.lower()}
    others = {name for names in BENCHMARK_FOLDERS.values() for name in names} - own
    wanted = set(sequences)
    wanted |= {prefix + name for prefix in PREFIXES for name in sequences}
    wanted |= {name.removeprefix(prefix) for prefix in PREFIXES for name in sequences}
    found: list[Path] = []
    for at, folders, files in os.walk(root):
        place = Path(at)
        tracker = any(name.lower() in own for name in folders)  # a tracker may be called "baseline", as VOT's folder is
        if place.name.lower() in others and place != root and not tracker:
            folders.clear()
            continue
        nested = [  # folders of one sequence with its boxes in it
            name
            for name in folders
            if name in wanted - own and any((place / name / f"{name}{end}.txt").is_file() for end in ("_001", ""))
        ]
        if nested or any(file.removesuffix(".txt") in wanted for file in files if file.endswith(".txt")):
            found.append(place)
            folders[:] = [name for name in folders if name not in nested]
        if len(place.relative_to(root).parts) >= _DEPTH:
            folders.clear()
    named = [folder for folder in found if folder.name.lower() in own]
    passed_over = [folder for folder in found if named and folder not in named]
    found = named or found
    if not found:
        first = ", ".join(f"{name}.txt" for name in list(sequences)[:3])
        raise FileNotFoundError(
            f"{root} holds no results of {benchmark}: none of {first} ... in it or {_DEPTH} levels below"
        )
    labels = {folder: _tracker_of(folder, own) for folder in found}
    twice = {label for label in labels.values() if list(labels.values()).count(label) > 1}
    trackers = {
        (str(folder.relative_to(root)) if label in twice and folder != root else label): folder
        for folder, label in sorted(labels.items())
    }
    return Found(trackers, passed_over)


def _tracker_of(folder: Path, own: set[str]) -> str:
    """The nearest folder name that is not the benchmark's and not a number of a repetition."""
    run = ""
    for part in reversed(folder.parts[1:]):
        if _RUN.fullmatch(part):
            run = part
        elif part.lower() not in own:
            return re.sub(r"_tracking_results?$", "", part) + run
    return folder.name
