"""Ways to damage a file or to make it hostile, by kind; seeded, each with a name that says what was done."""

import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from tests.campaign.harness import Reader

Damage = tuple[str, Callable[[Path], None]]

HOSTILE_NAMES = (
    "../../outside/secret.txt", "/etc/passwd", "..", "", "a\x00b", "\x1b[31mred\x1b]0;t\x07", "n" * 300, "NUL", "a\nb",
    "<script>alert(1)</script>", "${oc.env:HOME}", "\ud800", "$(touch ../outside/ran)", "\u202egnp.exe",
)  # fmt: skip
HUGE = (10**400, 1e308, -1e308, float("nan"), float("inf"), -1, 0, 2**63, 1e20, 10_000_000)
OTHERS: tuple[Any, ...] = (
    None,
    True,
    "x",
    [],
    {},
    [[[]]],
    {"_target_": "os.system", "command": "touch ../outside/ran"},
)
CELLS = (
    "1e9", "nan", "inf", "-inf", "x", "", "1e400", "9" * 6000, "\x1b[31m", "0x10", "1,5", "-1", "1_0", "٣", "1e-400",
    "=cmd|' /C calc'!A0", "\ufeff1", "None",
)  # fmt: skip


def damages(reader: Reader, rng: np.random.Generator) -> Iterator[Damage]:
    """All damages of a reader's file."""
    yield from reader.extra.items()
    yield from _places(reader.file)
    yield from _bytes(reader.file, rng)
    kinds = {"json": _json, "yaml": _yaml, "numbers": _numbers, "text": _text, "zip": _zip}
    if reader.kind in kinds:
        yield from kinds[reader.kind](reader.file, rng)


def rewritten(file: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """A damage that changes the content."""

    def damage(folder: Path) -> None:
        path = folder / file
        path.write_bytes(change(path.read_bytes()))

    return damage


def replaced(file: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    """A damage that puts something else in the file's place."""

    def damage(folder: Path) -> None:
        (folder / file).unlink()
        make(folder / file)

    return damage


def _places(file: str) -> Iterator[Damage]:
    """Not a file, or another one."""
    yield "gone", replaced(file, lambda path: None)
    yield "a folder", replaced(file, lambda path: path.mkdir())
    yield "a pipe", replaced(file, lambda path: os.mkfifo(path))
    yield "a device without end", replaced(file, lambda path: path.symlink_to("/dev/zero"))
    yield "a link outside", replaced(file, lambda path: path.symlink_to(_outside(path)))
    yield "a link to itself", replaced(file, lambda path: path.symlink_to(path.name))
    yield "ten gigabytes of nothing", replaced(file, _sparse)


def _outside(path: Path) -> Path:
    root = next(parent for parent in path.parents if parent.name == "inside").parent
    return root / "outside" / "secret.txt"


def _sparse(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(10 << 30)


def _bytes(file: str, rng: np.random.Generator) -> Iterator[Damage]:
    """What disks, networks and editors do."""

    def flip(count: int, where: float) -> Callable[[bytes], bytes]:
        def change(data: bytes) -> bytes:
            array = bytearray(data)
            for step in range(count):
                place = int((where + 0.37 * step) % 1 * len(array))
                array[place] ^= 1 << (place + step) % 8
            return bytes(array)

        return change

    for number in range(6):
        yield f"bits flipped ({number})", rewritten(file, flip(1 if number < 4 else 20, float(rng.random())))
    for share in (0.0, *rng.random(4)):
        yield f"cut at {share:.2f}", rewritten(file, lambda data, at=share: data[: int(at * len(data))])
    for share in rng.random(2):
        yield (
            f"zeros from {share:.2f}",
            rewritten(
                file, lambda data, at=share: data[: int(at * len(data))] + bytes(len(data) - int(at * len(data)))
            ),
        )
    yield "a part twice", rewritten(file, lambda data: data[: len(data) // 2] + data[len(data) // 3 :])
    yield "halves swapped", rewritten(file, lambda data: data[len(data) // 2 :] + data[: len(data) // 2])
    yield "rubbish behind", rewritten(file, lambda data: data + b"\x00\xff\xfe rubbish")
    noise = rng.bytes(500)
    yield "rubbish", rewritten(file, lambda data: noise)
    yield "another file's head", rewritten(file, lambda data: b"\x89PNG\r\n\x1a\n" + data)
    yield "UTF-16", rewritten(file, lambda data: data.decode("latin-1").encode("utf-16"))
    yield "a web page", rewritten(file, lambda data: b"<!doctype html><title>404</title>")
    yield (
        "a Git LFS pointer",
        rewritten(file, lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
    )


def _leaves(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield from _leaves(value, (*path, key))


def _put(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[path[0]] = _put(copy[path[0]], path[1:], value)
    return copy


def _parent_without(tree: Any, path: tuple[Any, ...]) -> Any:
    if len(path) == 1:
        if isinstance(tree, dict):
            return {key: value for key, value in tree.items() if key != path[0]}
        return [value for place, value in enumerate(tree) if place != path[0]]
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[path[0]] = _parent_without(copy[path[0]], path[1:])
    return copy


def changed_trees(tree: Any, rng: np.random.Generator, count: int = 18) -> Iterator[tuple[str, Any]]:
    """Fields of other types, hostile names, absurd numbers, missing and unknown fields."""
    places = list(_leaves(tree))
    values = [*OTHERS, *HOSTILE_NAMES, *HUGE]
    for value in [values[place] for place in rng.permutation(len(values))[:count]]:
        path = places[rng.integers(len(places))]
        yield f"{'.'.join(map(str, path)) or 'all'} = {str(value)[:40]!a}", _put(tree, path, value)
    for path in [places[1:][place] for place in rng.permutation(len(places) - 1)[:3]]:
        yield f"{'.'.join(map(str, path))} missing", _parent_without(tree, path)
    if isinstance(tree, dict):
        yield "an unknown field", {**tree, "hydra": {"callbacks": {"x": OTHERS[-1]}}}


def _json(file: str, rng: np.random.Generator) -> Iterator[Damage]:
    def change(number: int, seed: int) -> Callable[[bytes], bytes]:
        def damage(data: bytes) -> bytes:
            _, tree = list(changed_trees(json.loads(data), np.random.default_rng(seed)))[number]
            return json.dumps(tree).encode()

        return damage

    seed = int(rng.integers(1 << 30))
    for number in range(20):
        yield f"fields ({seed}, {number})", rewritten(file, change(number, seed))
    yield "lists in lists", rewritten(file, lambda data: b"[" * 200_000)
    yield "objects in objects", rewritten(file, lambda data: b'{"a":' * 100_000 + b"1" + b"}" * 100_000)
    yield "a field twice", rewritten(file, lambda data: data.replace(b"{", b'{"kind": 1, "kind": [], ', 1))
    yield "a hundred megabytes", rewritten(file, lambda data: b"[" + b"0," * 50_000_000 + b"0]")


def _yaml(file: str, rng: np.random.Generator) -> Iterator[Damage]:
    def change(number: int, seed: int) -> Callable[[bytes], bytes]:
        def damage(data: bytes) -> bytes:
            _, tree = list(changed_trees(yaml.safe_load(data), np.random.default_rng(seed)))[number]
            return yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass")

        return damage

    seed = int(rng.integers(1 << 30))
    for number in range(20):
        yield f"fields ({seed}, {number})", rewritten(file, change(number, seed))
    laughs = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10))
    yield "a billion laughs", rewritten(file, lambda data: laughs.encode())
    yield "lists in lists", rewritten(file, lambda data: b"a: " + b"[" * 20_000)
    run = b"!!python/object/apply:os.system ['touch ../outside/ran']\n"
    yield "a command", rewritten(file, lambda data: b"a: " + run)
    yield "a command at the top", rewritten(file, lambda data: run)
    yield "two documents", rewritten(file, lambda data: data + b"\n---\n" + data)
    yield "itself", rewritten(file, lambda data: b"a: &a\n  b: *a\n")


def _numbers(file: str, rng: np.random.Generator) -> Iterator[Damage]:
    """Tables of numbers as text."""

    def cell(text: str, where: float) -> Callable[[bytes], bytes]:
        def change(data: bytes) -> bytes:
            lines = data.decode().splitlines()
            line = int(where * len(lines))
            cells = lines[line].split(",")
            cells[int(where * 97) % len(cells)] = text
            return "\n".join([*lines[:line], ",".join(cells), *lines[line + 1 :], ""]).encode("utf-8", "surrogatepass")

        return change

    for text in CELLS:
        yield f"a cell {text[:20]!a}", rewritten(file, cell(text, float(rng.random())))
    yield "twice as many rows", rewritten(file, lambda data: data + data)
    yield "a row less", rewritten(file, lambda data: b"\n".join(data.rstrip().split(b"\n")[:-1]) + b"\n")
    yield "blank lines", rewritten(file, lambda data: data.replace(b"\n", b"\n\n"))
    yield "a column more", rewritten(file, lambda data: data.replace(b"\n", b",7\n"))
    yield "a line of a million cells", rewritten(file, lambda data: b"1," * 1_000_000 + b"1\n" + data)
    yield "ten million rows", rewritten(file, lambda data: b"1,2,3,4\n" * 10_000_000)
    yield "old line ends", rewritten(file, lambda data: data.replace(b"\n", b"\r"))


def _text(file: str, rng: np.random.Generator) -> Iterator[Damage]:
    """Lists of names, a line each."""
    for name in HOSTILE_NAMES:
        line = name.encode("utf-8", "surrogatepass")
        yield f"a line {name[:20]!a}", rewritten(file, lambda data, line=line: line + b"\n" + data)
    yield "every line twice", rewritten(file, lambda data: data + data)
    yield "a million lines", rewritten(file, lambda data: b"".join(b"v%d\n" % i for i in range(1_000_000)))


def _zip(file: str, rng: np.random.Generator) -> Iterator[Damage]:
    def again(add: Callable[[zipfile.ZipFile], None], method: int = zipfile.ZIP_DEFLATED) -> Callable[[bytes], bytes]:
        def change(data: bytes) -> bytes:
            out = io.BytesIO()
            with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", method) as new:
                for entry in old.infolist():
                    new.writestr(entry.filename, old.read(entry))
                add(new)
            return out.getvalue()

        return change

    for name in HOSTILE_NAMES:
        text = name.encode("utf-8", "replace").decode() or "empty"
        yield f"a file {name[:20]!a}", rewritten(file, again(lambda new, text=text: new.writestr(text, b"1,2,3,4\n")))
    zeros = bytes(1 << 20)

    def bomb(new: zipfile.ZipFile) -> None:
        with new.open("bomb.txt", "w", force_zip64=True) as stream:
            for _ in range(600):
                stream.write(zeros)

    def link(new: zipfile.ZipFile) -> None:
        entry = zipfile.ZipInfo("link.txt")
        entry.external_attr = 0o120777 << 16
        new.writestr(entry, "../outside/secret.txt")

    yield "a bomb", rewritten(file, again(bomb))
    yield "a link", rewritten(file, again(link))
    yield "LZMA", rewritten(file, again(lambda new: None, zipfile.ZIP_LZMA))
    yield "ten thousand files", rewritten(file, again(lambda new: [new.writestr(f"{i}", b"") for i in range(10_000)]))
    yield "a size that lies", rewritten(file, _lying)


def _lying(data: bytes) -> bytes:
    """The directory says that each file is a byte long."""
    array = bytearray(data)
    place = array.find(b"PK\x01\x02")
    while place >= 0:
        array[place + 24 : place + 28] = (1).to_bytes(4, "little")
        place = array.find(b"PK\x01\x02", place + 4)
    return bytes(array)
