"""Scores of several trainings by tracker, one a seed: from what reports keep, or from the folders of runs."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

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


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation; of one value the deviation is 0.

    >>> spread([1.0, 3.0])
    (2.0, 1.4142135623730951)
    """
    return mean(values), stdev(values) if len(values) > 1 else 0.0
