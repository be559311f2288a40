"""Zip files for the servers of GOT-10k and TrackingNet, and checks of one before it is sent.

GOT-10k (got10k toolkit, experiments/got10k.py; at the zip's root a folder for each video):
    GOT-10k_Test_000001/GOT-10k_Test_000001_001.txt    x,y,w,h a frame; _002, _003 for further repetitions
    GOT-10k_Test_000001/GOT-10k_Test_000001_time.txt   seconds a frame, one column a repetition
TrackingNet (devkit, metrics.py; all videos at the zip's root): <video>.txt, x,y,w,h a frame.
The results themselves stay where they are.
"""

import io
import re
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float64

from seqtrack_lit.checks import path_part, printable, shown
from seqtrack_lit.evaluation.results import find_boxes, read_result

Server = Literal["got10k", "trackingnet"]

# Bytes of all files together. TrackingNet's 225,000 boxes are about 8 MB; a small zip can unpack to terabytes.
LARGEST = 256_000_000
_ROW = 400  # bytes of a line at most: four numbers, or the times of some repetitions


@dataclass(frozen=True, eq=False)
class Expected:
    """What is known of a video on the server: its number of frames, and the box given in the first (xywh)."""

    frames: int
    first_box: Float64[np.ndarray, "4"]


def build_submission(server: Server, folder: Path, videos: Mapping[str, Expected]) -> bytes:
    """The zip for a server, from a folder of result files; the same results give the same bytes.

    Raises:
        FileNotFoundError: results are missing, or GOT-10k's times (names how many and which).
        ValueError: a file that cannot be read (names file and line).
    """
    missing = [name for name in videos if find_boxes(folder, path_part("the name of a video", name)) is None]
    if missing:
        raise FileNotFoundError(
            f"{folder}: {len(missing)} of {len(videos)} videos have no result, first {', '.join(missing[:3])}; "
            "the server wants all of them"
        )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in videos:
            for file, text in (_got10k_files if server == "got10k" else _trackingnet_files)(folder, name).items():
                archive.writestr(zipfile.ZipInfo(file, (1980, 1, 1, 0, 0, 0)), text, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def _got10k_files(folder: Path, name: str) -> dict[str, str]:
    files, times = {}, []
    repetition = 1
    while find_boxes(folder, name, repetition) is not None:
        result = read_result(folder, name, repetition)
        if result.times is None:
            raise FileNotFoundError(f"no times beside the result of {name} in {folder}; GOT-10k's server wants them")
        files[f"{name}/{name}_{repetition:03d}.txt"] = _lines(result.boxes, "%.4f")
        times.append(result.times)
        repetition += 1
    if len({len(column) for column in times}) > 1:
        raise ValueError(f"{folder}: the repetitions of {name} differ in length; track it again")
    return {**files, f"{name}/{name}_time.txt": _lines(np.stack(times, axis=1), "%.6f")}


def _trackingnet_files(folder: Path, name: str) -> dict[str, str]:
    return {f"{name}.txt": _lines(read_result(folder, name).boxes, "%.2f")}


def _lines(rows: Float64[np.ndarray, "frames columns"], form: str) -> str:
    out = io.StringIO()
    np.savetxt(out, rows + 0.0, fmt=form, delimiter=",")
    return out.getvalue()


def check_submission(server: Server, content: bytes, videos: Mapping[str, Expected]) -> list[str]:
    """Everything the server would refuse or misread, a line each; empty when the zip is in order."""
    texts, problems = _unpack(content)
    if texts is not None:
        check = _check_got10k if server == "got10k" else _check_trackingnet
        used: set[str] = set()
        for name, expected in videos.items():
            problems += check(name, expected, texts, used)
        extra = sorted(set(texts) - used)
        if extra:
            problems.append(f"{len(extra)} files that do not belong in the zip, first {', '.join(extra[:3])}")
    return [printable(problem) for problem in problems]


def _unpack(content: bytes) -> tuple[dict[str, str] | None, list[str]]:
    """The texts in a zip by file name, None where it cannot be read at all, and what is wrong with it as a zip."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except Exception as error:  # zipfile raises errors of many types for a damaged file
        return None, [f"not a zip file, or only a part of one ({error}); make or copy it again"]
    texts, problems = {}, []
    with archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        size = sum(entry.file_size for entry in entries)
        if size > LARGEST:
            return None, [
                f"unpacks to {size / 1e6:,.0f} MB; the files for this server are a few MB, so these are others"
            ]
        twice = [name for name, count in Counter(entry.filename for entry in entries).items() if count > 1]
        problems += [f"{name}: twice in the zip" for name in twice]
        for name, entry in {entry.filename: entry for entry in entries}.items():
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others take memory as they like
                return None, [f"{name}: compressed in a way the servers do not read; make the zip with deflate"]
            try:
                texts[name] = archive.read(entry).decode("utf-8", errors="replace")
            except Exception as error:  # the other files of such a zip are not worth a look
                return None, [f"{name}: cannot be unpacked ({error}); the zip is damaged or encrypted, make it again"]
    return texts, problems


def _check_got10k(name: str, expected: Expected, texts: Mapping[str, str], used: set[str]) -> list[str]:
    """One video: repetitions 001, 002 ... without a gap, and as many columns of times."""
    pattern = re.compile(rf"{re.escape(f'{name}/{name}')}_(\d{{3}})\.txt")
    runs = sorted(int(match[1]) for file in texts if (match := pattern.fullmatch(file)))
    times = f"{name}/{name}_time.txt"
    boxes = [f"{name}/{name}_{run:03d}.txt" for run in runs]
    used.update(boxes, {times} & set(texts))
    nested = [file for file in texts if file.endswith(f"/{name}/{name}_001.txt")]
    if not runs and nested:
        used.update(file for file in texts if f"/{name}/" in file)
        return [f"{nested[0]}: the folder {name}/ must be at the root of the zip"]
    if runs != list(range(1, len(runs) + 1)) or not runs:
        return [f"{name}: boxes files numbered {runs or 'none'}; expected {name}/{name}_001.txt and on, without a gap"]
    problems = [problem for file in boxes for problem in _check_boxes(file, texts[file], expected)]
    if times not in texts:
        return [*problems, f"{times}: missing"]
    rows = _numbers(texts[times], "numbers", expected.frames)
    if isinstance(rows, str):
        return [*problems, f"{times}, {rows}"]
    if rows.shape != (expected.frames, len(runs)):
        shape = f"{rows.shape[0]} lines of {rows.shape[1]}"
        problems.append(f"{times}: {shape}; expected {expected.frames} lines of {len(runs)} (one column a repetition)")
    elif (rows < 0).any():
        problems.append(f"{times}: negative times")
    return problems


def _check_trackingnet(name: str, expected: Expected, texts: Mapping[str, str], used: set[str]) -> list[str]:
    """One video; the server takes a file by finding its name inside the paths, so exactly one may contain it."""
    found = [file for file in texts if file.endswith(".txt") and f"{name}.txt" in file]
    used.update(found)
    if len(found) != 1:
        return [f"{name}.txt: {f'{len(found)} files match, {found}' if found else 'missing'}; the server counts zeros"]
    return _check_boxes(found[0], texts[found[0]], expected)


def _check_boxes(file: str, text: str, expected: Expected) -> list[str]:
    rows = _numbers(text, "x,y,w,h", expected.frames)
    if isinstance(rows, str):
        return [f"{file}, {rows}"]
    if rows.shape[1] != 4:
        return [f"{file}: {rows.shape[1]} columns; expected x,y,w,h separated by commas"]
    if len(rows) != expected.frames:
        return [f"{file}: {len(rows)} lines; the video has {expected.frames} frames"]
    problems = []
    if (rows[:, 2:] <= 0).any():
        problems.append(f"{file}, line {(rows[:, 2:] <= 0).any(1).argmax() + 1}: a box without area")
    if np.abs(rows[0] - expected.first_box).max() > 1:  # some trackers write integers
        problems.append(f"{file}, line 1: {rows[0].tolist()} is not the given box {expected.first_box.tolist()}")
    return problems


def _numbers(text: str, what: str, frames: int) -> Float64[np.ndarray, "lines columns"] | str:
    """The numbers of a comma-separated text of about as many lines as frames, or what is wrong with it."""
    if len(text) > _ROW * (frames + 1):
        return f"line 1: {len(text):,} characters cannot be {frames} lines of {what}"
    if not text.strip():
        return "line 1: the file is empty"
    lines = text.rstrip("\n").split("\n")
    rows = [line.split(",") for line in lines]
    for number, (line, row) in enumerate(zip(lines, rows, strict=True), 1):
        try:
            good = len(row) == len(rows[0]) and bool(np.isfinite([float(word) for word in row]).all())
        except ValueError:
            good = False
        if not good:
            return f"line {number}: {shown(line, 60)} is not {what} separated by commas"
    return np.array(rows, dtype=np.float64)
