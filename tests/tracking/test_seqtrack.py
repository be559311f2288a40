"""The rules of SeqTrack's tracker one by one; that it equals the official one is in models/test_golden_tracker.py."""

import numpy as np
import pytest
import torch
from tests.tracking.conftest import tiny

from seqtrack_lit.data.video.sequence import Video
from seqtrack_lit.models import prepacked
from seqtrack_lit.models.encoder import normalise
from seqtrack_lit.models.seqtrack import Prediction
from seqtrack_lit.tracking import device
from seqtrack_lit.tracking.seqtrack import SeqTrackTracker
from seqtrack_lit.tracking.template_update import TemplateUpdate
from seqtrack_lit.tracking.tracker import run_tracker


@pytest.mark.parametrize(
    ("rule", "frame", "likelihoods", "wanted"),
    [
        # interval 5, threshold .25: sum * 10 > 10 is strict
        ("likelihood", 5, [0.25, 0.25, 0.25, 0.25], False),
        ("likelihood", 5, [0.25, 0.25, 0.25, 0.2500001], True),
        ("likelihood", 6, [1.0, 1.0, 1.0, 1.0], False),
        ("likelihood", 10, [1.0, 1.0, 1.0, 1.0], True),
        ("naive", 5, [0.0, 0.0, 0.0, 0.0], True),
        ("naive", 4, [1.0, 1.0, 1.0, 1.0], False),
        ("none", 5, [1.0, 1.0, 1.0, 1.0], False),
    ],
)
def test_when_a_template_is_taken(rule: str, frame: int, likelihoods: list[float], wanted: bool) -> None:
    update = TemplateUpdate(rule, interval=5, threshold=0.25)
    assert update.is_due(frame, torch.tensor(likelihoods, dtype=torch.float64)) is wanted


@pytest.mark.parametrize("official", [0.6, 0.55, 0.475, 0.45, 1.3587, 0.123456789])
def test_official_thresholds_survive_the_change_of_unit(official: float) -> None:
    update = TemplateUpdate("likelihood", interval=1, threshold=official / 40)
    for dtype in (torch.float32, torch.float64):
        for step in range(-3, 4):  # the numbers around the limit, one by one
            score = torch.tensor(official, dtype=dtype)
            toward = torch.tensor(float("inf") if step > 0 else float("-inf"), dtype=dtype)
            for _ in range(abs(step)):
                score = torch.nextafter(score, toward)
            likelihoods = torch.stack([score / 10, *torch.zeros(3, dtype=dtype)])
            assert update.is_due(1, likelihoods) == (likelihoods.sum().item() * 10 > official)


def test_templates_first_in_first_out_behind_the_first(video: Video) -> None:
    tracker = SeqTrackTracker(tiny(templates=3), update="naive", update_interval=2)
    tracker.init(video.frames[0], video.boxes[0])
    first = tracker.templates[:, 0].clone()
    assert all(torch.equal(tracker.templates[:, t], first) for t in range(3))
    for frame in range(1, 9):
        before = tracker.templates.clone()
        estimate = tracker.update(video.frames[frame])
        assert estimate.updated == (frame % 2 == 0)
        assert torch.equal(tracker.templates[:, 0], first)
        if estimate.updated:  # cut around the clipped box of this frame
            assert torch.equal(tracker.templates[:, 1], before[:, 2])
            assert torch.equal(tracker.templates[:, 2:], _cut(tracker, video.frames[frame]))
            assert not torch.equal(tracker.templates[:, 2], before[:, 2])
        else:
            assert torch.equal(tracker.templates, before)


def _cut(tracker: SeqTrackTracker, image: np.ndarray) -> torch.Tensor:
    pixels = torch.from_numpy(tracker.template_crop().cut(image, padding=tracker.padding)).permute(2, 0, 1)
    return normalise(pixels)[None, None]


def test_one_template_is_never_renewed(video: Video) -> None:
    tracker = SeqTrackTracker(tiny(templates=1), update="naive", update_interval=1)
    assert not run_tracker(tracker, video).updated.any()
    assert tracker.templates.shape == (1, 1, 3, 32, 32)


def test_likelihood_rule_follows_the_confidence(video: Video) -> None:
    model = tiny()
    confidences = run_tracker(SeqTrackTracker(model, update="none"), video).confidences
    limit = float(np.sort(confidences[1:])[4])
    track = run_tracker(SeqTrackTracker(model, update_interval=1, update_threshold=limit), video)
    first = int(np.flatnonzero(confidences[1:] > limit)[0]) + 1
    assert track.updated[first]
    assert not track.updated[:first].any()
    np.testing.assert_allclose(track.confidences[: first + 1], confidences[: first + 1])


def test_past_boxes_are_the_own_ones_in_the_present_window(video: Video, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny(past=3)
    given: list[torch.Tensor] = []
    generate = model.generate_from

    def recorded(features: torch.Tensor, *, past: torch.Tensor, **rest: object) -> Prediction:
        given.append(past)
        return generate(features, past=past, **rest)

    monkeypatch.setattr(model, "generate_from", recorded)
    tracker = SeqTrackTracker(model)
    tracker.init(video.frames[0], video.boxes[0])
    boxes = [tuple(video.boxes[0])] * 3
    for image in video.frames[1:]:
        crop, _ = tracker.predict(image)
        x, y, w, h = np.array(boxes[-3:]).T
        cx, cy = x + w / 2 - crop.center[0], y + h / 2 - crop.center[1]
        # fractions of the window's side, as boxes are read from it (not of S - 1 pixels), clamped to it
        shown = torch.tensor(np.stack([0.5 + cx / crop.side, 0.5 + cy / crop.side, w / crop.side, h / crop.side], 1))
        assert torch.equal(given[-1], model.tokenizer.encode(shown.float())[None])
        boxes.append(tuple(tracker.update(image).box_xywh))
    assert given[0].shape == (1, 3, 4)
    # the latest box is the middle of the window: cx = cy = half of the bins
    assert (given[-1][0, -1, :2] - 19.5).abs().max() <= 0.5


def test_the_window_draws_to_the_middle(video: Video) -> None:
    model = tiny()
    with_window, without = SeqTrackTracker(model), SeqTrackTracker(model, window=False)
    for tracker in (with_window, without):
        tracker.init(video.frames[0], video.boxes[0])
    free = without.predict(video.frames[1])[1]
    held = with_window.predict(video.frames[1])[1]
    assert held.likelihoods.dtype == torch.float64
    assert free.likelihoods.dtype == torch.float32
    assert (held.tokens[0, :2] - 19.5).abs().sum() <= (free.tokens[0, :2] - 19.5).abs().sum()


def test_boxes_stay_in_the_present_frame_when_sizes_change() -> None:
    rng = np.random.default_rng(0)
    sizes = [(60, 80), (60, 80), (30, 24), (200, 90), (11, 12)]
    frames = [rng.integers(0, 255, (*size, 3), dtype=np.uint8) for size in sizes]
    start = np.array([[60.0, 40, 18, 18]])
    track = run_tracker(
        SeqTrackTracker(tiny(), update="naive", update_interval=1), Video("s", frames, start, np.ones(1, bool))
    )
    for (height, width), (x, y, w, h) in zip(sizes[1:], track.boxes[1:], strict=True):
        assert w >= 10
        assert h >= 10
        assert 0 <= x <= width - 10
        assert 0 <= y <= height - 10


@pytest.mark.parametrize("box", [[40, 30, 1, 1], [-3.5, -2, 6, 5], [79.5, 59.5, 30, 30], [0, 0, 80, 60]])
def test_odd_first_boxes(video: Video, box: list[float]) -> None:
    track = run_tracker(SeqTrackTracker(tiny()), Video("odd", video.frames, np.array([box], float), np.ones(1, bool)))
    np.testing.assert_array_equal(track.boxes[0], box)
    assert np.isfinite(track.boxes).all()
    assert (track.times >= 0).all()


def test_a_video_of_one_frame(video: Video) -> None:
    track = run_tracker(SeqTrackTracker(tiny()), Video("one", video.frames[:1], video.boxes, video.visible))
    assert track.boxes.tolist() == video.boxes.tolist()
    assert track.confidences.tolist() == [1.0]


def test_lower_precision_leaves_the_model_alone(video: Video) -> None:
    model = tiny()
    tracker = SeqTrackTracker(model, dtype="bfloat16")
    assert next(tracker.model.parameters()).dtype == torch.bfloat16
    assert next(model.parameters()).dtype == torch.float32
    assert SeqTrackTracker(model).model is model
    track = run_tracker(tracker, video)
    assert np.isfinite(track.boxes).all()
    assert tracker.predict(video.frames[-1])[1].likelihoods.dtype == torch.float64


def test_starting_again_forgets_everything(video: Video) -> None:
    tracker = SeqTrackTracker(tiny(past=2), update="naive", update_interval=2)
    first, second = run_tracker(tracker, video), run_tracker(tracker, video)
    np.testing.assert_array_equal(first.boxes, second.boxes)
    np.testing.assert_array_equal(first.confidences, second.confidences)


def test_looking_does_not_move_the_tracker(video: Video) -> None:
    tracker, plain = SeqTrackTracker(tiny()), SeqTrackTracker(tiny())
    for each in (tracker, plain):
        each.init(video.frames[0], video.boxes[0])
    prediction = tracker.predict(video.frames[5], attention=True, distributions=True)[1]
    assert prediction.attention is not None
    assert prediction.attention.cross.shape == (1, 4, 1, 2, 4)
    assert prediction.distributions is not None
    assert prediction.distributions.shape == (1, 4, 40)
    np.testing.assert_array_equal(tracker.update(video.frames[1]).box_xywh, plain.update(video.frames[1]).box_xywh)


def test_templates_are_prepared_when_they_change_only(video: Video, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny()
    calls: list[int] = []
    prepare = model.prepare_templates

    def counted(*given: torch.Tensor) -> torch.Tensor:
        calls.append(tracker.frame)
        return prepare(*given)

    monkeypatch.setattr(model, "prepare_templates", counted)
    tracker = SeqTrackTracker(model, update="naive", update_interval=3)
    run_tracker(tracker, video)
    assert calls == [0, 3, 6]  # for the frames 1, 4 and 7


def test_a_model_that_was_trained_since_is_followed(video: Video) -> None:
    model = tiny()
    tracker = SeqTrackTracker(model)
    before = run_tracker(tracker, video).boxes
    model.load_state_dict(tiny(seed=5).state_dict())
    after = run_tracker(tracker, video).boxes
    assert not np.array_equal(before, after)
    np.testing.assert_array_equal(after, run_tracker(SeqTrackTracker(model), video).boxes)


@pytest.mark.parametrize("fast", [True, False])
def test_automatic_precision(video: Video, monkeypatch: pytest.MonkeyPatch, fast: bool) -> None:
    monkeypatch.setattr(prepacked, "capabilities", lambda: {"avx512_bf16": fast, "amx_bf16": False})
    tracker = SeqTrackTracker(tiny(), dtype="auto")
    assert tracker.settings["dtype"] == ("bfloat16" if fast else "float32")
    run_tracker(tracker, video)


def test_eight_bits(video: Video, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = SeqTrackTracker(tiny(), dtype="int8")
    assert tracker.settings["dtype"] == "int8"
    exact = run_tracker(SeqTrackTracker(tiny()), video)
    near = run_tracker(tracker, video)
    assert not np.array_equal(near.confidences, exact.confidences)
    np.testing.assert_allclose(near.confidences, exact.confidences, rtol=0.1)
    monkeypatch.setattr(device, "onednn_works", lambda dtype, layout: False)
    with pytest.raises(ValueError, match="dtype=int8: this torch has no such products"):
        SeqTrackTracker(tiny(), dtype="int8")
    with pytest.raises(ValueError, match="dtype=int8 is for CPUs, not for cuda"):
        device.precision_of("int8", torch.device("cuda"))
