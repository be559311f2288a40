"""What constructors check of their arguments before anything is built: Hydra coerces no value.

All raise ValueError with the key as the configuration spells it (group and name), what came and what is allowed.
Also: which names from files can name a file, and how text of others is printed.
"""

import math
import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence

LONGEST_NAME = 200  # bytes; file systems take 255, and result files add endings
# Windows takes these for devices, whatever ending follows
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$) *(\..*)?", re.IGNORECASE)


def whole(group: str, low: int, high: int | None = None, **values: object) -> None:
    """Refuse what is not a whole number >= low, and <= high where that is given."""
    bounds = f">= {low}" + ("" if high is None else f" and <= {high}")
    for name, value in values.items():
        good = isinstance(value, int) and not isinstance(value, bool)
        if not good or value < low or (high is not None and value > high):  # type: ignore[operator]
            raise ValueError(f"{_key(group, name)} must be a whole number {bounds}, got {shown(value)}")


def number(group: str, low: float = 0.0, high: float = math.inf, *, above: bool = False, **values: object) -> None:
    """Refuse what is not a finite number in [low, high], or in (low, high] with `above`."""
    bounds = f"{'>' if above else '>='} {low:g}" + ("" if high == math.inf else f" and <= {high:g}")
    for name, value in values.items():
        good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not good or not low <= value <= high or (above and value == low):  # type: ignore[operator]
            raise ValueError(f"{_key(group, name)} must be a number {bounds}, got {value!r}")


def flag(group: str, **values: object) -> None:
    """Refuse what is neither true nor false: any text would count as true."""
    for name, value in values.items():
        if not isinstance(value, bool):
            raise ValueError(f"{_key(group, name)} must be true or false, got {value!r}")


def one_of(group: str, allowed: Sequence[str], **values: object) -> None:
    """Refuse what is not one of the words."""
    for name, value in values.items():
        if value not in allowed:
            raise ValueError(f"{_key(group, name)} must be one of {', '.join(allowed)}, got {value!r}")


def path_part(where: str, value: object) -> str:
    """A name that came from a file, if it can name a file or folder inside another one, on every system.

    Args:
        where: file and field, the beginning of the message.
        value: the name.

    Raises:
        ValueError: it is no text, empty, longer than 200 bytes, not printable, more than one part of a path, or a
            name that some system takes for something else.
    """
    reason = _no_path_part(value)
    if reason:
        raise ValueError(f"{where} is {shown(value)}, which cannot name a file or folder: {reason}")
    return str(value)


def _no_path_part(value: object) -> str:
    """Why not; empty where it can."""
    if not isinstance(value, str):
        return "it must be text"
    if not value:
        return "it is empty"
    if printable(value) != value:
        return "it must be printable"
    if len(value.encode()) > LONGEST_NAME:
        return f"it is longer than {LONGEST_NAME} bytes"
    if value in (".", "..") or set(value) & set("/\\:"):
        return "it must be one name, without / \\ : or .."
    if value[-1] in ". ":
        return "it must not end with a dot or a blank"
    return "Windows takes it for a device" if _DEVICES.fullmatch(value) else ""


def same_files(names: Collection[str]) -> Iterator[tuple[str, str]]:
    """Pairs of sequences that would share a result file, as evaluation/results.py names them.

    >>> list(same_files(["lap", "lap_time", "lap_2", "car_002_confidence", "car"]))
    [('lap', 'lap_time'), ('car', 'car_002_confidence')]
    """
    known = set(names)
    for name in names:
        plain = re.sub(r"_(time|confidence|update)$", "", name)
        for other in dict.fromkeys((plain, re.sub(r"_[0-9]{3,}$", "", plain))):
            if other != name and other in known:
                yield other, name


def printable(text: str) -> str:
    r"""Text for a screen: control characters, escape codes and what turns the direction of writing are spelt out.

    >>> printable("a\x1b[31mred\nnext")
    'a\\x1b[31mred\\nnext'
    """
    good = (c.isprintable() or unicodedata.category(c) == "Zs" for c in text)
    return "".join(c if ok else c.encode("unicode_escape").decode() for c, ok in zip(text, good, strict=True))


def shown(value: object, longest: int = 80) -> str:
    """A value from a file for a message: on one line, printable, of bounded length."""
    if isinstance(value, str):
        text = repr(value[: longest + 1])
    elif isinstance(value, dict | list | tuple | set):
        text = f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    else:
        try:
            text = repr(value)
        except ValueError:  # an integer of thousands of digits
            text = "a number of thousands of digits"
    return printable(text if len(text) <= longest else f"{text[:longest]}...")


def _key(group: str, name: str) -> str:
    return f"{group}.{name}" if group else name
