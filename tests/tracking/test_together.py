"""Targets tracked together are tracked as one by one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.tracking.conftest import blob_video

from seqtrack_lit.data.video.sequence import Video
from seqtrack_lit.evaluation.results import read_result
from seqtrack_lit.models.decoder import Decoder
from seqtrack_lit.models.encoder import ViTEncoder
from seqtrack_lit.models.prepacked import onednn_works
from seqtrack_lit.models.seqtrack import SeqTrack
from seqtrack_lit.tokens import BoxTokenizer
from seqtrack_lit.tracking import batched
from seqtrack_lit.tracking.baselines import StaticBox
from seqtrack_lit.tracking.batched import BatchTracker, together, track_in_slots, track_together
from seqtrack_lit.tracking.benchmark import run_benchmark
from seqtrack_lit.tracking.seqtrack import SeqTrackTracker
from seqtrack_lit.tracking.tracker import run_tracker


def model(past: int = 0, bins: int = 50) -> SeqTrack:
    torch.manual_seed(0)
    tokenizer = BoxTokenizer(bins=bins)
    encoder = ViTEncoder(search_size=32, template_size=16, templates=2, patch=8, width=16, depth=2, heads=2)
    decoder = Decoder(tokenizer=tokenizer, width=16, depth=1, heads=2, ffn=32, past=past)
    return SeqTrack(tokenizer=tokenizer, encoder=encoder, decoder=decoder)


@pytest.fixture
def many() -> list[Video]:
    """Videos of other lengths and sizes: 4, 9, 6, 1, 12, 7 frames."""
    lengths, sizes = (4, 9, 6, 1, 12, 7), ((96, 72), (64, 90), (120, 60))
    return [blob_video(f"v{i}", n, i, sizes[i % 3]) for i, n in enumerate(lengths)]


SETTINGS = {
    "naive update, window": (0, {"update": "naive", "update_interval": 2}),
    "likelihood update": (0, {"update_interval": 1, "update_threshold": 0.019}),
    "means of bins": (0, {"expectation": 3, "offset": 0.5}),
    "past boxes, no window": (2, {"window": False, "update": "none"}),
}


@pytest.mark.skipif(not onednn_works(torch.float32, "int8"), reason="no products of 8-bit integers by this torch")
def test_as_one_by_one_in_eight_bits(many: list[Video]) -> None:
    """The levels of a batch would be those of its largest values, of whichever target."""
    tracker = SeqTrackTracker(model(), dtype="int8", expectation=3, update_interval=1, update_threshold=0.019)
    found = track_together(tracker, many, batch=3)
    for video in many:
        np.testing.assert_array_equal(found[video.name].boxes, run_tracker(tracker, video).boxes)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("batch", [1, 3, 16])
@pytest.mark.parametrize(("past", "settings"), list(SETTINGS.values()), ids=list(SETTINGS))
def test_as_one_by_one(many: list[Video], past: int, settings: dict[str, Any], device: str, batch: int) -> None:
    """Every batch is smaller than, or larger than what is left; on CUDA one by one is a recorded graph."""
    tracker = SeqTrackTracker(model(past), device=device, **settings)
    with torch.backends.cudnn.flags(allow_tf32=False):
        found = track_together(tracker, many, batch=batch)
        assert list(found) == [video.name for video in many]
        for video in many:
            alone, track = run_tracker(tracker, video), found[video.name]
            # equal tokens are equal boxes, to the last bit; means of bins are not
            exact = device == "cpu" and "expectation" not in settings
            np.testing.assert_allclose(track.boxes, alone.boxes, rtol=0, atol=0 if exact else 1e-3)
            np.testing.assert_allclose(track.confidences, alone.confidences, rtol=1e-5)
            np.testing.assert_array_equal(track.updated, alone.updated)
            assert (track.times > 0).all()
    if settings.get("update") == "naive":
        assert found["v4"].updated.tolist() == [False, False] + [True, False] * 5


def test_near_ties_are_decided_as_alone(many: list[Video], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every row of the head there are two: all tokens are ties but for the last bits, which a batch may turn."""
    net = model(bins=100)
    with torch.no_grad():
        for parameter in (net.decoder.head[-1].weight, net.decoder.head[-1].bias):
            parameter[1:100:2] = parameter[0:100:2] * (1 + 1e-6)
    tracker, decided = SeqTrackTracker(net, window=False), 0
    plain = SeqTrackTracker.predict

    def predict(self: SeqTrackTracker, image: np.ndarray, **wanted: bool) -> Any:
        nonlocal decided
        decided += 1
        return plain(self, image, **wanted)

    with monkeypatch.context() as patch:
        patch.setattr(SeqTrackTracker, "predict", predict)
        found = track_together(tracker, many)
        assert decided == 30  # of 33: the last three frames of the longest are tracked alone
    for video in many:
        np.testing.assert_array_equal(found[video.name].boxes, run_tracker(tracker, video).boxes)


def test_a_slot_is_taken_by_the_next_video(many: list[Video]) -> None:
    steps: list[int] = []
    tracker = SeqTrackTracker(model(), update="none")
    ended = [one.name for one in track_in_slots(tracker, many, iter(range(6)), batch=2, progress=steps.append)]
    # v0 ends with step 4, so v2 with 10; v1 with 9, so v3 with 10; then v4 from 11 to 22 beside v5 from 11 to 17
    assert ended == ["v0", "v1", "v2", "v3", "v5", "v4"]
    assert sum(steps) == 39
    assert max(steps) == 2


def test_a_bad_video_costs_no_other(many: list[Video], tmp_path: Path) -> None:
    boxes = many[1].boxes.copy()
    boxes[0] = [500, 500, 10, 10]
    many[1] = Video("outside", many[1].frames, boxes, many[1].visible)
    many[2].frames[3] = np.zeros((5, 5), np.uint8)  # grey
    many[5] = Video("empty", [], many[5].boxes, many[5].visible)
    tracker = SeqTrackTracker(model(), update="none")
    summary = run_benchmark(lambda device: tracker, many, tmp_path, show=False, batch=3)
    assert set(summary.failed) == {"outside", "v2", "empty"}
    assert summary.failed["outside"].startswith("sequence outside: first box")
    assert summary.failed["v2"].startswith("a frame must be RGB as a numpy array")
    assert summary.failed["empty"].startswith("sequence empty: 0 frames and 7 boxes; tracking needs at least one frame")
    assert (summary.tracked, summary.frames) == (3, 4 + 1 + 12)
    np.testing.assert_allclose(read_result(tmp_path, "v4").boxes, run_tracker(tracker, many[4]).boxes, atol=1e-4)
    with pytest.raises(ValueError, match="sequence outside: first box"):
        track_together(tracker, many[:2])


def test_an_output_that_is_not_finite_costs_no_other(many: list[Video], monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = SeqTrackTracker(model(), update="none")
    plain = BatchTracker._predict

    def predict(self: BatchTracker, *arguments: Any) -> Any:
        boxes, likelihoods, close = plain(self, *arguments)
        boxes[0] = float("nan")
        return boxes, likelihoods, close

    monkeypatch.setattr(batched.BatchTracker, "_predict", predict)
    first, second = sorted(track_in_slots(tracker, many[:2], range(2), batch=2))
    assert isinstance(first.track, ValueError)
    assert "the network's output for frame 1 is not finite" in str(first.track)
    assert isinstance(second.track, ValueError)  # it stands first from then on
    assert "for frame 2" in str(second.track)


def test_several_targets_of_a_video(videos: list[Video]) -> None:
    video, boxes = videos[1], [videos[1].boxes[0], np.array([30.0, 20, 25, 30]), np.array([5.0, 5, 60, 40])]
    tracker = SeqTrackTracker(model(), update="naive", update_interval=3)
    targets = [BatchTracker(tracker).start(video.frames[0], box) for box in boxes]
    update = together(targets)
    found = [update(targets, image) for image in list(video.frames)[1:]]
    for place, box in enumerate(boxes):
        alone = run_tracker(tracker, Video("one", video.frames, box[None], np.ones(1, bool)))
        np.testing.assert_array_equal([frame[place].box_xywh for frame in found], alone.boxes[1:])
    static = [StaticBox(), StaticBox()]
    for one, box in zip(static, boxes[:2], strict=True):
        one.init(video.frames[0], box)
    assert [estimate.box_xywh.tolist() for estimate in together(static)(static, video.frames[1])] == [
        box.tolist() for box in boxes[:2]
    ]


def test_nothing_to_track() -> None:
    assert track_together(SeqTrackTracker(model()), []) == {}
