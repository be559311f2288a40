"""Scores of a benchmark from the curves of its sequences, by a named convention.

A score is a fraction inside the measuring functions and percent here. Every score is a weighted mean over sequences
of a curve, taken at a point or as an area; which points, and which weights, is the convention.
"""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le
from jaxtyping import Bool, Float64

from seqtrack_lit.checks import path_part, shown
from seqtrack_lit.evaluation.metrics import (
    CONVENTIONS,
    VOT,
    convention_of,
    curve_lengths,
    mean_curves,
    values_of,
)
from seqtrack_lit.evaluation.ope import GroundTruth, Rules, SequenceCurves, iou
from seqtrack_lit.evaluation.results import find_boxes, read_boxes, read_times
from seqtrack_lit.files import read_json, write_atomic

log = logging.getLogger(__name__)
Count = Annotated[int, Ge(0)]
Percent = Annotated[float, Ge(0), Le(100)]
Positive = Annotated[float, Ge(0)]
_CORNERS = 0.2  # so much more mean overlap as two corners is no chance


@dataclass(frozen=True)
class Scores:
    """A tracker's scores on a benchmark, in percent.

    Args:
        convention: by which rules, a key of `CONVENTIONS`.
        tracker: the tracker's name.
        benchmark: the benchmark's name.
        sequences: number of sequences scored.
        values: the benchmark's scores by name (AUC, PNorm, P, OP50, OP75; AO, SR50, SR75).
        per_sequence: the same for each sequence.
        per_attribute: the same for the sequences with an attribute, and their number as "sequences".
        curves: the benchmark's curves over the convention's thresholds.
        fps: frames per second without initialisation, median over sequences, where times were written.
        short: results with fewer boxes than the sequence has frames, where the convention takes them.
    """

    __pydantic_config__ = {"extra": "forbid", "strict": True, "allow_inf_nan": False}  # noqa: RUF012

    convention: str
    tracker: str
    benchmark: str
    sequences: Count
    values: Mapping[str, Percent]
    per_sequence: Mapping[str, Mapping[str, Percent]] = field(default_factory=dict, repr=False)
    per_attribute: Mapping[str, Mapping[str, Positive]] = field(default_factory=dict, repr=False)
    curves: Mapping[str, Sequence[Percent]] = field(default_factory=dict, repr=False)
    fps: Positive | None = None
    short: Count = 0

    def save(self, path: Path) -> None:
        """Write to a JSON file keyed by convention, numbers with one decimal; other conventions in it stay."""
        known = self.load_all(path) if path.is_file() else {}
        known[self.convention] = self
        plain = {convention: _rounded(asdict(one)) for convention, one in known.items()}
        write_atomic(path, json.dumps(plain, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path, convention: str = "seqtrack") -> "Scores":
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no scores file, or has no scores by this convention.
        """
        known = cls.load_all(path)
        if convention not in known:
            raise ValueError(
                f"{path} has no scores by the convention {convention!r}, only {', '.join(known) or 'none'}"
            )
        return known[convention]

    @classmethod
    def load_all(cls, path: Path) -> "dict[str, Scores]":
        """Everything in a scores file, by convention; raises as `load`."""
        if not path.is_file():
            raise FileNotFoundError(f"no scores file {path}: evaluate the tracker first")
        remedy = "give a scores.json of seqtrack-evaluate (one tracker, keyed by convention), or score again"
        known: dict[str, Scores] = read_json(path, dict[str, Scores], remedy)
        for convention, one in known.items():
            if problem := _inconsistent(convention, one):
                raise ValueError(f"{path}: {problem}; {remedy}")
            path_part(f"{path}: {convention}.benchmark", one.benchmark)
            for part in one.tracker.split("/"):  # results of others: <tracker>/<configuration>
                path_part(f"{path}: {convention}.tracker", part)
        return known


def _inconsistent(convention: str, one: Scores) -> str:
    """What is wrong with scores whose fields have the right types; empty where nothing is."""
    if convention not in CONVENTIONS and convention not in VOT:
        return f"{shown(convention)} is no convention (one of {', '.join((*CONVENTIONS, *VOT))})"
    if one.convention != convention:
        return f"{convention}.convention is {shown(one.convention)}"
    known = VOT[convention] if convention in VOT else frozenset(CONVENTIONS[convention].score)
    curves = {"eao": len(one.curves.get("eao", ()))} if convention in VOT else curve_lengths(convention)
    parts = {"values": one.values, **{f"per_sequence.{name}": of for name, of in one.per_sequence.items()}}
    for name, of in parts.items():
        if not of or not of.keys() <= known:
            return f"{convention}.{shown(name)} must hold scores of {', '.join(sorted(known))}"
    for name, of in one.per_attribute.items():
        if of.keys() != {*one.values, "sequences"}:
            return f"{convention}.per_attribute.{shown(name)} must hold sequences, {', '.join(one.values)}"
    for name, curve in one.curves.items():
        if len(curve) != curves.get(name):
            return f"{convention}.curves.{shown(name)} must be one of {curves} (name and length)"
    return ""


def _rounded(value: Any) -> Any:
    """Floats with one decimal, all the way down."""
    if isinstance(value, float):
        return round(value, 1)
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def score_sequences(
    truths: Sequence[GroundTruth],
    results: Mapping[str, Float64[np.ndarray, "_ 4"]],
    *,
    convention: str = "seqtrack",
    tracker: str = "",
    benchmark: str = "",
    fps: float | None = None,
) -> Scores:
    """Score tracked boxes (xywh, pixels) by sequence name; sequences in `truths` only are scored, all of them.

    Raises:
        ValueError: no sequences, a result is missing, or the convention cannot score one (says which and why).
    """
    rules = convention_of(convention)
    missing = [truth.name for truth in truths if truth.name not in results]
    if missing or not truths:
        raise ValueError(f"{tracker} on {benchmark}: {len(missing)} of {len(truths)} results missing: {missing[:3]}")
    for truth in truths:
        _check_rows(f"{tracker} on {benchmark}, {truth.name}", truth, results[truth.name], convention)
    try:
        curves = {truth.name: rules.measure(truth, results[truth.name]) for truth in truths}
    except ValueError as error:
        raise ValueError(f"{tracker} on {benchmark}, {error}") from None
    scores = score_curves(truths, curves, convention=convention)
    short = sum(len(results[truth.name]) < len(truth.boxes) for truth in truths)
    return replace(scores, tracker=tracker, benchmark=benchmark, fps=fps, short=short)


def score_curves(
    truths: Sequence[GroundTruth], curves: Mapping[str, SequenceCurves], *, convention: str = "seqtrack"
) -> Scores:
    """Scores of measured sequences (curves by sequence name), without names of tracker and benchmark."""
    rules = convention_of(convention)
    whole = mean_curves([curves[truth.name] for truth in truths])
    attributes = {}
    for attribute in dict.fromkeys(a for truth in truths for a in truth.attributes):
        chosen = [curves[truth.name] for truth in truths if attribute in truth.attributes]
        attributes[attribute] = {**values_of(rules, mean_curves(chosen)), "sequences": len(chosen)}
    return Scores(
        convention=convention,
        tracker="",
        benchmark="",
        sequences=len(truths),
        values=values_of(rules, whole),
        per_sequence={truth.name: values_of(rules, curves[truth.name]) for truth in truths},
        per_attribute=attributes,
        curves={name: (100 * curve).tolist() for name, curve in whole.curves.items()},
    )


def score_folder(
    folder: Path,
    truths: Sequence[GroundTruth],
    *,
    convention: str = "seqtrack",
    tracker: str = "",
    benchmark: str = "",
    partial: bool = False,
) -> Scores:
    """Score the result files of a tracker, ours or anybody's, in one folder.

    Repetitions (`<sequence>_002.txt` ...) count as far as every sequence has them; scores are their mean.

    Args:
        folder: holds the boxes files, see `results.find_boxes`.
        truths: the benchmark's sequences.
        convention: a key of `CONVENTIONS`.
        tracker: the tracker's name.
        benchmark: the benchmark's name.
        partial: score the sequences that have a result, where some have none.

    Raises:
        FileNotFoundError: results are missing (says how many and which).
        ValueError: a file that cannot be read (names file and line), or a result that cannot be scored.
    """
    found = {truth.name: find_boxes(folder, truth.name) for truth in truths}
    missing = [name for name, path in found.items() if path is None]
    if missing and (not partial or len(missing) == len(found)):
        raise FileNotFoundError(
            f"{folder}: {len(missing)} of {len(found)} sequences of {benchmark or 'the benchmark'} have no "
            f"result, first {', '.join(missing[:3])}; track them, correct the folder, or say partial=true"
        )
    truths = [truth for truth in truths if found[truth.name] is not None]
    runs: list[Scores] = []
    while True:
        found = {truth.name: find_boxes(folder, truth.name, len(runs) + 1) for truth in truths}
        paths = {name: path for name, path in found.items() if path is not None}
        if len(paths) < len(found):
            break
        boxes = {name: read_boxes(path) for name, path in paths.items()}
        for truth in truths:
            rows, frames, path = boxes[truth.name], len(truth.boxes), paths[truth.name]
            _check_rows(str(path), truth, rows, convention)
            if len(rows) > 1.5 * frames:  # the toolkits cut a few rows too many
                raise ValueError(
                    f"{path}, line {frames + 1}: the result has {len(rows)} lines, {truth.name} has {frames} frames; "
                    "it is of another video, or of another version of it"
                )
        _warn_of_corners(folder, truths, boxes)
        names = {"convention": convention, "tracker": tracker, "benchmark": benchmark}
        try:
            runs.append(score_sequences(truths, boxes, fps=_speed(paths.values()), **names))
        except ValueError as error:
            raise ValueError(f"{folder}: {error}") from None
    return runs[0] if len(runs) == 1 else _mean_scores(runs)


def _check_rows(where: str, truth: GroundTruth, boxes: Float64[np.ndarray, "M 4"], convention: str) -> None:
    """Refuse NaN where the convention does not say what it means: its scores would be NaN, or count it as a box."""
    bad = np.flatnonzero(np.isnan(boxes).any(1))
    if bad.size and not convention_of(convention).nan:
        knowing = ", ".join(name for name, one in CONVENTIONS.items() if one.nan)
        raise ValueError(
            f"{where}: line {bad[0] + 1} of the result is {boxes[bad[0]].tolist()}; {convention} cannot score NaN "
            f"({knowing} can); track it again"
        )


def _warn_of_corners(
    folder: Path, truths: Sequence[GroundTruth], results: Mapping[str, Float64[np.ndarray, "_ 4"]]
) -> None:
    """Tell when rows may be two corners: read as corner and size they have the scores of a bad tracker."""
    pairs = [(t.boxes[: len(results[t.name])], results[t.name][: len(t.boxes)]) for t in truths]
    truth, rows = (np.concatenate(boxes) for boxes in zip(*pairs, strict=True))
    known = np.isfinite(truth).all(1) & (truth[:, 2:] > 0).all(1) & np.isfinite(rows).all(1)
    corners = np.concatenate([rows[:, :2], rows[:, 2:] - rows[:, :2]], axis=1)[known]
    if not known.any() or (corners[:, 2:] <= 0).any():
        return
    as_sizes, as_corners = (iou(truth[known], boxes).mean() for boxes in (rows[known], corners))
    if as_corners > as_sizes + _CORNERS:
        log.warning(
            "%s: are its boxes two corners x1,y1,x2,y2? So read they overlap the targets by %.2f, as x,y,w,h by %.2f; "
            "if so, write x,y,w,h", folder, as_corners, as_sizes,
        )  # fmt: skip


def _speed(paths: Iterable[Path]) -> float | None:
    """Median frames per second over the sequences that have a times file, without initialisation."""
    speeds = []
    for path in paths:
        with suppress(ValueError):  # a times file that cannot be read costs its speed, not the scores
            times = read_times(path)
            if times is not None and (seconds := times[1:].sum()) > 0:
                speeds.append((len(times) - 1) / seconds)
    return float(np.median(speeds)) if speeds else None


def _mean_scores(runs: Sequence[Scores]) -> Scores:
    """Mean over repetitions of everything."""

    def mean(of: Sequence[Any]) -> Any:
        if isinstance(of[0], Mapping):
            return {key: mean([one[key] for one in of]) for key in of[0]}
        return np.mean(of, axis=0).tolist()

    fields = ("values", "per_sequence", "per_attribute", "curves")
    return replace(runs[0], **{name: mean([getattr(run, name) for run in runs]) for name in fields})


# Benchmarks whose peculiarities the default convention knows, by our name and by that of the reference code.
_RULES: dict[str, Rules] = {
    "lasot": "lasot", "lasot_ext": "lasot_ext", "lasot_extension_subset": "lasot_ext", "tnl2k": "tnl2k",
    "uav123": "uav", "uav": "uav",
}  # fmt: skip


def ground_truth(
    name: str,
    boxes: Float64[np.ndarray, "N 4"],
    visible: Bool[np.ndarray, "N"] | None,
    meta: Mapping[str, Any],
    *,
    benchmark: str,
) -> GroundTruth:
    """The ground truth of a video of a data set, from the fields of `data.video.sequence.Video`."""
    cover, resolution = meta.get("cover"), meta.get("resolution")
    return GroundTruth(
        name=name,
        boxes=boxes,
        visible=visible,
        cover=None if cover is None else np.asarray(cover, dtype=np.int64),
        resolution=None if resolution is None else (int(resolution[0]), int(resolution[1])),
        attributes=tuple(meta.get("attributes", ())),
        rules=_RULES.get(benchmark, "other"),
    )
