"""The cheap pass reads a part of the search tokens as the whole pass would, and is believed only where it is likely."""

import copy

import numpy as np
import pytest
import torch
from tests.tracking.conftest import tiny
from tests.tracking.test_shipped import clip

from seqtrack_lit.boxes import iou
from seqtrack_lit.data.video.sequence import Video
from seqtrack_lit.models.inference_decoder import InferenceDecoder
from seqtrack_lit.models.two_stage_encoder import TwoStageEncoder
from seqtrack_lit.tracking.batched import together
from seqtrack_lit.tracking.cascade import Cascade
from seqtrack_lit.tracking.long_term import load_tracker
from seqtrack_lit.tracking.seqtrack import SeqTrackTracker, load_seqtrack
from seqtrack_lit.tracking.tracker import run_tracker
from seqtrack_lit.tracking.workers import track_here

LIKELY = 0.05  # lower than any frame of the clip


@pytest.fixture(scope="module")
def plain() -> SeqTrackTracker:
    return load_seqtrack(device="cpu")


@pytest.fixture(scope="module")
def shipped() -> SeqTrackTracker:
    return load_seqtrack(device="cpu", cascade=LIKELY)


def video(frames: int = 7) -> Video:
    images, boxes = clip(frames)
    return Video("card", images, boxes, np.ones(frames, bool))


def counted(tracker: SeqTrackTracker, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of every call of the cheap pass, whether it was believed."""
    found: list[bool] = []
    call = Cascade.__call__

    def count(self: Cascade, *given: object) -> object:
        prediction = call(self, *given)
        found.append(prediction is not None)
        return prediction

    monkeypatch.setattr(Cascade, "__call__", count)
    return found


def test_a_part_that_is_all_is_the_whole():
    torch.manual_seed(0)
    sizes = {"search_size": 56, "template_size": 28}
    encoder = TwoStageEncoder(**sizes, width=24, depth=3, heads=2, separate_blocks=1).eval()
    prepared = encoder.prepare_templates(torch.randn(1, 1, 3, 28, 28))
    search = torch.randn(1, 3, 56, 56)
    whole = encoder.features(prepared, search)
    assert torch.equal(encoder.features(prepared, search, kept=torch.arange(16)), whole)
    part = encoder.features(prepared, search[..., 14:42, 14:56], kept=torch.tensor([5, 6, 7, 9, 10, 11]))
    assert part.shape == (1, 6, 24)
    assert not torch.allclose(part[:, 0], whole[:, 5])


@pytest.mark.parametrize("project", [False, True])
def test_a_memory_of_some_tokens_has_their_positions(plain, project):
    decoder = InferenceDecoder(plain.model.decoder, plain.model.memory_position, project=project)
    kept, memory = torch.tensor([3, 17, 99]), torch.randn(1, 3, 192)
    positions = plain.model.memory_position[:, kept]
    with torch.no_grad():
        state, tokens = decoder.for_tokens(kept).prefill(memory)
        found, _ = decoder.for_tokens(kept).decode_step(tokens, state)
        exact, start = plain.model.decoder.prefill(memory, positions)
        wanted, _ = plain.model.decoder.decode_step(start, exact)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_sure_frames_are_answered_by_the_cheap_pass(plain, shipped, monkeypatch):
    believed = counted(shipped, monkeypatch)
    exact, near = run_tracker(plain, video()), run_tracker(shipped, video())
    assert believed == [True] * 6
    assert shipped.settings == {**plain.settings, "cascade": LIKELY}
    assert not np.array_equal(near.confidences, exact.confidences)
    assert iou(torch.from_numpy(near.boxes), torch.from_numpy(exact.boxes)).min() > 0.75


def test_unsure_frames_are_read_whole(plain, monkeypatch):
    """And the frames after them at once."""
    unsure = load_seqtrack(device="cpu", cascade=0.99)
    believed = counted(unsure, monkeypatch)
    assert np.array_equal(run_tracker(unsure, video()).boxes, run_tracker(plain, video()).boxes)
    assert believed == [False]


def test_a_box_that_reaches_out_of_the_part_is_not_believed(shipped, monkeypatch):
    tracker, (images, boxes) = copy.copy(shipped), clip(2)
    tracker.init(images[0], boxes[0])
    generate = type(tracker.model).generate_from

    def wide(self: object, *given: object, **more: object) -> object:
        found = generate(self, *given, **more)
        return found._replace(boxes=torch.tensor([[0.5, 0.5, 0.95, 0.2]]))

    crop = tracker.search_crop()
    assert tracker.predict_near(images[1], crop) is not None
    monkeypatch.setattr(type(tracker.model), "generate_from", wide)
    assert tracker.predict_near(images[1], crop) is None


def test_the_part_has_the_target_s_shape(shipped):
    square, wide = (shipped.cascade.spans(size) for size in ((40, 40), (80, 20)))
    assert square == (range(2, 8), range(2, 8))
    assert wide == (range(1, 9), range(3, 7))
    assert shipped.cascade.spans((400, 4)) == (range(10), range(3, 7))


def test_tracking_for_long_uses_it(monkeypatch):
    tracker = load_tracker(device="cpu", cascade=LIKELY)
    believed = counted(tracker.tracker, monkeypatch)
    track = run_tracker(tracker, video())
    assert sum(believed) >= 3  # sure by the calibration, too
    assert not track.lost.any()


def test_several_at_once_are_tracked_one_by_one(shipped):
    alone, tracks, images = run_tracker(shipped, video()).boxes, {}, clip(2)[0]

    class Store:
        def clean(self) -> None: ...

        def done(self, frames: object) -> tuple[str, ...]:
            return ()

        def write(self, name: str, track: object) -> None:
            tracks[name] = track.boxes

    track_here(copy.copy(shipped), [video()], Store(), [0], lambda event: None, 8)
    assert np.array_equal(tracks["card"], alone)
    pair = [copy.copy(shipped), copy.copy(shipped)]
    for one in pair:
        one.init(images[0], clip(2)[1][0])
    for estimate in together(pair)(pair, images[1]):
        assert np.array_equal(estimate.box_xywh, alone[1])


def test_other_networks_are_refused():
    with pytest.raises(ValueError, match=r"tracker.cascade=0.1 is for models with TwoStageEncoder"):
        SeqTrackTracker(tiny(), cascade=0.1)
