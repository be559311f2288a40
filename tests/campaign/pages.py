"""Readers of results, scores and runs: evaluation, analysis."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tests.campaign.damage import HOSTILE_NAMES
from tests.campaign.harness import SECRET, Reader

from seqtrack_lit.evaluation.ope import GroundTruth
from seqtrack_lit.evaluation.results import read_result, write_result
from seqtrack_lit.evaluation.scores import Scores, score_folder, score_sequences
from seqtrack_lit.evaluation.servers import LARGEST, Expected, build_submission, check_submission
from seqtrack_lit.files import read_bytes
from seqtrack_lit.reports.comparison import scores_of, summary, write_comparison
from seqtrack_lit.reports.run import write_page
from seqtrack_lit.runs.compare import read_runs
from seqtrack_lit.tracking.benchmark import check_identity
from seqtrack_lit.tracking.video_io import VideoWriter

FRAMES = 12
IDENTITY = {"weights": "0123456789abcdef", "tracker": {"search_factor": 4.0, "window": True}, "videos": "feedbeef"}


def truths() -> list[GroundTruth]:
    rng = np.random.default_rng(0)
    return [
        GroundTruth(name, rng.uniform(20, 60, (FRAMES, 4)).round(2), resolution=(192, 144), attributes=("A", "B", "C"))
        for name in ("car", "bird")
    ]


def results(place: Path) -> None:
    for i, truth in enumerate(truths()):
        noise = np.random.default_rng(i).normal(0, 2, truth.boxes.shape)
        write_result(place, truth.name, np.abs(truth.boxes + noise), np.full(FRAMES, 0.02), np.ones(FRAMES))


def scored(place: Path) -> object:
    return asdict(score_folder(place, truths(), tracker="tiny", benchmark="toy"))


def loaded(place: Path) -> object:
    return {name: asdict(one) for name, one in Scores.load_all(place / "scores.json").items()}


def percent(value: object) -> bool:
    """Scores between 0 and 100, none of them NaN."""
    assert isinstance(value, dict)
    return all(math.isfinite(one) and 0 <= one <= 100 for one in value["values"].values())


def finite(value: object) -> bool:
    assert isinstance(value, list)
    return all(column is None or np.isfinite(column).all() for column in value)


def save_scores(place: Path, *, curves: bool = True) -> None:
    for one in ("seqtrack", "trackingnet"):
        boxes = {truth.name: truth.boxes + 1 for truth in truths()}
        found = score_sequences(truths(), boxes, convention=one, tracker="tiny", benchmark="toy", fps=30.0)
        found = found if curves else Scores(**{**asdict(found), "curves": {}, "per_attribute": {}})
        found.save(place / "scores.json")


def a_run(place: Path) -> None:
    """What training and evaluation leave."""
    folder = place / "results" / "tiny" / "toy"
    save_scores(folder, curves=False)
    with VideoWriter(folder / "media" / "best.mp4") as writer:
        for i in range(3):
            writer.write(np.full((32, 48, 3), 40 * i, dtype=np.uint8))
    (folder / "media" / "look.png").write_bytes(b"png")
    listed = {
        "clips": [{"kind": "best", "sequence": "car", "value": "AUC 81.2", "file": "best.mp4"}],
        "attention": [{"file": "look.png", "caption": "frame 5"}],
    }
    (folder / "media" / "media.json").write_text(json.dumps(listed))
    (folder / "media" / "car.jpg").write_bytes(b"jpg")
    course = {"sequence": "car", "frames": FRAMES, "frame": 2, "file": "car.jpg", "overlap": [0.7, 0.05]}
    course |= {"confidence": [0.8, 0.9], "failed": 1, "updates": [3]}
    (folder / "media" / "sequences.json").write_text(json.dumps([course]))
    rows = [f"{i},{64 * i},{i // 4},{40 + i}.5,{1 / (1 + i):.4f}" for i in range(8)]
    (place / "metrics.csv").write_text("\n".join(["step,samples,epoch,val/auc,lr", *rows]) + "\n")
    (place / "config.yaml").write_text("seed: 3\nname: mine\nmodel: {depth: 4, parts: [a, b]}\ntracker: {name: tiny}\n")
    facts = {"status": "finished", "seconds": 61.5, "best": 47.5, "parameters": 3_000_000, "length": {"total": 512}}
    facts |= {"device": "cpu", "environment": {"revision": {"commit": "0123456789"}, "versions": {"torch": "2.15.0"}}}
    (place / "run.json").write_text(json.dumps(facts))


def compared(place: Path) -> object:
    """The page that compares, its table, and why what is left out is left out."""
    found = read_runs([place])
    page = write_comparison(found, place / "comparison").read_text()
    assert SECRET not in page
    assert page.count("<script") == 1  # the one that sorts tables
    scores = scores_of(found)
    return [str(summary(found)), "" if scores is None else str(scores), page.replace(str(place), "")]


def page(place: Path) -> object:
    text = write_page(place).read_text()
    assert text.count("<script") == 1  # the one that sorts tables
    return text.replace(str(place), "")


def identified(place: Path) -> None:
    """A folder that is claimed already."""
    results(place)
    (place / "identity.json").write_text(json.dumps(IDENTITY, indent=1, sort_keys=True) + "\n")


def held(place: Path) -> object:
    check_identity(place, IDENTITY)
    return "the same"


VIDEOS = {truth.name: Expected(FRAMES, truth.boxes[0]) for truth in truths()}


def a_zip(place: Path) -> None:
    for truth in truths():
        write_result(place / "results", truth.name, truth.boxes, np.full(FRAMES, 0.02), np.ones(FRAMES))
    (place / "sent.zip").write_bytes(build_submission("got10k", place / "results", VIDEOS))


def checked(place: Path) -> object:
    problems = check_submission("got10k", read_bytes(place / "sent.zip", largest=LARGEST), VIDEOS)
    if problems:
        assert all(problem.isprintable() for problem in problems)
        raise ValueError(f"sent.zip: {len(problems)} problems: {problems[0][:500]}")
    return "in order"


def ended(value: object) -> bool:
    """Whether the page is whole."""
    text = value[-1] if isinstance(value, list) else value
    return isinstance(text, str) and text.endswith("</html>\n")


def named_folders(name: str) -> Callable[[Path], None]:
    """Results whose folders have hostile names; those that a file system takes."""

    def damage(place: Path) -> None:
        if name and "/" not in name and "\0" not in name and len(name) < 256 and name != ".." and name.isascii():
            (place / "results" / "tiny").rename(place / "results" / name)

    return damage


def compares(file: str, kind: str) -> Reader:
    return Reader(f"{file} of a comparison", file, a_run, compared, kind, sane=ended, writes=("comparison",))


def times(file: str) -> Reader:
    return Reader(file, file, results, lambda place: list(read_result(place, "car")), "numbers", finite, names=("car",))


def of_page(file: str, **more: Any) -> Reader:
    path, inside = f"results/tiny/toy/media/{file}", ("media", "inside")
    return Reader(f"{file} of a page", path, a_run, page, "json", sane=ended, names=inside, writes=("report",), **more)


READERS = [
    Reader("boxes of a result", "car.txt", results, scored, "numbers", sane=percent, names=("car",)),
    times("car_time.txt"),
    times("car_confidence.txt"),
    Reader("scores.json", "scores.json", save_scores, loaded, "json"),
    of_page("media.json", extra={f"folders called {name[:20]!a}": named_folders(name) for name in HOSTILE_NAMES}),
    of_page("sequences.json"),
    Reader(
        "clip of a page",
        "results/tiny/toy/media/best.mp4",
        a_run,
        page,
        "binary",
        sane=ended,
        names=("media",),
        writes=("report",),
    ),
    compares("run.json", "json"),
    compares("config.yaml", "yaml"),
    compares("metrics.csv", "numbers"),
    Reader("identity of results", "identity.json", identified, held, "json", exact=True, names=("another run",)),
    Reader("zip for a server", "sent.zip", a_zip, checked, "zip"),
]
