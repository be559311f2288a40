"""One set of data and a few shared runs for the whole rehearsal; tests run in the order of the files."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.rehearsal.commands import Command, Done, printed
from tests.rehearsal.sets import make_sets

# seqtrack_tiny, smaller still: a step takes milliseconds
SMALL = [
    "model.encoder.width=32", "model.encoder.depth=1", "model.encoder.heads=2", "model.decoder.width=32",
    "model.decoder.heads=2", "model.decoder.ffn=32",
]  # fmt: skip
TINY = ["model=seqtrack_tiny", *SMALL]
# two epochs of two steps, and as many frames of a video tracked as in earnest
SHORT = [
    "train.samples=16", "train.epoch_samples=8", "train.global_batch=4", "data.workers=0", "data.validation.pairs=4",
    "data.validation.tracks=2", "trainer.accelerator=cpu", "callbacks.pictures=2", "callbacks.clips=1",
    "callbacks.log_every=1",
]  # fmt: skip
PART = ["data.train.lasot.open.complete=false", "data.train.trackingnet.open.parts=[0,3]"]  # the sets are not whole
ROWS = "experiments/tab4_ablations/README.md"  # its first command trains the rows of the ablation study

Run = Callable[..., Done]


def shortened(words: list[str]) -> list[str]:
    """A printed command of seqtrack-train on the four sets, with the model and the lengths of a rehearsal."""
    kept = [re.sub(r"^model=\w+$", "model=seqtrack_tiny", word) for word in words if "model/encoder=" not in word]
    given = {word.partition("=")[0] for word in kept}
    part = PART if {"data=paper", "data=official"} & set(kept) else []
    return [*kept, *(item for item in (*TINY, *SHORT) if item.partition("=")[0] not in given), *part]


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder all commands are given in, with the sets in data/."""
    folder = tmp_path_factory.mktemp("rehearsal")
    make_sets(folder / "data")
    return folder


@pytest.fixture(scope="session")
def run(place: Path) -> Run:
    """Give a command and wait for it: run("seqtrack-train", "data=paper")."""

    def go(*line: str) -> Done:
        return Command(list(line), place).end()

    return go


@pytest.fixture(scope="session")
def trained(run: Run, place: Path) -> dict[str, Path]:
    """Folders of the ablation study's trainings on the four sets, by name of the row."""
    line = shortened(printed(ROWS)[0])
    assert {"data=paper", "ablation=glob(*)", "name=tab4"} <= set(line)
    done = run(*line)
    assert done.code == 0, done.screen
    return {folder.name.removeprefix("ablation-"): folder for folder in (place / "runs/tab4").glob("ablation-*")}
