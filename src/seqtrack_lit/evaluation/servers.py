"""Zip files for the servers of GOT-10k, TrackingNet and VOT, and what is wrong with one, found before it is sent.

GOT-10k (got10k toolkit, experiments/got10k.py; at the zip's root a folder for each video):
    GOT-10k_Test_000001/GOT-10k_Test_000001_001.txt    x,y,w,h a frame; _002, _003 for further repetitions
    GOT-10k_Test_000001/GOT-10k_Test_000001_time.txt   seconds a frame, one column a repetition
TrackingNet (devkit, metrics.py; all videos at the zip's root): <video>.txt, x,y,w,h a frame.
VOT2020 (as `vot pack` of vot-toolkit 0.7.4, utilities/cli.py): <experiment>/<sequence>/<file> for each trajectory and
    its values, and manifest.yml with the tracker's identifier and the stack of experiments.
The results themselves stay where they are.
"""

import io
import platform
import re
import sys
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from glob import escape
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import yaml  # type: ignore[import-untyped]
from jaxtyping import Float64

from seqtrack_lit.checks import path_part, printable, shown
from seqtrack_lit.data.video.regions import LARGEST_TEXT, Regions, Special, VotAnnotation
from seqtrack_lit.evaluation.results import find_boxes, read_result
from seqtrack_lit.evaluation.vot_results import EXPERIMENTS, BinaryRegions, Run, find_trajectory, runs_of
from seqtrack_lit.files import read_bytes

Server = Literal["got10k", "trackingnet"]

# Bytes of all files together: boxes of TrackingNet are about 8 MB, masks of VOT2020 as text 200 MB; a small zip can
# unpack to terabytes.
LARGEST, LARGEST_VOT = 256_000_000, 1_000_000_000
LARGEST_VOT_ZIP = 300_000_000  # bytes of the zip
_ROW = 400  # bytes of a line at most: four numbers, or the times of some repetitions
STACK, MANIFEST = "vot2020/shortterm", "manifest.yml"


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
                archive.writestr(_entry(file), text, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def _entry(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))


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
    opened = _opened(content, LARGEST)
    if isinstance(opened, str):
        return [printable(opened)]
    archive, counts = opened
    texts, used = dict[str, str](), set[str]()
    for name in counts:
        try:
            texts[name] = archive.read(name).decode("utf-8", errors="replace")
        except Exception as error:  # the other files of such a zip are not worth a look
            return [printable(f"{name}: cannot be unpacked ({error}); the zip is damaged or encrypted, make it again")]
    check = _check_got10k if server == "got10k" else _check_trackingnet
    problems = _twice(counts)
    for name, expected in videos.items():
        problems += check(name, expected, texts, used)
    return [printable(problem) for problem in [*problems, *_extra(texts, used)]]


def _opened(content: bytes, largest: int) -> tuple[zipfile.ZipFile, Counter[str]] | str:
    """A zip and how often it holds each file; or what makes it useless for a server."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except Exception as error:  # zipfile raises errors of many types for a damaged file
        return f"not a zip file, or only a part of one ({error}); make or copy it again"
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    size = sum(entry.file_size for entry in entries)
    if size > largest:
        return f"unpacks to {size / 1e6:,.0f} MB, more than the files for this server have, so these are others"
    for entry in entries:
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others take memory as they like
            return f"{entry.filename}: compressed in a way the servers do not read; make the zip with deflate"
    return archive, Counter(entry.filename for entry in entries)


def _twice(counts: Counter[str]) -> list[str]:
    return [f"{name}: twice in the zip" for name, count in counts.items() if count > 1]


def _extra(names: Iterable[str], used: set[str]) -> list[str]:
    extra = sorted(set(names) - used)
    return [f"{len(extra)} files that do not belong in the zip, first {', '.join(extra[:3])}"] if extra else []


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
        problems.append(f"{file}, line {np.argmax((rows[:, 2:] <= 0).any(1)) + 1}: a box without area")
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


def build_pack(tracker: str, folder: Path, annotations: Sequence[VotAnnotation]) -> bytes:
    """The zip of VOT's trajectories; the same files give the same bytes.

    Args:
        tracker: the tracker's name; other signs than letters, digits, - and _ become _.
        folder: `<tracker>/`, with the folders of the three experiments.
        annotations: of the sequences.

    Raises:
        FileNotFoundError: trajectories are missing (how many, which).
    """
    files: dict[str, Path] = {}
    missing: list[str] = []
    for experiment, run in _runs(annotations):
        path = find_trajectory(folder / experiment, run)
        if path is None:
            missing.append(f"{experiment}/{run.sequence}/{run.stem}.txt")
            continue
        values = sorted(path.parent.glob(f"{escape(run.stem)}_*.value"))
        files |= {f"{experiment}/{run.sequence}/{part.name}": part for part in (path, *values)}
    if missing:
        raise FileNotFoundError(
            f"{folder}: {len(missing)} trajectories are missing, first {', '.join(missing[:3])}; the server wants "
            f"all of {', '.join(EXPERIMENTS)}: seqtrack-evaluate benchmark=vot2020 tracks them"
        )
    newest = datetime.fromtimestamp(int(max(path.stat().st_mtime for path in files.values())), UTC)
    manifest = {
        "identifier": re.sub(r"[^A-Za-z0-9_-]+", "_", tracker),
        "timestamp": f"{newest:%Y-%m-%dT%H-%M-%S.%f}",
        "platform": sys.platform,
        "python": platform.python_version(),
        "toolkit": "seqtrack_lit, in the layout of vot-toolkit 0.7.4",
        "stack": STACK,
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in files.items():
            archive.writestr(_entry(name), read_bytes(path, largest=LARGEST_TEXT), zipfile.ZIP_DEFLATED)
        archive.writestr(_entry(MANIFEST), yaml.safe_dump(manifest, sort_keys=True), zipfile.ZIP_DEFLATED)
    return out.getvalue()


def _runs(annotations: Iterable[VotAnnotation]) -> list[tuple[str, Run]]:
    known = list(annotations)
    return [(experiment, run) for experiment in EXPERIMENTS for of in known for run in runs_of(experiment, of)]


def check_pack(content: bytes, annotations: Sequence[VotAnnotation]) -> list[str]:
    """Everything that VOT's server would stumble over, a line each; empty when the zip is in order."""
    opened = _opened(content, LARGEST_VOT)
    if isinstance(opened, str):
        return [printable(opened)]
    archive, counts = opened
    used = {MANIFEST}
    problems = [*_twice(counts), *_check_manifest(archive, MANIFEST in counts)]
    for experiment, run in _runs(annotations):
        problems += _check_run(archive, counts, f"{experiment}/{run.sequence}/{run.stem}", run, used)
    return [printable(problem) for problem in [*problems, *_extra(counts, used)]]


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of a file of bounded size.

    Raises:
        ValueError: too large, damaged or encrypted.
    """
    if archive.getinfo(name).file_size > LARGEST_TEXT:
        raise ValueError(f"{name}: larger than a trajectory can be")
    try:
        return archive.read(name)
    except Exception as error:
        raise ValueError(f"{name}: cannot be unpacked ({error}); make the zip again") from None


def _check_manifest(archive: zipfile.ZipFile, there: bool) -> list[str]:
    if not there:
        return [f"{MANIFEST}: missing; it names the tracker (identifier) and the stack ({STACK})"]
    try:
        content = yaml.safe_load(_read(archive, MANIFEST)[:1_000_000])
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        return [f"{MANIFEST}: cannot be read ({' '.join(str(error).split())[:100]})"]
    if not isinstance(content, dict) or not isinstance(content.get("identifier"), str):
        return [f"{MANIFEST}: identifier (the tracker's name) is missing"]
    return []


def _check_run(archive: zipfile.ZipFile, names: Mapping[str, int], stem: str, run: Run, used: set[str]) -> list[str]:
    """One run: a trajectory with a region a frame, the first of them special 1; values of as many lines."""
    found = [f"{stem}{suffix}" for suffix in (".txt", ".bin") if f"{stem}{suffix}" in names]
    values = [name for name in names if name.startswith(f"{stem}_") and name.endswith(".value")]
    used.update(found, values)
    if len(found) != 1:
        return [f"{stem}.txt: {'both as text and as .bin' if found else 'missing'}"]
    problems = []
    try:
        data, path = _read(archive, found[0]), Path(PurePosixPath(found[0]))
        regions = Regions(path, data.decode().splitlines()) if path.suffix == ".txt" else BinaryRegions(path, data)
        if len(regions) != run.frames:
            problems.append(f"{found[0]}: {len(regions)} rows; this run has {run.frames} frames")
        elif regions[0] != Special(1):
            problems.append(f"{found[0]}, line 1: expected 1, the mark of the given region")
        elif restarts := [
            row for row, region in enumerate(regions) if row and isinstance(region, Special) and region.code
        ]:
            problems.append(f"{found[0]}, line {restarts[0] + 1}: a second start or a failure inside of a run")
    except (ValueError, UnicodeDecodeError) as error:
        problems.append(str(error))
    if f"{stem}_time.value" not in values:
        problems.append(f"{stem}_time.value: missing")
    for name in values:
        problems += _check_values(archive, name, run.frames)
    return problems


def _check_values(archive: zipfile.ZipFile, name: str, frames: int) -> list[str]:
    try:
        lines = _read(archive, name).decode().split("\n")
    except (ValueError, UnicodeDecodeError) as error:
        return [str(error)]
    lines = lines[:-1] if lines[-1] == "" else lines
    if len(lines) != frames:
        return [f"{name}: {len(lines)} lines; this run has {frames} frames"]
    if name.endswith("_time.value"):
        for number, line in enumerate(lines, 1):
            if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", line.strip()):
                return [f"{name}, line {number}: {shown(line)} are no seconds"]
    return []
