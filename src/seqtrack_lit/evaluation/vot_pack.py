"""The zip of a tracker's trajectories for VOT's server, and what is wrong with one, found out here and not there.

As `vot pack` of vot-toolkit 0.7.4 makes it (utilities/cli.py): `<experiment>/<sequence>/<file>` for each trajectory and
its values, and `manifest.yml` with the tracker's identifier and the stack of experiments.
"""

import io
import platform
import re
import sys
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from glob import escape
from pathlib import Path, PurePosixPath

import yaml  # type: ignore[import-untyped]

from seqtrack_lit.checks import printable, shown
from seqtrack_lit.data.video.regions import LARGEST_TEXT, Regions, Special, VotAnnotation
from seqtrack_lit.evaluation.vot_results import EXPERIMENTS, BinaryRegions, Run, find_trajectory, runs_of
from seqtrack_lit.files import read_bytes

STACK = "vot2020/shortterm"
LARGEST = 1_000_000_000  # bytes of all files together; VOT2020's masks are about 200 MB as text
LARGEST_ZIP = 300_000_000  # bytes of the zip
MANIFEST = "manifest.yml"


def build_pack(tracker: str, folder: Path, annotations: Sequence[VotAnnotation]) -> bytes:
    """The zip; the same files give the same bytes.

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


def _entry(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))


def _runs(annotations: Iterable[VotAnnotation]) -> list[tuple[str, Run]]:
    known = list(annotations)
    return [(experiment, run) for experiment in EXPERIMENTS for of in known for run in runs_of(experiment, of)]


def check_pack(content: bytes, annotations: Sequence[VotAnnotation]) -> list[str]:
    """Everything that would be stumbled over, in words; an empty list when the zip is in order."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except Exception as error:  # zipfile knows many ways to stumble over a damaged file
        return [printable(f"not a zip file, or only a part of one ({error}); make or copy it again")]
    with archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        size = sum(entry.file_size for entry in entries)
        if size > LARGEST:
            return [f"unpacks to {size / 1e6:,.0f} MB, more than results of VOT2020 can have"]
        if odd := [entry for entry in entries if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)]:
            return [printable(f"{odd[0].filename}: compressed in another way than deflate; make the zip again")]
        counts = Counter(entry.filename for entry in entries)
        problems = [f"{name}: twice in the zip" for name, count in counts.items() if count > 1]
        used = {MANIFEST}
        problems += _check_manifest(archive, MANIFEST in counts)
        for experiment, run in _runs(annotations):
            problems += _check_run(archive, counts, f"{experiment}/{run.sequence}/{run.stem}", run, used)
        extra = sorted(set(counts) - used)
        if extra:
            problems.append(f"{len(extra)} files that do not belong in the zip, first {', '.join(extra[:3])}")
    return [printable(problem) for problem in problems]


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
