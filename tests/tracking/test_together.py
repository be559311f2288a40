"""Videos tracked in step are tracked as one by one."""

from typing import Any

import numpy as np
import pytest
import torch

from seqtrack_lit.data.video.sequence import Video
from seqtrack_lit.models.decoder import Decoder
from seqtrack_lit.models.encoder import ViTEncoder
from seqtrack_lit.models.seqtrack import SeqTrack
from seqtrack_lit.tokens import BoxTokenizer
from seqtrack_lit.tracking.batched import track_together
from seqtrack_lit.tracking.seqtrack import SeqTrackTracker
from seqtrack_lit.tracking.tracker import run_tracker


def model(past: int) -> SeqTrack:
    torch.manual_seed(0)
    tokenizer = BoxTokenizer(bins=50)
    encoder = ViTEncoder(search_size=32, template_size=16, templates=2, patch=8, width=16, depth=2, heads=2)
    decoder = Decoder(tokenizer=tokenizer, width=16, depth=1, heads=2, ffn=32, past=past)
    return SeqTrack(tokenizer=tokenizer, encoder=encoder, decoder=decoder)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize(
    ("past", "settings"),
    [(0, {"update": "naive", "update_interval": 2}), (2, {"window": False, "update": "none"})],
    ids=["templates renewed, window", "past boxes"],
)
def test_together_as_one_by_one(videos: list[Video], past: int, settings: dict[str, Any], device: str) -> None:
    """Videos of 4, 9 and 6 frames; the last frames of the longest are alone. On CUDA one by one is a recorded graph."""
    tracker = SeqTrackTracker(model(past), device=device, **settings)
    with torch.backends.cudnn.flags(allow_tf32=False):
        _compare(tracker, videos)
        assert track_together(tracker, videos)["c"].updated.any() == (past == 0)


def _compare(tracker: SeqTrackTracker, videos: list[Video]) -> None:
    together = track_together(tracker, videos)
    assert list(together) == [video.name for video in videos]
    for video in videos:
        alone, found = run_tracker(tracker, video), together[video.name]
        np.testing.assert_allclose(found.boxes, alone.boxes, atol=1e-3)
        np.testing.assert_allclose(found.confidences, alone.confidences, atol=1e-5)
        np.testing.assert_array_equal(found.updated, alone.updated)
        assert (found.times > 0).all()


def test_a_bad_first_box_names_its_video(videos: list[Video]) -> None:
    boxes = videos[1].boxes.copy()
    boxes[0] = [500, 500, 10, 10]
    bad = Video("outside", videos[1].frames, boxes, videos[1].visible)
    with pytest.raises(ValueError, match="sequence outside: first box"):
        track_together(SeqTrackTracker(model(0)), [videos[0], bad])


def test_nothing_to_track() -> None:
    assert track_together(SeqTrackTracker(model(0)), []) == {}
