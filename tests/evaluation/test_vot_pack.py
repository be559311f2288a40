"""The zip for VOT's server: what is in it, and what is wrong with one."""

import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from tests.data.vot import make_vot

from seqtrack_lit.data.sets.vot import annotation, vot2020
from seqtrack_lit.data.video.regions import VotAnnotation, format_region
from seqtrack_lit.evaluation.servers import build_pack, check_pack
from seqtrack_lit.evaluation.vot_results import EXPERIMENTS, runs_of, write_trajectory

Files = dict[str, bytes]
RUN = "baseline/seq0/seq0_00000008"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[VotAnnotation]]:
    """A zip of the ground truth as a tracker's answer."""
    root = tmp_path_factory.mktemp("vot")
    make_vot(root / "set", sequences=2, frames=12)
    index = vot2020(root / "set", complete=False)
    known = [annotation(index.root, name) for name in index.names]
    for experiment in EXPERIMENTS:
        for of in known:
            for run in runs_of(experiment, of):
                ones = np.ones(run.frames)
                write_trajectory(
                    root / "t" / experiment, run, [format_region(of.region(i)) for i in run.order], ones, ones
                )
    return build_pack("my tracker", root / "t", known), known


def unpacked(content: bytes) -> Files:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(files: Files, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def test_a_whole_zip_is_in_order(made: tuple[bytes, list[VotAnnotation]]) -> None:
    content, known = made
    assert check_pack(content, known) == []
    files = unpacked(content)
    assert {"baseline/seq0/seq0_00000008.txt", "unsupervised/seq1/seq1_001_time.value", "manifest.yml"} <= set(files)
    manifest = yaml.safe_load(files["manifest.yml"])
    assert (manifest["identifier"], manifest["stack"]) == ("my_tracker", "vot2020/shortterm")


def test_values_of_a_name_with_brackets_are_packed(tmp_path: Path) -> None:
    """They would be a pattern to glob."""
    make_vot(tmp_path, sequences=1, frames=12)
    known = replace(annotation(tmp_path / "sequences", "seq0"), name="seq [0]")
    for experiment in EXPERIMENTS:
        for run in runs_of(experiment, known):
            ones = np.ones(run.frames)
            write_trajectory(tmp_path / experiment, run, ["1,1,9,9"] * run.frames, ones, ones)
    assert check_pack(build_pack("mine", tmp_path, [known]), [known]) == []


def _changed(name: str, change: Callable[[bytes], bytes]) -> Callable[[Files], Files]:
    return lambda files: {key: change(data) if key == name else data for key, data in files.items()}


def _without(name: str) -> Callable[[Files], Files]:
    return lambda files: {key: data for key, data in files.items() if key != name}


DAMAGES: dict[str, tuple[Callable[[Files], Files], str]] = {
    "a run is missing": (_without(f"{RUN}.txt"), f"{RUN}.txt: missing"),
    "times are missing": (_without(f"{RUN}_time.value"), f"{RUN}_time.value: missing"),
    "no manifest": (_without("manifest.yml"), "manifest.yml: missing"),
    "another manifest": (_changed("manifest.yml", lambda data: b"[1, 2"), "manifest.yml: cannot be read"),
    "no name": (_changed("manifest.yml", lambda data: b"stack: x"), "identifier (the tracker's name) is missing"),
    "a row too few": (_changed(f"{RUN}.txt", lambda data: data[: data.rindex(b"\n", 0, -1) + 1]), "this run has"),
    "no start": (_changed(f"{RUN}.txt", lambda data: b"1,2,3,4" + data[1:]), "line 1: expected 1"),
    "two starts": (
        _changed(f"{RUN}.txt", lambda data: data[:2] + b"1\n" + data[data.index(b"\n", 2) + 1 :]),
        "line 2: a",
    ),
    "no region": (_changed(f"{RUN}.txt", lambda data: data.replace(b"m", b"k", 1)), "is no region"),
    "no text": (_changed(f"{RUN}.txt", lambda data: b"\xff" + data), "utf-8"),
    "no seconds": (_changed(f"{RUN}_time.value", lambda data: data.replace(b"1", b"-1", 1)), "line 1: '-1.000000'"),
    "twice": (lambda files: {**files, f"{RUN}.bin": b""}, "both as text and as .bin"),
    "more than wanted": (lambda files: {**files, "notes.txt": b""}, "1 files that do not belong in the zip"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_is_told(kind: str, made: tuple[bytes, list[VotAnnotation]]) -> None:
    damage, message = DAMAGES[kind]
    problems = check_pack(packed(damage(unpacked(made[0]))), made[1])
    assert any(message in problem for problem in problems), problems
    assert len(problems) == 1


def test_no_zip_and_an_odd_one(made: tuple[bytes, list[VotAnnotation]]) -> None:
    content, known = made
    assert "not a zip file" in check_pack(content[:1000], known)[0]
    assert "with deflate" in check_pack(packed(unpacked(content), zipfile.ZIP_BZIP2), known)[0]
