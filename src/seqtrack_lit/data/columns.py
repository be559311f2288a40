"""Named arrays in one file that is memory-mapped when read: opened at once, shared by all processes.

The file: 8 bytes of magic, length and checksum (4 bytes each) of a JSON header, the header ({"columns": [[name, dtype,
shape, offset]], "facts": {...}}), then each array at a multiple of 64 bytes.
"""

import json
import mmap
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

MAGIC = b"seqidx02"
_PREFIX = struct.Struct("<8sII")
_ALIGN = 64
Column = Shaped[np.ndarray, "..."]
Columns = dict[str, Column]


def write_columns(path: Path, columns: Mapping[str, Column], facts: Mapping[str, object]) -> None:
    """Write the file whole or not at all: under another name first, then renamed.

    Raises:
        OSError: the folder cannot be written or the disk is full; nothing is left behind.
    """
    entries, offset = [], 0
    for name, column in columns.items():
        entries.append([name, column.dtype.str, list(column.shape), offset])
        offset += -(-column.nbytes // _ALIGN) * _ALIGN
    header = json.dumps({"columns": entries, "facts": dict(facts), "bytes": offset}).encode()
    header += b" " * (-(_PREFIX.size + len(header)) % _ALIGN)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(_PREFIX.pack(MAGIC, len(header), zlib.crc32(header)) + header)
            for column in columns.values():
                file.write(np.ascontiguousarray(column).data)
                file.write(b"\0" * (-column.nbytes % _ALIGN))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_facts(path: Path) -> dict[str, Any] | None:
    """The header's facts; None where there is no such file or it is not one of ours, whole."""
    header = _read_header(path)
    return None if header is None else dict(header["facts"])


def open_columns(path: Path) -> tuple[Columns, dict[str, Any]]:
    """Map the file; its arrays are read-only and loaded page by page when touched.

    Raises:
        ValueError: the file is not one of ours or is cut off.
    """
    header = _read_header(path)
    if header is None:
        raise ValueError(f"{path} is not an index file of this version; delete it, it is made again")
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    start = _PREFIX.size + int(_PREFIX.unpack(mapped[: _PREFIX.size])[1])
    columns = {
        name: np.ndarray(tuple(shape), np.dtype(dtype), buffer=mapped, offset=start + offset)
        for name, dtype, shape, offset in header["columns"]
    }
    return columns, dict(header["facts"])


def _read_header(path: Path) -> dict[str, Any] | None:
    try:
        with path.open("rb") as file:
            magic, size, checksum = _PREFIX.unpack(file.read(_PREFIX.size))
            text, whole = file.read(size), os.fstat(file.fileno()).st_size
    except (OSError, struct.error):
        return None
    if magic != MAGIC or not text or zlib.crc32(text) != checksum:
        return None
    header: dict[str, Any] = json.loads(text)
    return header if whole == _PREFIX.size + size + header["bytes"] else None
