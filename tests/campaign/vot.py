"""Readers of VOT2020: annotation of a sequence, trajectories (text, the toolkit's binary form), the server's zip."""

import struct
from pathlib import Path

import numpy as np
from tests.campaign.harness import Reader, Value
from tests.data.vot import make_vot

from seqtrack_lit.data.sets.vot import annotation, vot2020
from seqtrack_lit.data.video.regions import VotAnnotation, format_region
from seqtrack_lit.evaluation.servers import LARGEST_VOT_ZIP, build_pack, check_pack
from seqtrack_lit.evaluation.vot import multistart, run_overlaps
from seqtrack_lit.evaluation.vot_results import EXPERIMENTS, read_trajectory, runs_of, write_trajectory
from seqtrack_lit.files import read_bytes

SEQUENCE = "sequences/seq0"


def a_set(place: Path) -> None:
    make_vot(place, sequences=1, frames=12)


def known(place: Path) -> list[VotAnnotation]:
    index = vot2020(place, complete=False)
    return [annotation(index.root, name) for name in index.names]


def opened(place: Path) -> Value:
    video, of = vot2020(place, complete=False)[0], known(place)[0]
    regions = [format_region(of.region(frame)) for frame in range(len(of))]
    tags = {name: flags.tolist() for name, flags in of.tags.items()}
    return [video.boxes, video.meta.get("attributes"), regions, of.anchors.tolist(), tags, list(of.size), of.fps]


def tracked(place: Path) -> None:
    a_set(place)
    for of in known(place):
        for experiment in EXPERIMENTS:
            for run in runs_of(experiment, of):
                lines = [format_region(of.region(frame)) for frame in run.order]
                write_trajectory(place / experiment, run, lines, np.ones(run.frames), np.ones(run.frames))


def tracked_by_the_toolkit(place: Path) -> None:
    """One run in binary form, rectangles."""
    tracked(place)
    path = place / "baseline" / "seq0" / "seq0_00000000.txt"
    path.unlink()
    boxes = [struct.pack("<Bffff", 1, 10 + frame, 20, 20, 16) for frame in range(11)]
    path.with_suffix(".bin").write_bytes(struct.pack("<hIBI", 1, 12, 0, 1) + b"".join(boxes))


def scored(place: Path) -> Value:
    of = known(place)[0]
    runs = runs_of("baseline", of)
    trajectories = [read_trajectory(place / "baseline", run) for run in runs]
    found = multistart([run_overlaps(of, [run.order for run in runs], trajectories)], [len(of)], low=2, high=9)
    return [found.eao, found.accuracy, found.robustness, found.curve]


def fractions(value: Value) -> bool:
    return all(0 <= number <= 1 for number in value[:3])  # type: ignore[index]


def a_pack(place: Path) -> None:
    tracked(place)
    (place / "sent.zip").write_bytes(build_pack("t", place, known(place)))


def checked(place: Path) -> Value:
    problems = check_pack(read_bytes(place / "sent.zip", largest=LARGEST_VOT_ZIP), known(place))
    if problems:
        assert all(problem.isprintable() for problem in problems)
        raise ValueError(f"sent.zip: {len(problems)} problems: {problems[0][:500]}")
    return "in order"


BESIDE = ("groundtruth.txt", "anchor.value", "color", "sequences")  # files that one of them may contradict
READERS = [
    Reader("VOT groundtruth.txt", f"{SEQUENCE}/groundtruth.txt", a_set, opened, "numbers", names=BESIDE),
    Reader("VOT anchor.value", f"{SEQUENCE}/anchor.value", a_set, opened, "numbers", names=BESIDE),
    Reader("VOT tag", f"{SEQUENCE}/camera_motion.tag", a_set, opened, "numbers"),
    Reader("VOT sequence", f"{SEQUENCE}/sequence", a_set, opened, "text", names=BESIDE),
    Reader(
        "VOT trajectory",
        "baseline/seq0/seq0_00000008.txt",
        tracked,
        scored,
        "numbers",
        sane=fractions,
        names=("seq0",),
    ),
    Reader(
        "VOT trajectory of the toolkit",
        "baseline/seq0/seq0_00000000.bin",
        tracked_by_the_toolkit,
        scored,
        "binary",
        sane=fractions,
        names=("seq0",),
    ),
    Reader("VOT zip for the server", "sent.zip", a_pack, checked, "zip"),
]
