"""Scores of several trainings by tracker, one a seed: from what reports keep, from runs, from W&B's offline files."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from seqtrack_lit.files import flatten
from seqtrack_lit.runs.compare import read_runs


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
