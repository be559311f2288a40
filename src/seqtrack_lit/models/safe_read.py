"""Read files of weights without running what is written in them.

A torch file holds a pickle, and a pickle may call any function of the machine that opens it. Official SeqTrack
checkpoints name classes of their source tree, so that torch.load(weights_only=True) refuses them. Here every class
or function but the rebuilding of tensors and plain containers becomes an inert stub, and tensors stay on disk
until asked for: optimizer states of foreign files are never read. (What torch.load with stubs for the names of
get_unsafe_globals_in_checkpoint lacks: docs/decisions/0001-official-behaviour.md.)

What a file can cost is bounded by its size. The zip format has a checksum of every storage, which is compared. The
plain format and safetensors have none: damage shows there only where a number is no longer finite.

Both formats of torch.save (zip and the older plain one) and safetensors are known by their first bytes.
"""

import math
import pickle
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from seqtrack_lit.checks import printable, shown

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
_LARGEST_PICKLE = 2**24  # bytes of all but the numbers; with the optimizer's states it is below 1 MB
_LONGEST_NAME = 200  # of a tensor
_PROTOCOL_2 = b"\x80"  # first byte of a pickle of protocol 2 or later
_ZIP = b"PK\x03\x04"


class Inert:
    """Stands for any object that may not be made; whatever a pickle does to it has no effect."""

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

    @property
    def bytes(self) -> int:
        """Size of the whole storage."""
        return self.numel * self.dtype.itemsize


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


class _Named(dict[object, object]):
    """A dict of what is called by a text or a number; anything else it is given is forgotten.

    Nothing else is ever asked for, and the hash of tuples within tuples can take longer than anybody will wait.
    """

    __slots__ = ()

    def __setitem__(self, key: object, value: object) -> None:
        if isinstance(key, str | int):
            super().__setitem__(key, value)

    def __setstate__(self, state: object) -> None:
        """Forget attributes, as torch's `_metadata` of state dicts."""


class _OrderedDict:
    """Takes the place of collections.OrderedDict; without attributes, like _Rebuild."""

    __slots__ = ()

    def __call__(self, items: Iterable[tuple[object, object]] = ()) -> _Named:
        named = _Named()
        for key, value in items:
            named[key] = value
        return named


class _Unpickler(pickle._Unpickler):
    """Makes plain containers, numbers, strings and StoredTensor; everything else is Inert.

    Python's own unpickler, as the one in C takes gigabytes for a memo that ten bytes ask for, and makes dicts itself.
    """

    def __init__(self, file: BytesIO) -> None:
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, StoredTensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Never imports: what a file may name stands here and in the table above."""
        if (module, name) == ("collections", "OrderedDict"):
            return _OrderedDict()
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

    def _empty_dict(self) -> None:
        self.stack.append(_Named())  # type: ignore[attr-defined]

    def _empty_set(self) -> None:
        self.stack.append(Inert())  # type: ignore[attr-defined]

    def _refused(self) -> None:
        raise pickle.UnpicklingError("an opcode that torch.save does not write")

    dispatch: ClassVar[dict[int, Callable[..., None]]] = {
        **pickle._Unpickler.dispatch,
        pickle.EMPTY_DICT[0]: _empty_dict,
        pickle.EMPTY_SET[0]: _empty_set,
        pickle.DICT[0]: _refused,
        pickle.FROZENSET[0]: _refused,
    }


class Location(NamedTuple):
    """Where the numbers of a storage begin in the file, bytes, and their CRC-32; None where the format has none."""

    offset: int
    checksum: int | None = None


@dataclass(frozen=True)
class Contents:
    """What a file holds: plain containers in `root`, tensors still on disk.

    Args:
        path: the file.
        root: what was saved, with StoredTensor for tensors and Inert for foreign objects.
        locations: of every storage that is there.
    """

    path: Path
    root: object
    locations: Mapping[str, Location]

    def tensors(self, values: object, what: str) -> dict[str, Tensor]:
        """Read a part of `root` that maps names to tensors.

        Args:
            values: the part.
            what: its name, for messages.

        Raises:
            ValueError: anything in it is no tensor, the numbers are not in the file, are damaged or are not finite.
        """
        if not isinstance(values, Mapping) or not values:
            raise ValueError(f"{self.path}: {what} must map names to tensors, it holds {kind_of(values)}")
        for name, value in values.items():
            if not isinstance(name, str) or not name or len(name) > _LONGEST_NAME or printable(name) != name:
                raise ValueError(f"{self.path}: {what} has the key {shown(name)}, which cannot name a tensor")
            if not isinstance(value, StoredTensor | Tensor):
                raise ValueError(f"{self.path}: {what}, key {name!r} must be a tensor, it holds {kind_of(value)}")
        self._check_room([value for value in values.values() if isinstance(value, StoredTensor)], what)
        read: dict[str, Tensor] = {}
        storages: dict[str, Tensor] = {}
        with self.path.open("rb") as file:
            for name, value in values.items():
                read[name] = value if isinstance(value, Tensor) else self._read(file, name, value, storages)
                if not bool(torch.isfinite(read[name]).all()):
                    raise ValueError(
                        f"{self.path}: {what}, key {name!r} holds numbers that are NaN or infinite: training went "
                        "wrong before it was saved, or the file is damaged; take another checkpoint"
                    )
        return read

    def _check_room(self, wanted: list[StoredTensor], what: str) -> None:
        """Tensors that repeat a storage, or members that overlap, must not need more bytes than the file has."""
        views = sum(math.prod(stored.size) * stored.dtype.itemsize for stored in wanted)
        storages = sum({stored.storage: stored.bytes for stored in wanted}.values())
        most, there = max(views, storages), self.path.stat().st_size
        if most > there:
            raise ValueError(
                f"{self.path}: the numbers of {what} are not in the file (bytes needed {most}, there {there}); is it "
                "whole? Download it again"
            )

    def _read(self, file: BufferedReader, name: str, stored: StoredTensor, storages: dict[str, Tensor]) -> Tensor:
        if 0 in stored.size:
            return torch.empty(stored.size, dtype=stored.dtype)
        location = self.locations.get(stored.storage)
        span = 1 + stored.offset + sum((s - 1) * t for s, t in zip(stored.size, stored.stride, strict=True))
        if location is None or span > stored.numel:
            raise ValueError(f"{self.path}: the numbers of {name} are not in the file; is it whole? Download it again")
        if stored.storage not in storages:
            file.seek(location.offset)
            data = bytearray(file.read(stored.bytes))
            if len(data) < stored.bytes:
                raise ValueError(f"{self.path} ends before the numbers of {name}; is it whole? Download it again")
            if location.checksum is not None and zlib.crc32(data) != location.checksum:
                raise ValueError(
                    f"{self.path}: the numbers of {name} do not have the checksum written beside them; the file is "
                    "damaged: download or copy it again"
                )
            storages[stored.storage] = torch.frombuffer(data, dtype=stored.dtype, count=stored.numel)
        return storages[stored.storage].as_strided(stored.size, stored.stride, stored.offset)


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
        what = "is no regular file" if path.exists() else "does not exist"
        raise FileNotFoundError(f"checkpoint {path} {'is a folder; name the file in it' if path.is_dir() else what}")
    with path.open("rb") as file:
        head = file.read(512)
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
                f"{path} cannot be read as a file of weights ({type(error).__name__}: {shown(str(error), 200)}); is it "
                "whole? Download or copy it again"
            ) from error
    raise ValueError(
        f"{path} is no file of weights ({_guess(head)}; it begins with {head[:16]!r}); expected torch.save or "
        "safetensors"
    )


def _guess(head: bytes) -> str:
    if not head:
        return "it is empty"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file itself"
    if head.startswith(b"\x1f\x8b") or head[257:262] == b"ustar":
        return "an archive: unpack it and give the file in it"
    return "a web page, not the file itself" if b"<" in head[:16] else "unknown content"


def _read_zip(path: Path, file: BufferedReader) -> Contents:
    """The zip format: <name>/data.pkl, and <name>/data/<key> for every storage, uncompressed."""
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        name = next((name for name in entries if name == "data.pkl" or name.endswith("/data.pkl")), None)
        if name is None:
            raise ValueError("a zip archive without data.pkl")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
            raise ValueError("compressed; torch.save does not compress: load it with torch and save it again")
        if entries[name].file_size > _LARGEST_PICKLE:
            raise ValueError(f"data.pkl of {entries[name].file_size} bytes, at most {_LARGEST_PICKLE} are read")
        root = name.removesuffix("data.pkl")
        if f"{root}byteorder" in entries and archive.read(f"{root}byteorder") != b"little":
            raise ValueError("written on a big-endian machine")
        unpickler = _Unpickler(BytesIO(archive.read(name)))
        content = unpickler.load()
        locations = {}
        for key, stored in unpickler.storages.items():
            entry = entries.get(f"{root}data/{key}")
            if entry is None or entry.file_size != stored.bytes:
                continue  # an error only for those who ask for it
            file.seek(entry.header_offset)
            name_length, extra_length = struct.unpack("<26xHH", file.read(30))
            locations[key] = Location(entry.header_offset + 30 + name_length + extra_length, entry.CRC)
    return Contents(path, content, locations)


def _read_plain(path: Path, file: BufferedReader) -> Contents:
    """The format before torch 1.6: magic number, version, system, content, storage keys, then every storage."""
    pickles = BytesIO(file.read(_LARGEST_PICKLE))
    magic, version, system = (_Unpickler(pickles).load() for _ in range(3))
    if magic != _MAGIC or version != 1001 or not isinstance(system, dict):
        raise ValueError("a pickle that torch.save did not write")
    if not system.get("little_endian", sys.byteorder == "little"):
        raise ValueError("written on a big-endian machine")
    unpickler = _Unpickler(pickles)
    content = unpickler.load()
    keys = _Unpickler(pickles).load()
    offset, locations = pickles.tell(), {}
    for key in keys:
        file.seek(offset)
        (count,) = struct.unpack("<q", file.read(8))
        stored = unpickler.storages[key]
        if count != stored.numel:
            raise ValueError(f"storage {shown(key)} holds {count} numbers, not {stored.numel}")
        locations[key] = Location(offset + 8)
        offset += 8 + stored.bytes
    return Contents(path, content, locations)


def _read_safetensors(path: Path) -> Contents:
    from seqtrack_lit.models.quantised import load_compact

    state, description = load_compact(path)
    return Contents(path, state if description is None else {"state_dict": state, "seqtrack": description}, {})


def kind_of(value: object) -> str:
    """What stands in a place where something else was expected, for messages."""
    if isinstance(value, Inert):
        return "an object of a class that is not read (only tensors, numbers, strings and plain containers are)"
    if isinstance(value, StoredTensor | Tensor):
        return "a tensor"
    return "nothing" if not value else f"a {type(value).__name__}"
