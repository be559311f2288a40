"""What a run remembers of where it came from: run.json and config.yaml."""

import hmac
import json
import os
import platform
import secrets
import subprocess
import sys
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from seqtrack_lit.files import read_json, read_yaml, typed
from seqtrack_lit.runs.migrate import migrate_settings

PACKAGES = (
    "seqtrack-lit", "torch", "torchvision", "lightning", "timm", "numpy", "opencv-contrib-python-headless",
    "albumentations", "hydra-core", "omegaconf", "wandb",
)  # fmt: skip

_LARGEST = 1 << 20  # bytes of run.json


class Facts(TypedDict, total=False):
    """What run.json holds, where it is used again."""

    status: str
    group: str | None
    overrides: list[str]
    seal: str | None
    best: float | None
    seconds: float
    precision: str
    start: str
    which: str
    budget: dict[str, object]
    environment: dict[str, object]
    data: dict[str, object]
    learning_rates: dict[str, object]


def environment() -> dict[str, Any]:
    """Code revision, package versions, Python and machine."""
    return {
        "revision": revision(),
        "versions": {name: _version(name) for name in PACKAGES},
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


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Add facts to a run's run.json, atomically.

    Raises:
        OSError: the disk is full; what was there stays, but for the status.
    """
    path = folder / "run.json"
    known = read_facts(folder)
    part = path.with_suffix(".part")
    try:
        part.write_text(json.dumps({**known, **facts}, indent=1) + "\n")
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        _overwrite_status(path, known.get("status"), facts.get("status"))
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


def read_facts(folder: Path) -> dict[str, Any]:
    """A run's facts; empty where there are none.

    Raises:
        ValueError: it is no JSON, or a fact is of another type than those that are written here.
    """
    path, remedy = folder / "run.json", "the file was changed, or is not a run's"
    try:
        facts: dict[str, Any] = read_json(path, dict, remedy, largest=_LARGEST)
    except FileNotFoundError:
        return {}
    typed(facts, Facts, str(path), remedy)
    return facts


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings a run was begun with, by today's keys, interpolations unopened; empty where there is no config.yaml.

    Raises:
        ValueError: it is no plain YAML of bounded size, or no mapping.
    """
    path = folder / "config.yaml"
    try:
        settings: dict[str, Any] = typed(read_yaml(path), dict, str(path), "it does not hold a run's settings")
    except FileNotFoundError:
        return {}
    return migrate_settings(settings)


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


def is_own(facts: Mapping[str, Any]) -> bool:
    """Whether this user gave the overrides in a run.json."""
    seal, expected = facts.get("seal"), seal_of(facts.get("overrides", []))
    return seal is not None and expected is not None and hmac.compare_digest(seal, expected)


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Why a run that goes on may not end bitwise like an uninterrupted one: code, packages, device, data."""
    before, after = (
        _flat({**facts.get("environment", {}), "device": facts.get("device"), "data": facts.get("data")}, "")
        for facts in (then, now)
    )
    parts = (".revision", ".versions", ".device", ".data")
    return [
        f"{key[1:]} {before.get(key)} -> {after[key]}"
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
    former = read_settings(folder)
    for part in parts:
        then, now = _flat(former.get(part), part), _flat(settings.get(part), part)
        for key in sorted(then.keys() | now.keys()):
            if key.rpartition(".")[2] not in harmless and then.get(key) != now.get(key):
                raise ValueError(
                    f"{folder} was begun with {key}={then.get(key)} and cannot go on with {now.get(key)}; use another "
                    "name=..., overwrite=true, or init_from=CHECKPOINT for a new run from its weights"
                )


def _flat(tree: Any, prefix: str) -> dict[str, Any]:
    if not isinstance(tree, Mapping):
        return {prefix: tree}
    return {key: value for name, child in tree.items() for key, value in _flat(child, f"{prefix}.{name}").items()}
