"""VOT2020 from one command, killed at ten random moments: what was finished stays, the rest comes."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.campaign.kills import Command
from tests.campaign.kills import run as run_command
from tests.campaign.weights import ours
from tests.data.vot import make_vot

ARGUMENTS = (
    "checkpoint=best.ckpt", "benchmark=vot2020", "complete=false", "paths.data=data", "device=cpu",
    "vot.eao_lengths=[3,9]", "vot.seconds_per_frame=0.1", "batch=2",
)  # fmt: skip


def prepare(place: Path) -> None:
    place.mkdir(parents=True)
    make_vot(place / "data" / "vot2020", sequences=3, frames=40)
    ours(place)


def trajectories(place: Path) -> dict[str, str]:
    """Finished runs by file, those that are renamed last."""
    root = place / "runs" / "results"
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("seq*.txt")}


def scores(place: Path) -> dict[str, Any]:
    known = json.loads((place / "runs/results/mine/vot2020/scores.json").read_text())
    return {name: {key: value for key, value in of.items() if key != "fps"} for name, of in known.items()}


@pytest.mark.slow
def test_ten_kills(tmp_path: Path) -> None:
    command = Command("vot2020", "evaluate", ARGUMENTS, prepare, trajectories)
    prepare(tmp_path / "whole")
    undisturbed = run_command(command, tmp_path / "whole")
    assert undisturbed.code == 0, undisturbed.screen
    wanted, wanted_scores = trajectories(tmp_path / "whole"), scores(tmp_path / "whole")
    assert len(wanted) == 2 * (6 + 6 + 6) + 3, "all runs of baseline and realtime, and three from the first frame"

    rng, kills, here, lost, came = np.random.default_rng(14), 0, tmp_path / "here", 0, 0
    prepare(here)
    while kills < 10:
        before = trajectories(here)
        number = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)[kills % 3]
        ended = run_command(command, here, number, float(rng.uniform(0, 0.4 * undisturbed.seconds)))
        after = trajectories(here)
        lost += sum(after.get(name) != text for name, text in before.items())
        came += len(after) > len(before)
        assert "Traceback" not in ended.screen
        if ended.code == 0:  # it was done before: begin anew
            shutil.rmtree(here)
            prepare(here)
            continue
        assert ended.code in (-number, 143, 130)
        kills += 1
    assert lost == 0
    assert came > 0, "every kill came before the work"
    ended = run_command(command, here)
    assert ended.code == 0, ended.screen
    assert trajectories(here) == wanted
    assert scores(here) == wanted_scores
    assert not list(here.rglob("*.part"))
