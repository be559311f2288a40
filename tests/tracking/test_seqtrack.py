"""The rules of SeqTrack's tracker one by one; that it equals the official one is in models/test_golden_tracker.py."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from seqtrack_lit.data.video.sequence import Video
from seqtrack_lit.models import prepacked
from seqtrack_lit.models.description import build_model
from seqtrack_lit.models.encoder import normalise
from seqtrack_lit.models.seqtrack import Prediction, SeqTrack
from seqtrack_lit.tracking import baselines, device, seqtrack, template_update
from seqtrack_lit.tracking.seqtrack import SeqTrackTracker
from seqtrack_lit.tracking.template_update import TemplateUpdate
from seqtrack_lit.tracking.tracker import run_tracker


def unchecked(module: ModuleType) -> ModuleType:
    """The module as users have it: the checks of types that tests add would speak before its own messages."""
    spec = importlib.util.spec_from_file_location("unchecked", str(module.__file__))
    plain = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plain)
    if module is seqtrack:
        plain.TemplateUpdate = unchecked(template_update).TemplateUpdate
    return plain


def tiny(templates: int = 2, past: int = 0, order: str = "cxcywh", seed: int = 0) -> SeqTrack:
    """A random model of 32 px crops."""
    torch.manual_seed(seed)
    return build_model({"bins": 40, "order": order}, describe(templates, past)).eval()


def describe(templates: int = 2, past: int = 0) -> dict[str, object]:
    """Its plain arguments."""
    encoder = {
        "_target_": "seqtrack_lit.models.encoder.ViTEncoder",
        "search_size": 32,
        "template_size": 32,
        "templates": templates,
        "patch": 16,
        "width": 32,
        "depth": 1,
        "heads": 2,
    }
    decoder = {
        "_target_": "seqtrack_lit.models.decoder.Decoder",
        "width": 32,
        "depth": 1,
        "heads": 2,
        "ffn": 32,
        "past": past,
    }
    return {"encoder": encoder, "decoder": decoder}


@pytest.fixture(scope="module")
def video() -> Video:
    rng = np.random.default_rng(3)
    frames = [rng.integers(0, 255, (60, 80, 3), dtype=np.uint8) for _ in range(9)]
    return Video("noise", frames, np.array([[30.5, 20.25, 14, 11]]), np.ones(1, bool))


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


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([80, 10, 5, 5], r"sequence bad: first box x,y,w,h = 80,10,5,5 lies outside the first frame of 80 x 60"),
        ([-5, 10, 5, 5], "outside"),
        ([10, 10, 0, 5], "positive width and height"),
        ([10, 10, -4, 5], "positive width and height"),
        ([np.nan, 10, 4, 5], "finite"),
        ([10, 10, np.inf, 5], "finite"),
    ],
)
def test_bad_first_boxes_are_named(video: Video, box: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_tracker(SeqTrackTracker(tiny()), Video("bad", video.frames, np.array([box], float), np.ones(1, bool)))


def test_an_empty_video_is_named() -> None:
    with pytest.raises(ValueError, match="sequence none: 0 frames and 0 boxes"):
        run_tracker(SeqTrackTracker(tiny()), Video("none", [], np.zeros((0, 4)), np.zeros(0, bool)))


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


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"update": "sometimes"}, "tracker.update must be one of none, naive, likelihood"),
        ({"update_interval": 0}, "tracker.update_interval"),
        ({"update_interval": 2.5}, "tracker.update_interval"),
        ({"update_threshold": 0.6 * 40}, r"1/40 of the official"),
        ({"search_factor": 0}, "tracker.search_factor must be a number > 0"),
        ({"search_factor": 1e9}, "tracker.search_factor must be a number > 0 and <= 100, got 1000000000.0"),
        ({"clip_margin": 1e9}, "tracker.clip_margin must be a number > 0 and <= 1000"),
        ({"name": "../x"}, "tracker.name is '../x', which cannot name a file or folder"),
        ({"name": 5}, "tracker.name is 5, which cannot name a file or folder: it must be text"),
        ({"dtype": ["float32"]}, "tracker.dtype must be one of float32"),
        ({"device": "mps"}, "device=mps: trackers run on cpu and cuda only"),
        ({"device": ["cpu"]}, r"device=\['cpu'\]: no such device; give cpu, cuda or"),
        ({"template_factor": "big"}, "tracker.template_factor must be a number > 0"),
        ({"clip_margin": 0}, "tracker.clip_margin"),
        ({"cascade": 2}, "tracker.cascade must be a number"),
        ({"expectation": -1}, "tracker.expectation must be a whole number"),
        ({"offset": 2}, "tracker.offset must be a number"),
        ({"padding": "black"}, "tracker.padding must be one of exact, official"),
        ({"dtype": "float64"}, "tracker.dtype must be one of float32, bfloat16, float16"),
        ({"window": "yes"}, "tracker.window must be true or false"),
        ({"device": "gpu"}, "device=gpu: no such device; give cpu, cuda or"),
        ({"device": "cuda:99"}, r"device=cuda:99: PyTorch finds \d+ GPUs"),
    ],
)
def test_wrong_values_are_named(values: dict[str, object], message: str) -> None:
    plain = unchecked(seqtrack)
    with pytest.raises(ValueError, match=message):
        plain.SeqTrackTracker(tiny(), **values)


@pytest.fixture
def plain_trackers() -> dict[str, Any]:
    """Every tracker without the checks that tests add."""
    ours, others = unchecked(seqtrack), unchecked(baselines)
    made = {name: others.make_baseline(name) for name in ("static", "kcf", "csrt")}
    return {"seqtrack": ours.SeqTrackTracker(tiny()), **made}


@pytest.mark.parametrize("name", ["seqtrack", "static", "kcf", "csrt"])
def test_what_is_no_picture_or_no_box_is_named(name: str, plain_trackers: dict[str, Any], video: Video) -> None:
    tracker, image, box = plain_trackers[name], video.frames[0], video.boxes[0]
    with pytest.raises(ValueError, match=r"give the target first: init\(image, box_xywh\)"):
        tracker.update(image)
    wrong_images = [
        (image.astype(np.float32) / 255, r"float32 of shape \(60, 80, 3\)"),
        (image[..., 0], r"uint8 of shape \(60, 80\)"),
        (np.dstack([image, image[..., :1]]), r"uint8 of shape \(60, 80, 4\)"),
        (image.transpose(2, 0, 1), r"uint8 of shape \(3, 60, 80\)"),
        (image[:0], r"uint8 of shape \(0, 80, 3\)"),
        (torch.from_numpy(image), "got Tensor"),
        (None, "got NoneType"),
    ]
    for wrong, message in wrong_images:
        with pytest.raises(ValueError, match=r"a frame must be RGB as a numpy array, uint8 .* " + message):
            tracker.init(wrong, box)
    for wrong, message in [
        ("30,20,14,11", "a first box is four numbers x,y,w,h in pixels, got '30,20,14,11'"),
        (None, "got None"),
        ([30, 20, 14], "got a list of 3"),
        (np.zeros((2, 4)), "a first box is four numbers"),
        ([30, 20, np.nan, 11], "has no finite, positive width and height"),
        ([30, 20, 0, 11], "has no finite, positive width and height"),
        ([0.3, 0.2, 0.2, 0.1], "seems to be in fractions; multiply by width and height"),
        ([30, 20, 14, 0.5], "is smaller than a pixel"),
        ([30, 20, 1e6, 1e6], "is far larger than the first frame of 80 x 60 pixels"),
        ([90, 20, 14, 11], "lies outside the first frame of 80 x 60 pixels"),
    ]:
        with pytest.raises(ValueError, match=message):
            tracker.init(image, wrong)
    tracker.init(image, [30, 20, 14, 11])  # a list of numbers is a box
    for wrong, message in wrong_images:
        with pytest.raises(ValueError, match=message):
            tracker.update(wrong)
    assert np.isfinite(tracker.update(image).box_xywh).all()


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_an_output_that_is_not_finite_is_an_error(part: str, video: Video) -> None:
    model = tiny()
    with torch.no_grad():
        for parameter in getattr(model, part).parameters():
            parameter.fill_(float("nan"))
    with pytest.raises(ValueError, match="the network's output for frame 1 is not finite: its weights are damaged"):
        run_tracker(SeqTrackTracker(model), video)


@pytest.mark.parametrize(
    ("described", "overrides", "message"),
    [
        (
            {"search_factor": "x"},
            {},
            r"a\.ckpt: its description of the tracker: tracker\.search_factor must be a number",
        ),
        ({"search_factor": 1e9}, {}, r"a\.ckpt: .* tracker\.search_factor must be a number > 0 and <= 100"),
        ({"device": "cpu"}, {}, r"a\.ckpt: .* tracker\.device: there is no such setting; allowed: name, search_factor"),
        ({"name": "../../x"}, {}, r"a\.ckpt: .* tracker\.name is '\.\./\.\./x', which cannot name a file"),
        ({"update": ["none"]}, {}, r"a\.ckpt: .* tracker\.update must be one of none"),
        ({"update_threshold": "x"}, {}, r"a\.ckpt: .* tracker\.update_threshold must be a number"),
        ({}, {"boks": 1}, r"^tracker\.boks: there is no such setting; allowed: name"),
    ],
)
def test_settings_of_a_checkpoint_are_checked(
    described: dict[str, object], overrides: dict[str, object], message: str, tmp_path: Path
) -> None:
    model = tiny()
    saved = {"tokenizer": {"bins": 40}, "model": describe(), "tracker": described}
    weights = {f"net.{name}": value for name, value in model.state_dict().items()}
    torch.save({"state_dict": weights, "seqtrack": {"format": 1, **saved}}, tmp_path / "a.ckpt")
    plain = unchecked(seqtrack)
    with pytest.raises(ValueError, match=message):
        plain.load_seqtrack(tmp_path / "a.ckpt", device="cpu", **overrides)


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
