"""Reading files of others with bounds and typed fields; writing files whole or not at all; order and flat names.

What reads raises ValueError or FileNotFoundError with the file, the field, what was expected and what to do.
"""

import codecs
import math
import os
import platform
import re
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from seqtrack_lit.checks import path_part, printable, shown

LARGEST = 64_000_000  # bytes; scores.json of TrackingNet's 511 videos by seven conventions is below 1 MB
_MARKS = (  # UTF-32 first: its little-endian mark begins as that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DEEPEST = 50  # levels of a YAML
# What names of unfinished files begin with: the machine; then comes the process.
_HERE = f".{re.sub(r'[^A-Za-z0-9]', '', platform.node())[:40]}-"


def there(path: Path) -> bool:
    """Whether there is something of this name; a name that no file can have is the name of nothing."""
    return not why_not_there(path)


def why_not_there(path: Path) -> str:
    """Why nothing of this name can be opened, in a few words; empty where there is something."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return "no such file or folder"
    except (OSError, ValueError) as error:  # too long, a circle of links, a NUL
        return str(getattr(error, "strerror", None) or error)
    return ""


def read_bytes(path: Path, *, largest: int = LARGEST) -> bytes:
    """The content of a regular file of bounded size.

    Args:
        path: the file; a link of the user's own is followed.
        largest: bytes at most.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is a folder, a pipe or a device, or larger.
    """
    try:
        known = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"no file {path}") from None
    except (OSError, ValueError) as error:  # a name that is too long, a circle of links, a NUL
        raise ValueError(f"{shown(str(path))} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not stat.S_ISREG(known.st_mode):
        raise ValueError(f"{path} is no regular file but a folder, a pipe or a device; give the file itself")
    size = known.st_size
    with path.open("rb", buffering=0) as file:
        data = file.read(size + 1) if size <= largest else b""
        if len(data) != size:  # sizes in /proc are not true
            while size <= largest and (part := file.read(1 << 20)):
                data += part
                size = max(size, len(data))
    if size > largest:
        raise ValueError(f"{path} is larger than the {largest / 1e6:g} MB that such a file can have; is it another?")
    return data


def encoding_of(data: bytes) -> str:
    """The encoding of text: UTF-16 or UTF-32 with a byte order mark, as Windows programs write it, else UTF-8."""
    return next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8-sig")


def read_text(path: Path, *, largest: int = LARGEST) -> str:
    """The text of a file in UTF-8, with or without a byte order mark; raises as `read_bytes`."""
    try:
        return read_bytes(path, largest=largest).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8 (byte {error.start}); save it as UTF-8") from None


def read_json(path: Path, kind: Any, remedy: str, *, largest: int = LARGEST) -> Any:
    """A JSON file whose content has the type `kind`.

    Args:
        path: the file.
        kind: anything pydantic validates: dict[str, float], a TypedDict (of typing_extensions), a dataclass,
            bounds (annotated_types). Strict: no text becomes a number, nothing is NaN or infinite.
        remedy: what to do when the file is of no use, as "score again"; the end of each message.
        largest: bytes at most.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no JSON, or a field is of another type; names file and field.
    """
    from pydantic import ValidationError
    from pydantic_core import from_json

    data = read_bytes(path, largest=largest)
    if re.search(rb"\d{400}", data):  # Python refuses to write such a number down again
        raise ValueError(f"{path}: a number of hundreds of digits; {remedy}")
    try:
        content = _model(kind).model_validate_json(data).root
    except ValidationError as error:
        raise ValueError(f"{path}: {_first(error)}; {remedy}") from None
    for field, value in _not_finite(from_json(data)):  # where the type leaves open what a field holds
        raise ValueError(f"{path}: {printable(field)[:200]}: Input should be a finite number, got {value}; {remedy}")
    return content


def _not_finite(value: object, above: str = "") -> Iterator[tuple[str, float]]:
    """The fields of plain data that are NaN or infinite."""
    if isinstance(value, dict | list):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _not_finite(child, f"{above}.{key}" if above else str(key))
    elif isinstance(value, float) and not math.isfinite(value):
        yield above, value


def typed(value: object, kind: Any, where: str, remedy: str = "") -> Any:
    """`value`, checked to be of the type `kind`: for fields that were read by other means than `read_json`.

    Args:
        value: plain data: dicts, lists, numbers, text.
        kind: as in `read_json`; dicts of known keys are TypedDicts.
        where: file and field, the beginning of the message.
        remedy: what to do, its end.

    Raises:
        ValueError: names the field below `where`, what was expected and what came.
    """
    from pydantic import ValidationError

    try:
        return _model(kind).model_validate(value).root
    except ValidationError as error:
        raise ValueError(f"{where}: {_first(error)}{'; ' if remedy else ''}{remedy}") from None


@cache
def _model(kind: Any) -> Any:
    """What checks values of a type; a TypedDict or dataclass with a __pydantic_config__ of its own keeps to that."""
    from pydantic import ConfigDict, RootModel

    class Root(RootModel[kind]):
        model_config = ConfigDict(strict=True, allow_inf_nan=False)

    return Root


def _first(error: Any) -> str:
    """The first thing wrong, in one line: field, what was expected, what came."""
    problems = error.errors(include_url=False, include_context=False)
    first = problems[0]
    field = ".".join(str(part) for part in first["loc"])
    text = first["msg"].removeprefix("Value error, ")
    came = "" if first["type"] in ("json_invalid", "missing") else f", got {shown(first['input'])}"
    more = f" ({len(problems) - 1} more like it)" if len(problems) > 1 else ""
    return f"{printable(field)[:200]}: {text}{came}{more}" if field else f"{text}{came}{more}"


def read_yaml(path: Path, *, largest: int = 1_000_000) -> object:
    """A YAML file of plain values: no tags, no aliases (a few lines of them unfold to gigabytes), bounded depth.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such YAML; names the line.
    """
    import yaml  # type: ignore[import-untyped]

    class Plain(yaml.SafeLoader):  # type: ignore[misc]
        """Refuses what plain settings do not need."""

        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.MarkedYAMLError(problem="an alias (*)", problem_mark=self.peek_event().start_mark)
            if self.depth >= _DEEPEST:
                raise yaml.MarkedYAMLError(problem="nested too deeply", problem_mark=self.peek_event().start_mark)
            self.depth += 1
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

    text = read_text(path, largest=largest)
    try:
        return yaml.load(text, Plain)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"{path}{line}: no plain YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ValueError(f"{path}: no plain YAML: {shown(' '.join(str(error).split()), 200)}") from None


def inside(folder: Path, name: object, where: str) -> Path:
    """The file that a file from somebody else names, in its own folder or below it.

    Args:
        folder: where it must lie; itself may be reached by a link.
        name: as it stands in the file; "/" separates folders.
        where: file and field, for the message.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no relative path, it leads out of the folder, through a link, or to something else than a file.
    """
    if not isinstance(name, str):
        raise ValueError(f"{where} must be the name of a file in {folder}, got {shown(name)}")
    if name.startswith("/"):
        raise ValueError(f"{where} is {shown(name)}, which lies outside of {folder}; copy the file there")
    parts = [path_part(where, part) for part in name.split("/")]
    path = folder
    for part in parts:
        path = path / part
        try:
            mode = os.lstat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(f"{where}: there is no {path}") from None
        if stat.S_ISLNK(mode):
            raise ValueError(f"{where}: {path} is a link, and links are not followed; copy the file there")
    if not stat.S_ISREG(mode):
        raise ValueError(f"{where}: {path} is no regular file")
    return path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`; leaving the block flushes the file there to the disk and renames it to `path`.

    After an error the temporary file is gone, and what was at `path` before is untouched.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f"{_HERE}{os.getpid()}-", suffix=".part", dir=path.parent)
        os.close(descriptor)
        yield Path(temporary)
        with Path(temporary).open("rb+") as file:
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)  # mkstemp makes private files; results are to be shared
        Path(temporary).replace(path)
    except BaseException as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(
                error.errno,
                f"could not write {path}: {error.strerror}. Every file written before is whole and stays; make "
                "room (or choose another folder) and give the same command again: what is finished is skipped",
            ) from error
        raise


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all; raises as `replacing`."""
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def remove_leftovers(*folders: Path) -> None:
    """Delete the unfinished files that killed processes of this machine left in some folders."""
    for path in (path for folder in folders for path in folder.glob(f"{_HERE}*.part")):
        pid = path.name.removeprefix(_HERE).partition("-")[0]
        if pid.isdigit() and not _is_running(int(pid)):
            path.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    if os.name == "nt":  # signal 0 would end it there
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's
        return True
    return True


def flatten(tree: Any, above: str = "") -> dict[str, Any]:
    """The leaves of nested mappings by dotted key; lists are leaves, empty mappings have none.

    >>> flatten({"model": {"memory": "search", "encoder": {"depth": 4}}, "extra": {}})
    {'model.memory': 'search', 'model.encoder.depth': 4}
    """
    if not isinstance(tree, Mapping):
        return {above: tree}
    return {
        key: leaf
        for name, child in tree.items()
        for key, leaf in flatten(child, f"{above}.{name}" if above else str(name)).items()
    }


def natural_order(name: str) -> tuple[list[tuple[str, int]], str]:
    """A key for sorting names with numbers in them: bins-16 before bins-128."""
    parts = re.findall(r"([^0-9]*)([0-9]*)", name)
    return [(text, int(digits or -1)) for text, digits in parts], name
