"""Scores of a tracker's trajectories on VOT videos: EAO, accuracy, robustness, by experiment and by tag."""

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from seqtrack_lit.data.video.regions import RegionList, Special, VotAnnotation
from seqtrack_lit.evaluation.results import read_column
from seqtrack_lit.evaluation.scores import Scores
from seqtrack_lit.evaluation.vot import RunOverlaps, counted, multistart, run_overlaps
from seqtrack_lit.evaluation.vot_results import Run, find_trajectory, read_trajectory, runs_of
from seqtrack_lit.files import write_atomic

ANALYSIS = "analysis.json"


@dataclass(frozen=True, eq=False)
class _Scored:
    """The runs of one sequence: overlaps, tags that occur, frames that count for the accuracy without restarts."""

    name: str
    length: int
    runs: list[RunOverlaps]
    tags: dict[str, Bool[np.ndarray, "frames"]]
    counted: Bool[np.ndarray, "frames"]
    speeds: list[float]


def score_experiment(
    folder: Path,
    experiment: str,
    annotations: Iterable[VotAnnotation],
    *,
    tracker: str = "",
    benchmark: str = "vot2020",
    low: int = 115,
    high: int = 755,
) -> Scores:
    """Score one experiment; writes `<folder>/analysis.json` with all digits.

    Scores of a tag are those of the videos in which it occurs (baseline, realtime), or of its frames (unsupervised).

    Args:
        folder: `<tracker>/<experiment>`, ours or the toolkit's.
        experiment: baseline, realtime or unsupervised.
        annotations: of the sequences, read one by one.
        tracker: the tracker's name.
        benchmark: the benchmark's name.
        low: first length of EAO in frames.
        high: last length of EAO in frames.

    Raises:
        FileNotFoundError: a trajectory is missing.
        ValueError: no sequences, or a file that cannot be read; names file and line.
    """
    scored = [_sequence(folder, experiment, known) for known in annotations]
    if not scored:
        raise ValueError(f"{folder}: there are no sequences to score")
    values, per_sequence, per_tag, curve = (_unsupervised if experiment == "unsupervised" else _multistart)(
        scored, low, high
    )
    facts = {"values": values, "per_sequence": per_sequence, "per_tag": per_tag, "curve": curve}
    write_atomic(folder / ANALYSIS, json.dumps({**facts, "low": low, "high": high}, indent=1) + "\n")
    speeds = [speed for of in scored for speed in of.speeds] if experiment != "realtime" else []
    return Scores(
        convention=f"vot_{experiment}",
        tracker=tracker,
        benchmark=benchmark,
        sequences=len(scored),
        values=_percent(values),
        per_sequence={name: _percent(of) for name, of in per_sequence.items()},
        per_attribute={name: {**_percent(of), "sequences": of["sequences"]} for name, of in per_tag.items()},
        curves={"eao": [100 * value for value in curve]} if curve else {},
        fps=float(np.median(speeds)) if speeds else None,
    )


def _sequence(folder: Path, experiment: str, known: VotAnnotation) -> _Scored:
    runs = runs_of(experiment, known)
    trajectories = [read_trajectory(folder, run) for run in runs]
    overlaps = run_overlaps(known, [run.order for run in runs], trajectories)
    keep = np.zeros(len(known), np.bool_)
    if experiment == "unsupervised":
        truths = [known.region(frame) for frame in range(len(known))]
        keep = counted(_codes(trajectories[0]), _codes(truths))
    tags = {name: flags for name, flags in known.tags.items() if flags.any()}
    return _Scored(known.name, len(known), overlaps, tags, keep, [s for run in runs for s in _speed(folder, run)])


def _codes(regions: RegionList) -> Int64[np.ndarray, "frames"]:
    return np.array([region.code if isinstance(region, Special) else -1 for region in regions], np.int64)


def _speed(folder: Path, run: Run) -> list[float]:
    """Frames a second without the start; none where no times can be read."""
    path = find_trajectory(folder, run)
    if path is not None:
        with suppress(ValueError, FileNotFoundError):
            times = read_column(path.with_name(f"{run.stem}_time.value"))[1:]
            if times.sum() > 0:
                return [len(times) / float(times.sum())]
    return []


_Values = dict[str, float]


def _multistart(
    scored: list[_Scored], low: int, high: int
) -> tuple[_Values, dict[str, _Values], dict[str, _Values], list[float]]:
    def of(chosen: list[_Scored]) -> Any:
        return multistart([one.runs for one in chosen], [one.length for one in chosen], low=low, high=high)

    def values(chosen: list[_Scored]) -> _Values:
        found = of(chosen)
        return {"EAO": found.eao, "A": found.accuracy, "R": found.robustness}

    per_tag = {}
    for tag in sorted({tag for one in scored for tag in one.tags}):
        chosen = [one for one in scored if tag in one.tags]
        per_tag[tag] = {**values(chosen), "sequences": len(chosen)}
    per_sequence = {one.name: {key: v for key, v in values([one]).items() if key != "EAO"} for one in scored}
    return values(scored), per_sequence, per_tag, of(scored).curve.tolist()


def _unsupervised(
    scored: list[_Scored], low: int, high: int
) -> tuple[_Values, dict[str, _Values], dict[str, _Values], list[float]]:
    """Accuracy: the mean of each sequence, weighted by its length; of a tag the mean over all its frames."""
    means = np.array([_mean(one.runs[0].overlaps[one.counted]) for one in scored])
    lengths = np.array([one.length for one in scored], np.float64)
    per_tag: dict[str, _Values] = {}
    for tag in sorted({tag for one in scored for tag in one.tags}):
        chosen = [one for one in scored if tag in one.tags]
        overlaps = np.concatenate([one.runs[0].overlaps[one.counted & one.tags[tag]] for one in chosen])
        per_tag[tag] = {"A": _mean(overlaps), "sequences": len(chosen)}
    per_sequence = {one.name: {"A": float(value)} for one, value in zip(scored, means, strict=True)}
    return {"A": float(means @ lengths / lengths.sum())}, per_sequence, per_tag, []


def _mean(values: Float64[np.ndarray, "frames"]) -> float:
    return float(values.mean()) if values.size else 0.0


def _percent(values: _Values) -> _Values:
    return {name: 100 * value for name, value in values.items() if name != "sequences"}
