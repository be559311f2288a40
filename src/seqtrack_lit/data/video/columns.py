"""Named arrays in a folder of .npy files: memory-mapped when read, so opened at once and shared by all processes.

Beside them lies facts.json with what is known of all of them and a CRC-32 of every file and of itself. The checksums
are compared when the folder is opened first (a gigabyte takes a second or less once it is in memory), not again in
worker processes. Arrays hold numbers only: nothing is unpickled.
"""

import errno
import json
import os
import shutil
import time
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import cast

import numpy as np
from jaxtyping import Shaped
from typing_extensions import TypedDict

from seqtrack_lit.checks import shown
from seqtrack_lit.files import read_json

#: Of the content of an index. Raise it when a reader, the builder or the columns change what stands there: indexes of
#: other formats are made again. A test compares the content of all readers' indexes and fails when this was forgotten.
INDEX_FORMAT = 3
_FACTS = "facts.json"
_PIECE = 2**22  # bytes read at once
_LEFT_BEHIND = 86_400  # seconds: no index takes a day to write
Column = Shaped[np.ndarray, "..."]
Columns = dict[str, Column]

_OF_VIDEOS = {  # one number a video
    "lengths": "i4", "visible_counts": "i4", "kind": "i1", "first": "i8", "digits": "i1", "suffix": "i2",
    "folder": "i4", "object_class": "i4", "attributes": "u4", "frame_rate": "f4",
}  # fmt: skip
# one number a row of boxes
_OF_ROWS = {"visible": "b1", "cover": "u1"}
TEXTS = ("names", "folders", "suffixes", "files", "classes")


class IndexInfo(TypedDict):
    """What is known of an index beside its columns: arguments of SequenceIndex, and `inputs`, its fingerprint."""

    dataset: str
    attribute_names: list[str]
    repeats_image: bool
    hash: str
    inputs: str


class _File(TypedDict):
    """What stands in facts.json."""

    format: int
    facts: IndexInfo
    checksums: dict[str, int]
    checksum: int


def write_columns(path: Path, columns: Mapping[str, Column], info: IndexInfo) -> None:
    """Write the folder whole or not at all: under another name first, then renamed.

    Raises:
        OSError: the place cannot be written or the disk is full; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f"{path.name}.*.tmp*"):  # of a process that was killed
        if left.stat().st_mtime < time.time() - _LEFT_BEHIND:
            _remove(left)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir()
        for name, column in columns.items():
            with (temporary / f"{name}.npy").open("wb") as file:
                np.save(file, np.ascontiguousarray(column), allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
        checksums = {name: checksum(temporary / f"{name}.npy") for name in columns}
        content = {"format": INDEX_FORMAT, "facts": info, "checksums": checksums}
        text = json.dumps({**content, "checksum": checksum_of(content)}, indent=1)
        (temporary / _FACTS).write_text(text, encoding="utf-8")
        _publish(temporary, path)
    finally:
        _remove(temporary)


def read_info(path: Path) -> IndexInfo | None:
    """What is known of an index; None where there is none, or one of another format, or facts.json is damaged."""
    content = _read(path)
    return None if content is None else content["facts"]


def open_columns(path: Path, *, compare: bool) -> tuple[Columns, IndexInfo]:
    """Map the files; the arrays are read-only and loaded page by page when touched.

    Args:
        path: the folder.
        compare: read everything once and compare it with the checksums.

    Raises:
        ValueError: the folder is not whole, or not as it was written.
    """
    content = _read(path)
    if content is None:
        raise ValueError(f"{path} is no index of this version; delete it, it is made again")
    try:
        columns = {name: open_column(path / f"{name}.npy", crc, compare) for name, crc in content["checksums"].items()}
        check_columns(columns)
    except Exception as error:  # a damaged header can fail in any way
        reason = shown(" ".join(str(error).split()), 200)
        raise ValueError(f"{path} is damaged ({reason}); delete it, it is made again") from error
    return columns, content["facts"]


def check_columns(columns: Columns) -> None:
    """That every number which leads to another place leads to one inside: what a reader of the columns relies on.

    Raises:
        ValueError: names the column.
    """
    _check_forms(columns)
    videos, rows = len(columns["kind"]), columns["rows"]
    _within("rows", rows, 0, len(columns["boxes"]), whole=True)
    counts = {}
    for name in TEXTS:
        starts = columns[f"{name}.starts"]
        _within(f"{name}.starts", starts, 0, len(columns[name]), whole=True)
        counts[name] = len(starts) - 1
    if counts["names"] != videos or len(rows) != videos + 1:
        raise ValueError(f"{videos} videos, but {counts['names']} names and {len(rows)} in the column rows")
    per_video = np.diff(rows)
    _within("kind", columns["kind"], 0, 2)
    _within("folder", columns["folder"], 0, counts["folders"] - 1)
    _within("suffix", columns["suffix"], 0, counts["suffixes"] - 1)
    _within("object_class", columns["object_class"], -1, counts["classes"] - 1)
    _within("digits", columns["digits"], 0, 64)
    _within("first", columns["first"], 0, 2**62)
    _within("resolution", columns["resolution"], 0, 2**30)
    _within("visible", columns["visible"].view(np.uint8), 0, 1)
    _within("visible_counts", columns["visible_counts"], 0, per_video)
    _within("lengths", columns["lengths"], per_video, 2**31 - 1)
    _within("frame_rate", columns["frame_rate"], 0, 1e9)
    listed = columns["kind"] == 1
    last = (columns["first"] + columns["lengths"])[listed]
    _within("first", last, 0, counts["files"])


def _within(name: str, values: Column, low: Column | int, high: Column | float, *, whole: bool = False) -> None:
    """Values in [low, high]; `whole`: they rise from one to the other."""
    good = bool(((values >= low) & (values <= high)).all())  # NaN is not
    if good and whole:
        good = len(values) > 0 and bool(values[0] == low and values[-1] == high and (np.diff(values) >= 0).all())
    if not good:
        raise ValueError(f"the column {name} holds numbers out of range")


def _check_forms(columns: Columns) -> None:
    videos, rows = (len(columns[name]) if name in columns else 0 for name in ("kind", "boxes"))
    forms: dict[str, tuple[tuple[str, ...], tuple[int | None, ...]]] = {
        "rows": (("<i8",), (None,)),
        "boxes": (("<f4", "<f8"), (rows, 4)),
        "resolution": (("<i4",), (videos, 2)),
        **{name: ((np.dtype(kind).str,), (videos,)) for name, kind in _OF_VIDEOS.items()},
        **{name: ((np.dtype(kind).str,), (rows,)) for name, kind in _OF_ROWS.items()},
        **dict.fromkeys(TEXTS, (("|u1",), (None,))),
        **{f"{name}.starts": (("<i8",), (None,)) for name in TEXTS},
    }
    if columns.keys() != forms.keys():
        raise ValueError(f"columns {', '.join(sorted(columns.keys() ^ forms.keys()))} are missing or unknown")
    for name, (kinds, shape) in forms.items():
        column = columns[name]
        fits = len(column.shape) == len(shape) and all(w in (None, h) for w, h in zip(shape, column.shape, strict=True))
        empty = name == "cover" and column.shape == (0,)
        if column.dtype.str not in kinds or not (fits or empty):
            raise ValueError(f"the column {name} holds {column.dtype.str} of shape {column.shape}")


def open_column(path: Path, expected: int, compare: bool) -> Column:
    """Map one array.

    Args:
        path: a .npy file.
        expected: its checksum.
        compare: read all of it and compare.

    Raises:
        ValueError: it is not as it was written.
    """
    if not path.is_file():
        raise ValueError(f"{path.name} is missing or no regular file")
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(mapped, np.memmap) or mapped.offset + mapped.nbytes != path.stat().st_size:
        raise ValueError(f"{path.name} does not have the size it speaks of")
    if compare and checksum(path) != expected:
        raise ValueError(f"{path.name} does not have its checksum")
    return mapped.view(np.ndarray)


def _read(path: Path) -> _File | None:
    try:
        content = read_json(path / _FACTS, _File, "")
    except (OSError, ValueError):
        return None
    rest = {key: value for key, value in content.items() if key != "checksum"}
    whole = content["format"] == INDEX_FORMAT and content["checksum"] == checksum_of(rest)
    return cast(_File, content) if whole else None


def checksum_of(content: Mapping[str, object]) -> int:
    """CRC-32 of plain values, whatever their order."""
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def checksum(path: Path) -> int:
    """CRC-32 of a file."""
    value = 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            value = zlib.crc32(piece, value)
    return value


def _publish(temporary: Path, path: Path) -> None:
    """Rename to `path`, out of whose place an older index goes first; several processes may do so at once."""
    old = temporary.with_name(f"{temporary.name}.old")
    for _ in range(10):
        with suppress(FileNotFoundError):
            path.rename(old)
            _remove(old)
        try:
            temporary.rename(path)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
