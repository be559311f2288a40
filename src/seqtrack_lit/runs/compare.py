"""Several runs side by side: repetitions, differences of their settings and of their environments.

And scores of repetitions by tracker: from what reports keep, from runs, from the offline files of W&B.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from seqtrack_lit.files import flatten, natural_order, read_yaml
from seqtrack_lit.runs.migrate import migrate_settings
from seqtrack_lit.runs.read import Run, is_run, is_trained, own_file, read_run

# Where a run is put, how it is watched, how it is begun: no result depends on it.
_ASIDE = ("name", "resume", "overwrite", "paths", "logger", "callbacks")
_ENVIRONMENT = ("device", "precision", "revision", "versions", "python", "machine", "data")
PAGE = "comparison"  # folder of the page, below the folder all runs are in
UNKNOWN = "not recorded"
_DEEPEST = 20  # folders below the one given


@dataclass(frozen=True, eq=False)
class Member:
    """A run among others.

    Args:
        name: its path below the folder they have in common.
        run: what was read.
        settings: leaves of its configuration by dotted key, as text: what a result depends on, without the seed.
        seed: as in the configuration.
    """

    name: str
    run: Run
    settings: Mapping[str, str]
    seed: Any = None

    @property
    def status(self) -> str | None:
        """Of run.json: running, finished, stopped, failed."""
        found = self.run.metadata.get("status")
        return None if found is None else str(found)

    @property
    def finished(self) -> bool:
        """Whether its numbers are the last ones; assumed where run.json has no status."""
        return self.status in ("finished", None)

    @cached_property
    def environment(self) -> dict[str, str]:
        """Revision, versions, machine, data by dotted key, as text."""
        facts = {**self.run.metadata, **self.run.environment}
        chosen = {key: facts[key] for key in _ENVIRONMENT if facts.get(key) not in (None, {}, "")}
        return {key: _text(value) for key, value in flatten(chosen).items() if key and value not in (None, "")}

    def number(self, key: str) -> float | None:
        """A number of run.json."""
        value = self.run.metadata.get(key)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    def values(self, column: str) -> np.ndarray:
        """A column of metrics.csv; empty where it has none."""
        return self.run.metrics[column][1] if column in self.run.metrics else np.zeros(0)


@dataclass(frozen=True, eq=False)
class Group:
    """Runs with the same settings but for the seed."""

    label: str
    members: tuple[Member, ...]

    @property
    def settings(self) -> Mapping[str, str]:
        """Of all its runs."""
        return self.members[0].settings

    @property
    def counted(self) -> list[Member]:
        """Those a mean is taken of: the finished ones, or the only one."""
        return [one for one in self.members if one.finished or len(self.members) == 1]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Runs by configuration.

    Args:
        folder: all runs are in.
        groups: in the order of the runs' names.
        changed: keys with several values, as the shortest of those that always change together under one last name.
        partial: keys that only some of the configurations have, with their one value.
        problems: folders that could not be compared, and why.
    """

    folder: Path
    groups: tuple[Group, ...]
    changed: Mapping[str, Sequence[str]]
    partial: Mapping[str, str]
    problems: Sequence[tuple[str, str]]

    @property
    def members(self) -> list[Member]:
        """All runs, by group."""
        return [one for group in self.groups for one in group.members]


def read_runs(folders: Sequence[Path]) -> Comparison:
    """Read all runs in and below the folders.

    Raises:
        FileNotFoundError: there are none.
    """
    roots = list(dict.fromkeys(Path(os.path.realpath(folder)) for folder in folders))
    common = Path(os.path.commonpath(roots))
    members, problems = [], []
    for folder, reason in dict.fromkeys(found for root in roots for found in _find(root)):
        name = readable(common.name if folder == common else folder.relative_to(common))
        try:
            if reason:
                raise ValueError(reason)
            members.append(_member(name, folder))
        except (OSError, ValueError) as error:
            text = " ".join(str(error).split()).replace(f"{folder}{os.sep}", "")
            problems.append((name, readable(text)))
    if not members:
        first = f"; {problems[0][0]}: {problems[0][1]}" if problems else ""
        raise FileNotFoundError(
            f"no run to compare in {', '.join(map(str, folders))}: runs= takes folders that seqtrack-train wrote (or a "
            f"folder with such folders, as a sweep's){first}"
        )
    groups = _groups(members, readable(common.name))
    changed, partial = _differences([group.settings for group in groups if group.members[0].run.config])
    return Comparison(common, groups, changed, partial, problems)


def readable(name: Any) -> str:
    """A file's name as text that can be written, whatever bytes it is of."""
    return os.fsencode(str(name)).decode("utf-8", "replace")


def _find(folder: Path) -> Iterator[tuple[Path, str]]:
    """Folders of runs in and below a folder; and those directly in it that hold none, with the reason."""
    if _runs_in(folder) == [folder]:
        yield folder, ""
        return
    for child in _folders(folder):
        below = _runs_in(child)
        yield from [(path, "") for path in below] or [(child, "no run in it: no config.yaml, run.json or metrics.csv")]


def _runs_in(folder: Path, depth: int = 0) -> list[Path]:
    """Folders of runs in and below a folder; one of scores alone is a run where there is no training below."""
    if is_trained(folder):
        return [folder]
    below = [run for child in _folders(folder) if depth < _DEEPEST for run in _runs_in(child, depth + 1)]
    return below or [folder] * is_run(folder)


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder, numbers in their order; not the hidden ones, results, or the page written before."""
    try:
        found = [one for one in folder.iterdir() if one.is_dir() and not one.is_symlink()]
    except PermissionError:
        return []
    shown = [one for one in found if not one.name.startswith(".") and one.name not in ("results", PAGE)]
    return sorted(shown, key=lambda one: natural_order(one.name))


def _member(name: str, folder: Path) -> Member:
    """Read a run.

    Raises:
        ValueError: a file cannot be read, or there is nothing but a configuration.
    """
    run = read_run(folder)
    if not (run.metadata or run.metrics or run.scores):
        raise ValueError("nothing but a config.yaml: no training began here, or it is something else's folder")
    path = own_file(folder, "config.yaml")
    config = read_yaml(path) or {} if path else {}
    if not isinstance(config, dict):
        raise ValueError("config.yaml holds no settings")
    config = migrate_settings(config)
    seed = config.get("seed")
    leaves = flatten({str(key): value for key, value in config.items() if key not in _ASIDE})
    own = {key: value for key, value in leaves.items() if key and not (key.split(".")[-1] == "seed" and value == seed)}
    return Member(name, run, {key: _text(value) for key, value in own.items()}, seed)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _groups(members: Sequence[Member], otherwise: str) -> tuple[Group, ...]:
    """Runs of equal settings together; one without a configuration is alone."""
    found: dict[Hashable, list[Member]] = {}
    for one in members:
        found.setdefault(frozenset(one.settings.items()) if one.run.config else one.name, []).append(one)
    groups: list[Group] = []
    for runs in found.values():
        label = _label([one.name for one in runs], otherwise)
        same = sum(re.sub(r" \(\d+\)$", "", group.label) == label for group in groups)
        groups.append(Group(f"{label} ({same + 1})" if same else label, tuple(runs)))
    return tuple(groups)


def _label(names: Sequence[str], otherwise: str) -> str:
    """What the names of repetitions have in common, without the seed.

    >>> _label(["ablation-xyxy__seed-0", "ablation-xyxy__seed-1"], "sweep"), _label(["seed-0", "seed-1"], "sweep")
    ('ablation-xyxy', 'sweep')
    """
    if len(names) == 1:
        return names[0]
    without = {re.sub(r"[_,-]*(?<![a-zA-Z])seed[-_=]\d+", "", name).strip("_,-/") for name in names}
    return (without.pop() or otherwise) if len(without) == 1 else names[0]


def _differences(settings: Sequence[Mapping[str, str]]) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Keys of several values, each with the keys that it stands for; and keys not all have, with their one value."""
    keys = list(dict.fromkeys(key for one in settings for key in one))
    changed: dict[tuple[str, tuple[str | None, ...]], list[str]] = {}
    partial = {}
    for key in keys:
        column = tuple(one.get(key) for one in settings)
        present = set(column) - {None}
        if len(present) > 1:
            changed.setdefault((key.split(".")[-1], column), []).append(key)
        elif None in column:
            partial[key] = str(present.pop())
    columns = {}
    for same in changed.values():
        shortest = min(same, key=lambda key: key.count("."))
        columns[shortest] = [key for key in same if key != shortest]
    return columns, partial


def environments(members: Sequence[Member]) -> tuple[dict[str, str], dict[str, dict[str, list[str]]]]:
    """What is the same around all runs that recorded it; and what differs: the runs' names by value, by key."""
    keys = dict.fromkeys(key for one in members for key in one.environment)
    found = {key: _by_value(members, key) for key in keys}
    same = {
        key: next(iter(names.keys() - {UNKNOWN})) for key, names in found.items() if len(names.keys() - {UNKNOWN}) == 1
    }
    return same, {key: names for key, names in found.items() if key not in same}


def _by_value(members: Sequence[Member], key: str) -> dict[str, list[str]]:
    """The runs' names by what they recorded under a key of the environment."""
    names: dict[str, list[str]] = {}
    for one in members:
        names.setdefault(one.environment.get(key, UNKNOWN), []).append(one.name)
    return names


def warnings(members: Sequence[Member]) -> list[str]:
    """Reasons why a difference between the runs need not come from their settings, a sentence each."""
    found = []
    revisions = _by_value(members, "revision.commit")
    if len(revisions) > 1:
        found.append(f"The runs are not of one revision of the code: {_counts(revisions)}.")
    changed = _by_value(members, "revision.changed").get("true", [])
    if changed:
        who = f"{len(changed)} of {len(members)} runs" if len(changed) < len(members) else "All runs"
        found.append(f"{who} began with files that differ from their revision; what was changed is not recorded.")
    same: dict[Hashable, list[str]] = {}
    for one in members:
        if one.run.config:
            same.setdefault((frozenset(one.settings.items()), str(one.seed)), []).append(one.name)
    for names in (names for names in same.values() if len(names) > 1):
        found.append(f"Of one seed and the same settings, so copies or repeated, no further seeds: {', '.join(names)}.")
    for key in dict.fromkeys(key for one in members for key in one.environment):
        match = re.fullmatch(r"data\.(.+)\.hash", key)
        known = {value: names for value, names in _by_value(members, key).items() if value != UNKNOWN}
        if match and len(known) > 1:
            found.append(f"The runs saw different data under the name {match[1]}: index {_counts(known)}.")
    return found


def _counts(names: Mapping[str, Sequence[str]]) -> str:
    """Values, revisions and hashes cut as usual, with the number of runs."""
    texts = [(value if value == UNKNOWN else value[:10], len(of)) for value, of in names.items()]
    return ", ".join(f"{value} ({count} {'run' if count == 1 else 'runs'})" for value, count in texts)


def kept_values(path: Path, value: str = "AUC") -> dict[str, list[float]]:
    """A score in percent by tracker, from the scores.json of `seqtrack-report average=true save=FOLDER`.

    Raises:
        FileNotFoundError: there is no such file.
        KeyError: it holds no such score.
    """
    results = json.loads(path.read_text())["results"]
    return {tracker: of[value]["runs"] for tracker, of in results[0]["trackers"].items()}


def run_values(folder: Path, value: str = "AUC") -> dict[str, list[float]]:
    """A score in percent by configuration, from the folders of runs in and below a folder; seeds together.

    Of runs that were not evaluated it is the best `val/auc`.

    Raises:
        FileNotFoundError: there are none.
    """
    found: dict[str, list[float]] = {}
    for group in read_runs([folder]).groups:
        for member in group.counted:
            scored = [one.values[value] for one in member.run.ours if value in one.values]
            best = scored[0] if scored else member.number("best")
            if best is not None:
                found.setdefault(group.label, []).append(best)
    return found


def offline_values(folder: Path, key: str = "best") -> dict[str, list[float]]:
    """A number of W&B's summary by the name of the tracker, a run each, from the offline files in and below a folder.

    Of a run that was continued the last file that has the number counts.

    Raises:
        ValueError: the installed wandb cannot read a file.
    """
    last: dict[str, tuple[str, float]] = {}
    for path in sorted(folder.rglob("offline-run-*/run-*.wandb"), key=lambda path: path.parent.name):
        found: dict[str, Any] = {}
        for kind, content in offline_records(path):
            if kind == "run":
                found |= {"id": content["run_id"], "tracker.name": content["display_name"]}
            if kind in ("run", "config", "summary"):
                found |= flatten((content.get("config") or content).get("update", {}))
        if isinstance(value := found.get(key), int | float):
            last[found["id"]] = found["tracker.name"], float(value)
    values: dict[str, list[float]] = {}
    for name, value in last.values():
        values.setdefault(name, []).append(value)
    return values


def offline_records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The records of one of W&B's offline files, read by wandb's own command: each one's kind and content.

    Raises:
        ValueError: the installed wandb cannot read it.
    """
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "WANDB_MODE": "offline"})
    if done.returncode:
        raise ValueError(f"{path}: wandb cannot read it, for which 0.31 is needed ({done.stderr.strip()[-200:]})")
    for record in map(json.loads, done.stdout.splitlines()):
        yield record["type"], record.get(record["type"]) or {}


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation; of one value the deviation is 0.

    >>> spread([1.0, 3.0])
    (2.0, 1.4142135623730951)
    """
    return mean(values), stdev(values) if len(values) > 1 else 0.0
