"""What trackers refuse: wrong values, what is no picture or no box, networks that are broken."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from tests.tracking.conftest import describe, tiny

from seqtrack_lit.data.video.sequence import Video
from seqtrack_lit.tracking import baselines, seqtrack, template_update
from seqtrack_lit.tracking.seqtrack import SeqTrackTracker
from seqtrack_lit.tracking.tracker import run_tracker


def unchecked(module: ModuleType) -> ModuleType:
    """The module as users have it: the checks of types that tests add would speak before its own messages."""
    spec = importlib.util.spec_from_file_location("unchecked", str(module.__file__))
    plain = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plain)
    if module is seqtrack:
        plain.TemplateUpdate = unchecked(template_update).TemplateUpdate
    return plain


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
