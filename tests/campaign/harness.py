"""One hostile or damaged file: read in a child of this process with bounds on memory and time, then judged.

The child is a fork, so nothing is imported again, and a crash, a hang or a bomb ends it alone. Verdicts:

    refused     an error that users see on one line, with the name of the file
    handled     read, and the same as from the undamaged file; or another valid file (`Reader.sane` says what that is)
    lost        a crash, no end, too much memory, a traceback
    wrong       other values though the format can tell; values no reader may give; a file outside written, deleted or
                shown; foreign code run
"""

import hashlib
import json
import os
import resource
import select
import signal
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seqtrack_lit.cli.hydra.runtime import USER_ERRORS, one_line

SECRET = "the key of another house"
SECONDS = float(os.environ.get("CAMPAIGN_SECONDS", "60"))  # a reader takes less than one; machines may be busy
MEMORY = 1_500_000_000  # bytes more than the process has
VERDICTS = ("refused", "handled", "lost", "wrong")

Place = Path
Value = object  # plain: compared as text


@dataclass(frozen=True)
class Reader:
    """What reads a kind of file.

    Args:
        name: of the kind, as the table in docs/reliability.md calls it.
        file: what is damaged, below the folder that `make` fills.
        make: fills an empty folder with good files; the same each time.
        read: reads the folder; gives back plain values.
        kind: which damages fit: text, numbers, json, yaml, zip, binary.
        sane: whether values differing from the good ones are still such as a file of this kind may hold.
        exact: the format has a checksum: differing values are always wrong.
        names: texts that an error may name instead of the file's own name.
        extra: further damages by name, each done to the folder.
        writes: paths below the folder the reader may write to.
    """

    name: str
    file: str
    make: Callable[[Place], None]
    read: Callable[[Place], Value]
    kind: str
    sane: Callable[[Value], bool] = lambda value: True
    exact: bool = False
    names: tuple[str, ...] = ()
    extra: "dict[str, Callable[[Place], None]]" = field(default_factory=dict)
    writes: tuple[str, ...] = ()


class Outcome(NamedTuple):
    """What came of a damaged file."""

    verdict: str
    detail: str


def plain(value: Value) -> Value:
    """Arrays and paths as text, so that values can be compared and sent."""
    if isinstance(value, np.ndarray):
        return [str(value.dtype), list(value.shape), hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else repr(value)


def digest(value: Value) -> str:
    """Equal values, equal text."""
    return hashlib.sha256(json.dumps(plain(value), sort_keys=True, default=repr).encode()).hexdigest()


def listing(root: Path) -> dict[str, str]:
    """What is in a folder, without following links or opening pipes."""
    found = {}
    for at, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(at) / name
            if path.is_symlink():
                found[str(path.relative_to(root))] = f"link to {path.readlink()}"
            elif path.is_file():
                found[str(path.relative_to(root))] = f"{path.stat().st_size} {path.stat().st_mtime_ns}"
            else:
                found[str(path.relative_to(root))] = "other"
    return found


def attempt(reader: Reader, root: Path, damage: Callable[[Place], None] | None, good: str | None = None) -> Outcome:
    """Make the good files in `<root>/inside`, damage them, read them; `<root>/outside` must stay as it is.

    Args:
        reader: what reads them.
        root: an empty folder.
        damage: done to the folder; None: nothing, and the digest of the values is the detail.
        good: digest of the undamaged values.
    """
    inside, outside = root / "inside", root / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "secret.txt").write_text(SECRET)
    reader.make(inside)
    if damage is not None:
        damage(inside)
    before, around = listing(outside), listing(inside)
    kind, text, sane = _in_child(reader, inside)
    if listing(outside) != before:
        return Outcome("wrong", f"outside changed: {sorted(set(listing(outside).items()) ^ set(before.items()))[:2]}")
    written = [path for path, what in listing(inside).items() if around.get(path) != what]
    if foreign := [path for path in written if not path.startswith(reader.writes or ("\0",))]:
        return Outcome("wrong", f"written where nothing is to be written: {foreign[:3]}")
    if any(SECRET in one.read_text(errors="ignore") for one in _readable(inside, written)):
        return Outcome("wrong", "a file outside was copied")
    if kind == "value":
        same = text == good
        if damage is None:
            return Outcome("handled", text)
        fine = same or (sane and not reader.exact)
        return Outcome("handled" if fine else "wrong", "the same" if same else "another valid file" if fine else text)
    if kind == "error":
        named = any(name in text for name in (Path(reader.file).name, *reader.names))
        hidden = SECRET in text and bool(reader.writes)  # a page is for others
        if hidden or not named or len(text) > 2000:
            return Outcome(
                "wrong", f"shows a file outside: {text}" if hidden else f"does not name the file: {text[:300]}"
            )
        return Outcome("refused", text)
    return Outcome("lost", f"{kind}: {text}")


def _readable(root: Path, names: list[str]) -> Iterator[Path]:
    for name in names:
        path = root / name
        if path.is_file() and not path.is_symlink() and path.stat().st_size < 1e7:
            yield path


def _in_child(reader: Reader, folder: Path) -> tuple[str, str, bool]:
    """value, error or what else ended the child; the digest or the message; whether the values are sane."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        try:
            answer = _answer(reader, folder)
            os.write(theirs, json.dumps((answer[0], answer[1][:5000], answer[2])).encode())
        finally:
            os._exit(0)
    os.close(theirs)
    content = b""
    with os.fdopen(ours, "rb", buffering=0) as pipe:
        while select.select([pipe], [], [], SECONDS)[0]:
            part = pipe.read(65536)
            if not part:
                break
            content += part
        else:
            os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return ("no end" if number == signal.SIGKILL else f"crash ({signal.Signals(number).name})"), "", False
    kind, text, sane = json.loads(content) if content else ("crash", "no answer", False)
    return kind, text, sane


def _answer(reader: Reader, folder: Path) -> tuple[str, str, bool]:
    for stream in (1, 2):  # what libraries print
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
    try:
        value = reader.read(folder)
        return "value", digest(value), bool(reader.sane(value))
    except USER_ERRORS as error:
        return "error", one_line(error), True
    except MemoryError:
        return "too much memory", "", False
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return "traceback", f"{type(error).__name__}: {one_line(error)[:200]} ({place.filename}:{place.lineno})", False
