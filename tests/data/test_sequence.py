"""A video is cut with everything that has a value a frame."""

from functools import partial
from typing import Any

import numpy as np
import pytest
from tests.data.test_datamodule import data

from seqtrack_lit.data.datamodule import Validation
from seqtrack_lit.data.sets.training import got10k
from seqtrack_lit.data.video.sequence import Video
from seqtrack_lit.evaluation.scores import ground_truth, score_sequences


def video(rows: int, frames: int = 5) -> Video:
    images = [np.full((8, 9, 3), index, np.uint8) for index in range(frames)]
    meta = {"cover": np.arange(rows), "resolution": (9, 8), "attributes": ("fast", "small"), "frame_rate": 25.0}
    return Video("v", images, np.arange(4.0 * rows).reshape(rows, 4), np.arange(rows) % 2 == 0, meta)


@pytest.mark.parametrize("rows", [5, 1], ids=["all boxes", "the first box only"])
def test_the_beginning_of_a_video(rows: int) -> None:
    short = video(rows).beginning(2)
    kept = min(rows, 2)
    assert len(short) == len(short.frames) == 2
    assert [int(short.frames[i][0, 0, 0]) for i in (0, 1, -1)] == [0, 1, 1]
    assert short.boxes.tolist() == np.arange(4.0 * kept).reshape(kept, 4).tolist()
    assert short.visible.tolist() == [True, False][:kept]
    assert short.meta["cover"].tolist() == list(range(kept))  # type: ignore[attr-defined]
    assert {name: value for name, value in short.meta.items() if name != "cover"} == {
        "resolution": (9, 8), "attributes": ("fast", "small"), "frame_rate": 25.0,
    }  # fmt: skip


def test_a_video_that_is_short_enough_stays() -> None:
    whole = video(5)
    assert whole.beginning(5) is whole.beginning(None) is whole


def test_the_beginning_of_got10k_videos_can_be_scored(make_dataset: Any) -> None:
    """24 frames cut to 10; frame 4 is covered whole and not counted, and results are 10 boxes long."""
    root = make_dataset("got10k").root
    held_out = Validation(partial(got10k, root, split="val"), tracks=2, track_frames=10)
    videos = data(validation=held_out).val_sequences()
    truths = [ground_truth(v.name, v.boxes, v.visible, v.meta, benchmark="validation") for v in videos]
    assert [truth.cover.tolist() for truth in truths if truth.cover is not None] == [[8, 8, 8, 0, 0, 8, 8, 8, 8, 8]] * 2
    perfect = {video.name: video.boxes for video in videos}
    for convention, value in (("got10k_ao", "AO"), ("seqtrack", "AUC")):
        assert score_sequences(truths, perfect, convention=convention).values[value] > 99 - 4  # AUC: 20 of 21 points
