"""seqtrack-evaluate with official checkpoints of every kind; the official numbers in conf/benchmark."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from tests.models.by_hand import TRACKS, ByHand, Options, state_of, video, write_checkpoint

from seqtrack_lit.cli import evaluate
from seqtrack_lit.evaluation.results import read_result
from seqtrack_lit.models.official import INTERVALS, THRESHOLDS, mean_probability

CONF = Path(__file__).parents[2] / "conf" / "benchmark"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Evaluate on one video in a folder; gives back its result."""
    monkeypatch.chdir(tmp_path)

    def go(frames: np.ndarray, box: tuple[float, ...], *arguments: str):
        place = tmp_path / "set" / "video"
        place.mkdir(parents=True)
        for number, frame in enumerate(frames):
            cv2.imwrite(str(place / f"{number:04d}.png"), frame[..., ::-1])
        np.savetxt(place / "groundtruth.txt", [box] * len(frames), fmt="%.6f", delimiter=",")
        common = ["benchmark=folder", "benchmark.root=set", "device=cpu", "out=out", "media=false"]
        monkeypatch.setattr(sys, "argv", ["seqtrack-evaluate", *common, *arguments])
        evaluate.main()
        return read_result(tmp_path / "out" / "seqtrack" / "folder", "video")

    return go


@pytest.mark.parametrize("name", TRACKS)
def test_official_config(tmp_path, run, name):
    o, size, box, speed = TRACKS[name]
    frames = video(o.seed, 9, size, box, speed)
    checkpoint, config = write_checkpoint(tmp_path, o)
    result = run(frames, box, f"checkpoint={checkpoint}", f"official_config={config}")
    kept = ByHand(o, state_of(o)).track(frames, box)
    np.testing.assert_allclose(result.boxes[1:], kept["boxes"], atol=1e-3)
    np.testing.assert_allclose(result.confidences[1:], np.mean(kept["likelihoods"], axis=1), atol=1e-5)


def test_the_command_line_wins_over_the_file(tmp_path, run):
    o = Options(order="corner", pre_norm=True, templates=3, memory="token", search_size=64, template_size=32, seed=20)
    used = Options(**{**vars(o), "window": False, "interval": 2, "threshold": 0.2, "search_factor": 3.0})
    frames = video(o.seed, 7, (160, 120), (50, 40, 30, 20), (2, 1))
    checkpoint, config = write_checkpoint(tmp_path, o)
    result = run(
        frames,
        (50, 40, 30, 20),
        *(f"checkpoint={checkpoint}", f"official_config={config}", "tracker.window=false"),
        *("tracker.update_interval=2", "tracker.update_threshold=0.005", "tracker.search_factor=3.0"),
    )
    kept = ByHand(used, state_of(o)).track(frames, [50, 40, 30, 20])
    assert sum(kept["updated"]) > 0
    np.testing.assert_allclose(result.boxes[1:], kept["boxes"], atol=1e-3)


class Creates:
    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_hostile_checkpoint_does_nothing(tmp_path, run, capsys):
    marker, path = tmp_path / "created", tmp_path / "hostile.pth.tar"
    torch.save({"net": Creates(marker)}, path)
    with pytest.raises(SystemExit) as stop:
        run(video(0, 2, (60, 50), (20, 20, 10, 10), (0, 0)), (20, 20, 10, 10), f"checkpoint={path}")
    assert stop.value.code == 2
    assert "class that is not read" in capsys.readouterr().err
    assert not marker.exists()


OFFICIAL_NAMES = {
    "lasot": "LASOT",
    "lasot_ext": "LASOT_EXTENSION_SUBSET",
    "got10k_test": "GOT10K_TEST",
    "trackingnet": "TRACKINGNET",
    "tnl2k": "TNL2K",
    "otb100": "OTB",
    "nfs": "NFS",
    "uav123": "UAV",
}


@pytest.mark.parametrize("name", sorted(path.stem for path in CONF.glob("*.yaml")))
def test_benchmarks_have_the_official_numbers(name):
    with initialize_config_dir(str(CONF.parent), version_base="1.3"):
        tracker = compose("evaluate", [f"benchmark={name}"]).tracker
    if name in ("folder", "generated", "vot2020"):  # the checkpoint's own; VOT's depend on the model
        assert (tracker.update_interval, tracker.update_threshold) == (None, None)
        return
    official = OFFICIAL_NAMES.get(name, OFFICIAL_NAMES.get(name.partition("_")[0].rstrip("0123456789"), "DEFAULT"))
    assert tracker.update_interval == INTERVALS[official]
    assert tracker.update_threshold == mean_probability(THRESHOLDS.get(official, THRESHOLDS["DEFAULT"]))
