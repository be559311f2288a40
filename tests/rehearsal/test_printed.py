"""The commands of README.md, experiments/ and parts of docs/, as they stand there, with a rehearsal's model, lengths.

What is replaced: the model by the tiny one, how long it trains and what it is tried on, DATE by the run's folder, seeds
of a sweep by one, and that a set must be whole. All else is given as printed, in the order of the page.
"""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.data.fixtures import MAKERS, write_video
from tests.data.vot import make_vot
from tests.rehearsal.commands import ROOT, printed
from tests.rehearsal.conftest import SHORT, SMALL, Run, shortened

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
GOLDEN = ROOT / "tests/golden/model/s1"
DOCS = [
    f"docs/{name}.md"
    for name in ("train", "sweep", "export", "wandb", "track", "evaluate", "datasets", "scaling", "index")
]
# README compares runs of an experiment, so it comes last
PAGES = [*sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("experiments/*/README.md")), *DOCS, "README.md"]
DONE: set[str] = set()  # what a page before had as well
# launchers, all benchmarks at once, profiles of whole models, masks and the small tracker have tests of their own; one
# seed of a sweep is run
ELSEWHERE = (
    "hydra/launcher=", "benchmark=glob(*)", "--help", "seqtrack-profile", "seed-1", "seed-2",
    # pictures and weights out of packages; published weights
    "pool=", "experiment=small", "init_from=runs/first", "runs/second", "root=CLIPS", "mask_checkpoint=",
    "ui=true", "to=official",
    # cameras, streams, stores; packs of every set of a mix; a batch that a rehearsal's is smaller than
    "source=0", "source=rtsp", "data.packs=", "dry_run=",
)  # fmt: skip
# of experiments on generated videos, which bring a model and data of their own
FEW = [
    *SMALL, *(item for item in SHORT if not item.startswith("data.validation.tracks")), "data.validation.tracks=1",
    "data.validation.track_frames=8", "data.train.generated.open.count=2", "data.validation.open.count=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def prepared(place: Path, run: Run, trained: dict[str, Path]) -> Path:
    """What the pages take for granted: the quickstart, a clip, an official checkpoint, results, further test sets."""
    for name in ("lasot_ext", "nfs", "tnl2k", "uav123"):
        MAKERS[name](place / "data" / name)
    make_vot(place / "data" / "vot2020")
    shutil.copy(GOLDEN / "SEQTRACK_ep0007.pth.tar", place / "SEQTRACK_ep0500.pth.tar")
    frames = [np.full((192, 256, 3), 40 + number, np.uint8) for number in range(40)]
    write_video(place / "clip.mp4", frames)
    (place / "clip.csv").write_text("frame,target,x,y,w,h\n0,0,120,80,64,48\n4,0,110,70,64,48\n")
    for video in ("MY_VIDEOS/cat", "VIDEOS/cat", "myvideos/cat", "myvideos/dog"):
        (place / video).mkdir(parents=True)
        write_video(place / video / "clip.mp4", frames)
        (place / video / "groundtruth.txt").write_text("120,80,64,48\n" * 40)
    rows = "".join(f"{name}/clip.mp4,{frame},120,80,64,48\n" for name in ("cat", "dog") for frame in range(40))
    (place / "myvideos/all.csv").write_text(f"video,frame,x,y,w,h\n{rows}")
    tracked = [f"run={trained['baseline']}", "benchmark=lasot", "complete=false", "media=false", "device=cpu"]
    for line in (["seqtrack-train", "experiment=quickstart", *FEW], ["seqtrack-evaluate", *tracked]):
        done = run(*line)
        assert done.code == 0, done.screen
    shutil.copytree(trained["baseline"] / "results/baseline", place / "results_of_any_tracker")
    return place


def as_printed(line: list[str], place: Path) -> list[list[str]]:
    """A command with the replacements above; several where the shell would give several."""
    name, *words = line
    words = [_dated(word, place).replace("paths.data=/data", "paths.data=data") for word in words]
    if name == "seqtrack-train":
        if not any(word.startswith("experiment=") and word != "experiment=got10k" for word in words):
            return [[name, *shortened(words)]]
        swept = "-m" not in words and not any("quickstart" in word for word in words)
        return [[name, *words, *FEW, *(["hydra.sweeper.params.seed=0"] if swept else [])]]
    if name == "seqtrack-evaluate":
        words += ["media=false", "device=cpu"]
        words += ["complete=false"] if any(word.startswith("benchmark=") for word in words) else ["benchmark.count=1"]
        if any(word.startswith("checkpoint=SEQTRACK") for word in words):
            words.append(f"official_config={GOLDEN / 'cfg.yaml'}")
    if name in ("seqtrack-report", "seqtrack-data") and any(
        re.match("benchmark=|(check|show|bench|pack)=lasot", word) for word in words
    ):
        words.append("complete=false")
    stars = [word for word in words if word.endswith("/*/")]
    if not stars:
        return [[name, *words]]
    folders = sorted(path for path in place.glob(stars[0].partition("=")[2]) if path.is_dir())
    return [[name, *(f"run={folder}/" if word in stars else word for word in words)] for folder in folders]


def _dated(word: str, place: Path) -> str:
    run = re.search(r"runs/\w+(?=/DATE)", word)
    if run is None:
        return word
    (folder,) = (place / run[0]).glob("20*")
    return word.replace(f"{run[0]}/DATE", str(folder.relative_to(place)))


@pytest.mark.parametrize("page", [page for page in PAGES if printed(page)])
def test_commands_of_a_page(page: str, prepared: Path, run: Run) -> None:
    for line in printed(page):
        if " ".join(line) in DONE or any(word in " ".join(line) for word in ELSEWHERE):
            continue
        DONE.add(" ".join(line))
        for command in as_printed(line, prepared):
            done = run(*command)
            # a check says that our videos are shorter than the published ones
            checked = any(word.startswith("check=") for word in command)
            assert done.code in ((0, 1) if checked else (0,)), f"{' '.join(line)}\n\n{done.screen}"
