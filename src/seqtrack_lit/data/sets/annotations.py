"""Annotation files as numbers: boxes, flags, VATIC rows, meta information; every error names file, line and remedy."""

import re
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64, Int64

from seqtrack_lit.boxes import LARGEST
from seqtrack_lit.checks import shown
from seqtrack_lit.files import encoding_of, read_bytes

LARGEST_TEXT = 64_000_000  # bytes; the boxes of a video of a million frames
_SPLIT = re.compile(r"\s*[,;]\s*|\s+")
_GAP = re.compile(r"[\s,;]+")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?nan|[+-]?inf(inity)?", re.IGNORECASE)


def read_text(path: Path, *, largest: int = LARGEST_TEXT) -> str:
    """The text of a regular file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is not text, is larger than `largest` bytes, or cannot be read.
    """
    try:
        data = read_bytes(path, largest=largest)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} is missing; see docs/datasets.md for how the data set must lie") from error
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}; expected a text file") from error
    try:
        text = data.decode(encoding_of(data))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file (byte {error.start}); unpack or download it again") from error
    if "\0" in text:
        raise ValueError(f"{path} holds zero bytes, as UTF-16 without its mark does; save it as UTF-8")
    return text


def read_table(path: Path, columns: int) -> Float64[np.ndarray, "rows {columns}"]:
    """Rows of numbers, separated by commas, tabs or blanks, also mixed; NaN is allowed.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line is empty or has another number of columns, or something is not a number.
    """
    text = read_text(path).rstrip()
    lines = text.splitlines()
    if not lines:
        raise ValueError(f"{path} is empty; expected rows of {columns} numbers")
    try:
        table = np.loadtxt(lines, delimiter="," if "," in lines[0] else None, ndmin=2, comments=None)
    except ValueError:
        table = np.empty((0, 0))
    # numpy skips empty lines and refuses mixed separators: then line by line, with the line in the error.
    if table.shape != (len(lines), columns):
        table = np.array([_numbers(path, number, line, columns) for number, line in enumerate(lines, 1)])
    return np.asarray(table, np.float64)


def _numbers(path: Path, number: int, line: str, columns: int) -> list[float]:
    line = line.strip().rstrip(",;")  # some files end each row with a comma
    parts, whole = _SPLIT.split(line), shown(line)
    bad = [part for part in parts if not _NUMBER.fullmatch(part)]
    if bad:
        raise ValueError(f"{path}, line {number}: {shown(bad[0])} is not a number (the line: {whole})")
    if len({gap.isspace() for gap in _GAP.findall(line)}) > 1:
        raise ValueError(
            f"{path}, line {number}: commas beside blanks (the line: {whole}); expected one kind of separator in a "
            "line, and decimals with a point"
        )
    if len(parts) != columns:
        raise ValueError(
            f"{path}, line {number}: {len(parts)} numbers, expected {columns} (the line: {whole}); "
            "one row a frame, x,y,w,h in pixels for boxes; a frame without target is a row of zeros, never left out"
        )
    return [float(part) for part in parts]


def read_boxes(path: Path) -> Float64[np.ndarray, "rows 4"]:
    """Boxes as written, x,y,w,h in pixels, a row a frame; NaN and zero rows stay.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not four numbers on every line, or one beyond any picture.
    """
    return _bounded(path, read_table(path, 4))


def _bounded(path: Path, boxes: Float64[np.ndarray, "rows 4"]) -> Float64[np.ndarray, "rows 4"]:
    far = (np.abs(boxes) > LARGEST).any(1)  # NaN is not
    if far.any():
        line = int(np.argmax(far)) + 1
        raise ValueError(
            f"{path}, line {line}: box {','.join(f'{value:g}' for value in boxes[line - 1])} lies beyond any picture; "
            "expected x,y,w,h in pixels, or 0,0,0,0 where the target is absent"
        )
    return boxes


def read_flags(path: Path, rows: int, *, largest: int = 1) -> Int64[np.ndarray, "rows"]:
    """One whole number in [0, largest] a frame: one a line (GOT-10k) or all on one line with commas (LaSOT).

    Raises:
        FileNotFoundError: no such file.
        ValueError: something else stands there, or there are more or fewer than `rows`.
    """
    text = read_text(path).strip().rstrip(",;")
    parts = _SPLIT.split(text) if text else []
    if len(parts) != rows:
        raise ValueError(
            f"{path}: {len(parts)} flags, but {rows} boxes beside it; flags and boxes must come from the same "
            "download: unpack it again"
        )
    try:
        flags = np.array(parts, np.float64)
    except ValueError:
        flags = np.full(1, np.nan)
    if not (np.isin(flags, np.arange(largest + 1)).all() and len(flags) == rows):
        allowed = [str(value) for value in range(largest + 1)]
        place = next(
            i for i, part in enumerate(parts) if part not in allowed and part not in [f"{a}.0" for a in allowed]
        )
        raise ValueError(
            f"{path}, flag {place + 1}: {shown(parts[place])}, expected a whole number from 0 to {largest}"
        )
    return flags.astype(np.int64)


def read_vatic(path: Path) -> Float64[np.ndarray, "rows 4"]:
    """VATIC rows `id x1 y1 x2 y2 frame lost occluded generated "label"` of one target as xywh boxes, one a frame.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another form, more than one target, a frame without a row or with two.
    """
    boxes: list[list[float]] = []
    last = -1.0
    ids: set[float] = set()
    for number, line in enumerate(read_text(path).rstrip().splitlines(), 1):
        parts = line.split(maxsplit=9)
        row = _numbers(path, number, " ".join(parts[:9]), 9)
        ids.add(row[0])
        if row[5] != last + 1 and not (number == 1 and row[5] == 1):  # some exports count from 0
            before = f"after frame {last:g}" if boxes else "first"
            raise ValueError(
                f"{path}, line {number}: frame {row[5]:g} {before}; expected one row a frame, counted from 0 or 1"
            )
        if len(ids) > 1:
            raise ValueError(f"{path}, line {number}: a second target (ids {sorted(ids)}); expected one")
        last = row[5]
        x1, y1, x2, y2 = row[1:5]
        boxes.append([x1, y1, x2 - x1, y2 - y1])
    if not boxes:
        raise ValueError(f'{path} is empty; expected rows: id x1 y1 x2 y2 frame lost occluded generated "label"')
    return _bounded(path, np.array(boxes, np.float64))


def read_meta(path: Path) -> dict[str, str]:
    """The `key: value` lines of a GOT-10k meta_info.ini, by key (their order differs between files)."""
    pairs = (line.partition(":") for line in read_text(path).splitlines())
    return {key.strip(): value.strip() for key, colon, value in pairs if colon and value.strip()}


def has_area(boxes_xywh: Float64[np.ndarray, "rows 4"]) -> Bool[np.ndarray, "rows"]:
    """Rows that are finite with width and height > 0."""
    return np.asarray(np.isfinite(boxes_xywh).all(1) & (boxes_xywh[:, 2:] > 0).all(1), np.bool_)
