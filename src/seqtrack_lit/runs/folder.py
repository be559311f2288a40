"""The folder of a run: names of its files; run.json, config.yaml and metrics.csv written and read.

config.yaml                                    the settings, interpolations kept
run.json                                       metadata: status, revision, versions, machine, data, overrides ...
metrics.csv                                    a row a step, a column a number
checkpoints/, pictures/, train.log             by training
results/<tracker>/<benchmark>/                 by evaluation
"""

import csv
import hmac
import io
import json
import os
import platform
import secrets
import shutil
import subprocess
import sys
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Le
from typing_extensions import TypedDict

from seqtrack_lit.checks import shown
from seqtrack_lit.files import flatten, read_json, read_text, read_yaml, typed, write_atomic
from seqtrack_lit.runs.migrate import migrate_metadata, migrate_settings

METADATA, CONFIG, METRICS, PICTURES = "run.json", "config.yaml", "metrics.csv", "pictures"

_WRITTEN = ("checkpoints", PICTURES, METRICS, METADATA, "wandb_id.txt", "wandb", "tensorboard", "nonfinite_*")
PACKAGES = (
    "seqtrack-lit", "torch", "torchvision", "lightning", "timm", "numpy", "opencv-contrib-python-headless",
    "simplejpeg", "albumentations", "hydra-core", "omegaconf", "wandb",
)  # fmt: skip

_LARGEST = 1 << 20  # bytes of run.json


Number = Annotated[float, Ge(-1e15), Le(1e15)]


class Metadata(TypedDict, total=False):
    """What run.json holds, where it is used again."""

    __pydantic_config__ = {"extra": "allow", "strict": True}  # type: ignore[misc]  # noqa: RUF012

    status: str | None
    group: str | None
    overrides: list[str]
    seal: str | None
    best: Number | None
    seconds: Number | None
    parameters: Number | None
    precision: str
    start: str
    eval_checkpoint: str
    length: dict[str, object] | None
    environment: dict[str, object] | None
    data: dict[str, object] | None
    learning_rates: dict[str, object]


def environment() -> dict[str, Any]:
    """Code revision, package versions, Python and machine."""
    versions: dict[str, str | None] = dict.fromkeys(PACKAGES)
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return {
        "revision": revision(),
        "versions": versions,
        "python": platform.python_version(),
        "machine": f"{platform.platform()}, {platform.processor() or platform.machine()}",
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def revision() -> dict[str, Any] | None:
    """The commit of the checkout this code runs from, and whether files differ from it; None where there is none."""
    root = Path(__file__).resolve().parents[3]

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root:
            return None  # installed inside somebody else's repository
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.CalledProcessError):
        return None


def write_metadata(folder: Path, metadata: Mapping[str, Any]) -> None:
    """Add metadata to a run's run.json, atomically.

    Raises:
        OSError: the disk is full; what was there stays, but for the status.
    """
    path = folder / METADATA
    known = read_metadata(folder)
    try:
        write_atomic(path, json.dumps({**known, **metadata}, indent=1) + "\n")
    except OSError:
        _overwrite_status(path, known.get("status"), metadata.get("status"))
        raise


def _overwrite_status(path: Path, old: object, new: object) -> None:
    """Another word in the place of the old one: a full disk has no room for a new file, but for these bytes."""
    was, now = f'"status": "{old}",'.encode(), f'"status": "{new}",'.encode()
    if not old or not new or len(now) > len(was):
        return
    with suppress(OSError), path.open("r+b") as file:
        place = file.read().find(was)
        if place >= 0:
            file.seek(place)
            file.write(now.ljust(len(was)))


def read_metadata(folder: Path) -> dict[str, Any]:
    """A run's metadata; empty where there is no run.json.

    Raises:
        ValueError: it is no JSON, or a field is of another type than those that are written here.
    """
    path, remedy = folder / METADATA, "the file was changed, or is not a run's"
    try:
        metadata = migrate_metadata(read_json(path, dict, remedy, largest=_LARGEST))
    except FileNotFoundError:
        return {}
    typed(metadata, Metadata, str(path), remedy)
    return metadata


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings a run was begun with, by today's keys, interpolations kept; empty where there is no config.yaml.

    Raises:
        ValueError: it is no plain YAML of bounded size, or no mapping.
    """
    path = folder / CONFIG
    try:
        settings: dict[str, Any] = typed(read_yaml(path), dict, str(path), "it does not hold a run's settings")
    except FileNotFoundError:
        return {}
    return migrate_settings(settings)


def remove_run(folder: Path) -> None:
    """Delete what a training wrote, and nothing else."""
    for path in [path for pattern in _WRITTEN for path in folder.glob(pattern)]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def seal_of(overrides: Sequence[str]) -> str | None:
    """What shows later that this user gave these overrides: a code that only a key in the home folder can make.

    Runs of somebody else, whose run.json may say anything, have none that fits. None where no key can be kept.
    """
    try:
        path = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config").expanduser() / "seqtrack_lit" / "key"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{secrets.token_hex(8)}")
            part.touch(mode=0o600)
            part.write_text(secrets.token_hex(32))
            with suppress(FileExistsError):
                os.link(part, path)  # another process may be as far
            part.unlink()
        key = path.read_bytes()
        if not key:
            return None  # lost in a crash: anybody has this one
    except (OSError, RuntimeError):  # no home folder, or none that can be written to
        return None
    return hmac.new(key, json.dumps(list(overrides)).encode(), "sha256").hexdigest()


def is_own(metadata: Mapping[str, Any]) -> bool:
    """Whether this user gave the overrides in a run.json."""
    seal, expected = metadata.get("seal"), seal_of(metadata.get("overrides", []))
    return seal is not None and expected is not None and hmac.compare_digest(seal, expected)


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Why a run that goes on may not end bitwise like an uninterrupted one: code, packages, device, data."""
    before, after = (
        flatten({**(of.get("environment") or {}), "device": of.get("device"), "data": of.get("data")})
        for of in (then, now)
    )
    parts = ("revision", "versions", "device", "data")
    return [
        f"{key} {before.get(key)} -> {after[key]}"
        for key in after
        if key.startswith(parts) and before.get(key) != after[key]
    ]


def check_same(
    folder: Path, settings: Mapping[str, Any], parts: Sequence[str], *, harmless: Container[str] = ()
) -> None:
    """These parts of a configuration are those the run in this folder was begun with.

    Args:
        folder: of the run.
        settings: the configuration.
        parts: names of its parts.
        harmless: names of settings, in whatever part, that may differ.

    Raises:
        ValueError: names the first setting that differs.
    """
    former, settings = read_settings(folder), migrate_settings(settings)
    for part in parts:
        then, now = flatten(former.get(part), part), flatten(settings.get(part), part)
        for key in sorted(then.keys() | now.keys()):
            if key.rpartition(".")[2] not in harmless and then.get(key) != now.get(key):
                raise ValueError(
                    f"{folder} was begun with {key}={then.get(key)} and cannot go on with {now.get(key)}; use another "
                    "name=..., overwrite=true, or init_from=CHECKPOINT for a new run from its weights"
                )


class MetricsFile:
    """The metrics.csv of a run: a row a step, a column a number, on the disk when a call returns.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / METRICS
        self._columns: list[str] = []
        self._last = 0

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Write a row, or add to the last one where it is of the same step."""
        row: dict[str, object] = {"step": step, **values}
        new = [name for name in row if name not in self._columns]
        self._columns += new
        if new or step == self._last:
            rows: list[dict[str, object]] = [dict(row) for row in read_rows(self.path)] if self._last else []
            if step == self._last:
                row = {**rows.pop(), **row}
            self._write([*rows, row])
        else:
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, self._columns, restval="", lineterminator="\n").writerow(row)
        self._last = step

    def cut(self, steps: int) -> dict[int, set[str]]:
        """Remove rows after this many steps: a run that is continued from there writes them again.

        Returns:
            Which numbers were there of each step removed.
        """
        rows = read_rows(self.path) if self.path.exists() else []
        kept = [row for row in rows if int(row["step"]) <= steps]
        cut = {int(row["step"]): {name for name, text in row.items() if text} for row in rows[len(kept) :]}
        if kept:
            self._columns, self._last = list(kept[0]), int(kept[-1]["step"])
            self._write(kept)
        else:
            self.path.unlink(missing_ok=True)
        return cut

    def _write(self, rows: Sequence[Mapping[str, object]]) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomic(self.path, text.getvalue())


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a metrics.csv, values as written by column, empty where none was; a torn last line is left out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no CSV, has no column `step`, two columns of one name, or a row that does not fit (names
            the line).
    """
    text = read_text(path)
    rows: list[dict[str, str]] = []
    try:
        heads, *lines = csv.reader(io.StringIO(text[: text.rfind("\n") + 1], newline="")) if text else [[]]
    except csv.Error as error:
        raise ValueError(f"{path} is no table of numbers ({error})") from None
    if heads and ("step" not in heads or len(set(heads)) < len(heads)):
        raise ValueError(f"{path} has no column 'step', or two of one name: it is not the metrics.csv of a run")
    for number, row in enumerate(lines, 2):
        if len(row) > len(heads):
            raise ValueError(f"{path}, line {number}: {len(row)} values in {len(heads)} columns")
        named = dict(zip(heads, row, strict=False))
        if not named.get("step", "").isdecimal():
            raise ValueError(f"{path}, line {number}: step is {shown(named.get('step', ''))}, no count")
        rows.append(named)
    return rows
