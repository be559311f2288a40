"""A finished run, read back from the files that training and evaluation left in its folder.

    run.json, config.yaml, metrics.csv             by training
    pictures/                                      by training
    results/<tracker>/<benchmark>/scores.json      by evaluation, one for each tracker and baseline
    results/<tracker>/<benchmark>/media/media.json by evaluation: clips and pictures of attention

Nothing of it has to be there.
"""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seqtrack_lit.analysis.plots import Columns
from seqtrack_lit.evaluation.scores import Scores

BASELINES = ("static", "kcf", "csrt")


@dataclass(frozen=True, eq=False)
class Run:
    """What is known of a run; empty where a file is missing.

    Args:
        folder: of the run.
        facts: revision, versions, machine, data, budget ... (run.json).
        config: the resolved configuration as text.
        metrics: columns of metrics.csv, see `read_metrics`.
        scores: of all trackers and conventions found, baselines last.
        media: lists of clips and pictures by tracker and benchmark, with the folder they lie in.
    """

    folder: Path
    facts: Mapping[str, Any]
    config: str
    metrics: Columns
    scores: tuple[Scores, ...]
    media: Mapping[tuple[str, str], tuple[Path, Mapping[str, Any]]]

    @property
    def environment(self) -> Mapping[str, Any]:
        """Revision, versions, machine, command; empty where they were not recorded."""
        found = self.facts.get("environment")
        return found if isinstance(found, Mapping) else {}

    @property
    def ours(self) -> list[Scores]:
        """Scores that are not a baseline's."""
        return [one for one in self.scores if one.tracker not in BASELINES]


def is_trained(folder: Path) -> bool:
    """Whether something of a training lies directly in this folder."""
    return any((folder / name).is_file() for name in ("config.yaml", "run.json", "metrics.csv"))


def is_run(folder: Path) -> bool:
    """Whether this is the folder of a training, or of scores alone."""
    return is_trained(folder) or any(folder.glob("results/*/*/scores.json"))


def flatten(tree: Any, above: str = "") -> dict[str, Any]:
    """The leaves of nested mappings by dotted key.

    >>> flatten({"model": {"memory": "search", "encoder": {"depth": 4}}, "extra": {}})
    {'model.memory': 'search', 'model.encoder.depth': 4, 'extra': {}}
    """
    if not isinstance(tree, Mapping) or not tree:
        return {above: tree}
    return {
        key: leaf
        for name, child in tree.items()
        for key, leaf in flatten(child, f"{above}.{name}" if above else str(name)).items()
    }


def read_run(folder: Path) -> Run:
    """Read what is there.

    Raises:
        FileNotFoundError: no such folder, or nothing of a run in it.
        ValueError: a file that is there and cannot be read (names it).
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}: train and evaluate first, or give run=FOLDER")
    config, metrics, results = folder / "config.yaml", folder / "metrics.csv", folder / "results"
    if not is_run(folder):
        raise FileNotFoundError(
            f"{folder} holds no run: no config.yaml, run.json, metrics.csv or results/<tracker>/<benchmark>/scores.json"
        )
    scores = [one for path in sorted(results.glob("*/*/scores.json")) for one in Scores.load_all(path).values()]
    media = {
        (path.parts[-4], path.parts[-3]): (path.parent, _read_json(path))
        for path in sorted(results.glob("*/*/media/media.json"))
    }
    return Run(
        folder=folder,
        facts=_read_json(folder / "run.json") if (folder / "run.json").is_file() else {},
        config=config.read_text() if config.is_file() else "",
        metrics=read_metrics(metrics) if metrics.is_file() else {},
        scores=tuple(sorted(scores, key=lambda one: one.tracker in BASELINES)),
        media=media,
    )


def read_metrics(path: Path) -> Columns:
    """Columns of a metrics.csv as (training pairs seen, values), sorted; rows that lack a value are left out of it.

    Where the file has no column `samples`, steps stand in its place.

    Raises:
        ValueError: it is no CSV, has no column `step`, or a value is no number (names the line).
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no table of numbers ({error})") from None
    if not rows:
        return {}
    along = "samples" if "samples" in rows[0] else "step"
    if along not in rows[0]:
        raise ValueError(f"{path} has no column 'step': it is not the metrics.csv of a run")
    found: dict[str, list[tuple[float, float]]] = {}
    for line, row in enumerate(rows, 2):
        for name, text in row.items():
            if name in ("step", "samples", "epoch") or not text or not row[along]:
                continue
            try:
                found.setdefault(name, []).append((float(row[along]), float(text)))
            except (TypeError, ValueError):
                raise ValueError(f"{path}, line {line}: {name} is {text!r}, not a number") from None
    columns = {name: np.array(sorted(pairs)) for name, pairs in found.items()}
    return {name: (pairs[:, 0], pairs[:, 1]) for name, pairs in columns.items()}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}); make it again") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object; make it again")
    return content
