"""Read files of weights without running what is written in them.

A torch file holds a pickle, and a pickle may call any function of the machine that opens it. Official SeqTrack
checkpoints name classes of their source tree, so that torch.load(weights_only=True) refuses them. Here every class
or function but the rebuilding of tensors and plain containers becomes an inert stub, and tensors stay on disk
until asked for: optimizer states of foreign files are never read.

Both formats of torch.save (zip and the older plain one) and safetensors are known by their first bytes.
"""

import math
import pickle
import struct
import sys
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedIOBase, BufferedReader, BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

# torch.serialization: the number every file of the plain format begins with
_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_CONTAINERS = {
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
}
# expanded tensors repeat their numbers; a few bytes must not ask for all memory
_MOST_REPEATED = 2**28
_PROTOCOL_2 = b"\x80"  # first byte of a pickle of protocol 2 or later
_ZIP = b"PK\x03\x04"


class Inert:
    """Stands for any object that may not be made: takes all that a pickle does to it, and does nothing."""

    __slots__ = ()

    def __new__(cls, *args: object, **kwargs: object) -> "Inert":
        """Make nothing of the arguments."""
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        """Forget the state."""

    def __call__(self, *args: object, **kwargs: object) -> "Inert":
        """Call nothing."""
        return self

    def __setitem__(self, key: object, value: object) -> None:
        """Forget the item."""

    def append(self, item: object) -> None:
        """Forget the item."""

    def add(self, item: object) -> None:
        """Forget the item."""


class StoredTensor(NamedTuple):
    """A tensor still on disk: where its numbers are and how they are laid out."""

    storage: str
    dtype: torch.dtype
    numel: int
    offset: int = 0
    size: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()


class _Rebuild:
    """Takes the place of torch._utils._rebuild_*: notes the layout, touches no memory.

    One instance per mention in a pickle and no attributes, so that no file can change what the next one meets.
    """

    __slots__ = ()

    def __call__(self, source: object, *layout: Any) -> object:
        if not isinstance(source, StoredTensor) or len(layout) < 3:
            return source  # a parameter, made from its tensor; or an inert storage
        offset, size, stride = layout[:3]
        whole = all(type(number) is int and number >= 0 for number in (offset, *size, *stride))
        if not whole or len(size) != len(stride):
            raise pickle.UnpicklingError("a tensor with a layout that is none")
        return source._replace(offset=offset, size=tuple(size), stride=tuple(stride))


class _Unpickler(pickle.Unpickler):
    """Makes plain containers, numbers, strings and StoredTensor; everything else is Inert."""

    def __init__(self, file: BufferedIOBase) -> None:
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, StoredTensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Never imports: what a file may name stands in the tables above."""
        if (module, name) in _CONTAINERS:
            return _CONTAINERS[module, name]
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if module == "torch._utils" and name.startswith("_rebuild_"):
            plain = name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter")
            return _Rebuild() if plain else Inert
        return Inert

    def persistent_load(self, pid: Any) -> object:
        """A storage: ("storage", dtype, key, device, count[, view])."""
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or not isinstance(pid[1], torch.dtype):
            return Inert()
        _, dtype, key, _, count = pid[:5]
        if not isinstance(key, str) or type(count) is not int or count < 0 or (len(pid) > 5 and pid[5] is not None):
            raise pickle.UnpicklingError("a storage of unknown form")
        return self.storages.setdefault(key, StoredTensor(key, dtype, count))


@dataclass(frozen=True)
class Contents:
    """What a file holds: plain containers in `root`, tensors still on disk.

    Args:
        path: the file.
        root: what was saved, with StoredTensor for tensors and Inert for foreign objects.
        places: byte offset of every storage in the file.
    """

    path: Path
    root: object
    places: Mapping[str, int]

    def tensors(self, values: object, what: str) -> dict[str, Tensor]:
        """Read a part of `root` that maps names to tensors.

        Args:
            values: the part.
            what: its name, for messages.

        Raises:
            ValueError: anything in it is no tensor, or the file ends before its numbers.
        """
        if not isinstance(values, Mapping) or not values:
            raise ValueError(f"{self.path}: {what} must map names to tensors, it holds {kind_of(values)}")
        read: dict[str, Tensor] = {}
        with self.path.open("rb") as file:
            for name, value in values.items():
                if not isinstance(name, str) or not isinstance(value, StoredTensor | Tensor):
                    raise ValueError(f"{self.path}: {what}, key {name!r} must be a tensor, it holds {kind_of(value)}")
                read[name] = value if isinstance(value, Tensor) else self._read(file, name, value)
        return read

    def _read(self, file: BufferedReader, name: str, stored: StoredTensor) -> Tensor:
        place, bytes_ = self.places.get(stored.storage), stored.numel * stored.dtype.itemsize
        span = 1 + stored.offset + sum((s - 1) * t for s, t in zip(stored.size, stored.stride, strict=True))
        if 0 in stored.size:
            return torch.empty(stored.size, dtype=stored.dtype)
        inside = span <= stored.numel and math.prod(stored.size) <= max(stored.numel, _MOST_REPEATED)
        if place is None or not inside or place + bytes_ > self.path.stat().st_size:
            raise ValueError(f"{self.path}: the numbers of {name} are not in the file; is it whole? Download it again")
        # a buffer of bytes: numpy, which does the reading, knows no bfloat16
        buffer = torch.empty(bytes_, dtype=torch.uint8)
        file.seek(place)
        file.readinto(memoryview(buffer.numpy()))  # type: ignore[arg-type]
        return buffer.view(stored.dtype).as_strided(stored.size, stored.stride, stored.offset)


def read_contents(path: str | Path) -> Contents:
    """Open a file of weights; nothing in it is run.

    Args:
        path: a file of torch.save (either format) or safetensors; its name does not matter.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, or damaged.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder; name the file in it" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"checkpoint {path} {what}")
    with path.open("rb") as file:
        head = file.read(64)
        file.seek(0)
        try:
            if head.startswith(_ZIP):
                return _read_zip(path, file)
            if head[8:9] == b"{":  # before pickles: the length of its header may begin like one
                return _read_safetensors(path)
            if head.startswith(_PROTOCOL_2):
                return _read_plain(path, file)
        except Exception as error:  # a damaged or hostile pickle can fail in any way
            raise ValueError(
                f"{path} cannot be read as a file of weights ({type(error).__name__}: {error}); "
                "is it whole? Download or copy it again"
            ) from error
    raise ValueError(
        f"{path} is no file of weights ({_guess(path, head)}; it begins with {head[:16]!r}); expected torch.save or "
        "safetensors"
    )


def _guess(path: Path, head: bytes) -> str:
    if not head:
        return "it is empty"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file itself"
    if head.startswith(b"\x1f\x8b") or tarfile.is_tarfile(path):
        return "an archive: unpack it and give the file in it"
    return "a web page, not the file itself" if b"<" in head[:16] else "unknown content"


def _read_zip(path: Path, file: BufferedReader) -> Contents:
    """The zip format: <name>/data.pkl, and <name>/data/<key> for every storage, uncompressed."""
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        name = next((name for name in entries if name == "data.pkl" or name.endswith("/data.pkl")), None)
        if name is None:
            raise ValueError("a zip archive without data.pkl")
        root = name.removesuffix("data.pkl")
        if f"{root}byteorder" in entries and archive.read(f"{root}byteorder") != b"little":
            raise ValueError("written on a big-endian machine")
        unpickler = _Unpickler(BytesIO(archive.read(name)))
        content = unpickler.load()
        places = {}
        for key, stored in unpickler.storages.items():
            entry = entries.get(f"{root}data/{key}")
            if entry is None or entry.file_size < stored.numel * stored.dtype.itemsize:
                continue  # an error only for those who ask for it
            if entry.compress_type != zipfile.ZIP_STORED:
                raise ValueError("compressed storages; save it again with torch.save")
            file.seek(entry.header_offset)
            name_length, extra_length = struct.unpack("<26xHH", file.read(30))
            places[key] = entry.header_offset + 30 + name_length + extra_length
    return Contents(path, content, places)


def _read_plain(path: Path, file: BufferedReader) -> Contents:
    """The format before torch 1.6: magic number, version, system, content, storage keys, then every storage."""
    magic, version, system = (_Unpickler(file).load() for _ in range(3))
    if magic != _MAGIC or version != 1001 or not isinstance(system, dict):
        raise ValueError("a pickle that torch.save did not write")
    if not system.get("little_endian", sys.byteorder == "little"):
        raise ValueError("written on a big-endian machine")
    unpickler = _Unpickler(file)
    content = unpickler.load()
    places = {}
    for key in _Unpickler(file).load():
        (count,) = struct.unpack("<q", file.read(8))
        places[key] = file.tell()
        file.seek(count * unpickler.storages[key].dtype.itemsize, 1)
    return Contents(path, content, places)


def _read_safetensors(path: Path) -> Contents:
    from safetensors.torch import load_file

    return Contents(path, load_file(path), {})


def kind_of(value: object) -> str:
    """What stands in a place where something else was expected, for messages."""
    if isinstance(value, Inert):
        return "an object of a class that is not read (only tensors, numbers, strings and plain containers are)"
    if isinstance(value, StoredTensor | Tensor):
        return "a tensor"
    return "nothing" if not value else f"a {type(value).__name__}"
