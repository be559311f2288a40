"""The whole tracker against recorded outputs of the official code (tests/golden/model/README.md)."""

from pathlib import Path

import numpy as np
import pytest
import torch

from seqtrack_lit.crops import Crop
from seqtrack_lit.models.encoder import normalise
from seqtrack_lit.tracking.seqtrack import SeqTrackTracker, load_seqtrack

GOLDEN = Path(__file__).parents[1] / "golden" / "model"
CASES = ["s1", "s2"]  # two templates, window and updates; one template, no window
CUDA = pytest.param("cuda", marks=pytest.mark.gpu)


def tracker_of(case: str, **overrides: object) -> SeqTrackTracker:
    folder = GOLDEN / case
    overrides.setdefault("device", "cpu")
    return load_seqtrack(folder / "SEQTRACK_ep0007.pth.tar", official_config=folder / "cfg.yaml", **overrides)


def golden_of(case: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / case / "golden.npz") as arrays:
        return dict(arrays)


@pytest.fixture(autouse=True)
def _exact_float32():
    with torch.backends.cudnn.flags(allow_tf32=False):  # convolutions; matrix products are exact by default
        yield


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("case", CASES)
def test_eleven_frames(case, device):
    golden = golden_of(case)
    tracker = tracker_of(case, device=device)
    tracker.init(golden["frames"][0], golden["init_box"].astype(float))
    for i, image in enumerate(golden["frames"][1:]):
        crop, prediction = tracker.predict(image)
        np.testing.assert_array_equal(crop.cut(image, padding="official"), golden["search_crops"][i])
        assert crop.scale == golden["resize_factors"][i]
        estimate = tracker.update(image)
        np.testing.assert_array_equal(prediction.tokens[0].cpu(), golden["tokens"][i])
        np.testing.assert_allclose(prediction.likelihoods[0].cpu(), golden["confidence"][i], atol=1e-5)
        np.testing.assert_allclose(estimate.confidence * 40, golden["conf_score"][i], atol=40 * 1e-5)
        np.testing.assert_allclose(estimate.box_xywh, golden["boxes"][i], atol=1e-3)
        assert estimate.updated == golden["updated"][i]
    np.testing.assert_allclose(tracker.templates[0].cpu(), golden["final_templates"], atol=1e-4)


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("case", CASES)
def test_features_and_logits_of_the_first_frame(case, device):
    golden = golden_of(case)
    tracker = tracker_of(case, device=device)
    frames, box = golden["frames"], golden["init_box"].astype(float)
    tracker.init(frames[0], box)
    template = Crop.around(box, factor=tracker.template_factor, size=tracker.model.template_size)
    np.testing.assert_array_equal(template.cut(frames[0], padding="official"), golden["template_crop"])
    search = normalise(torch.from_numpy(golden["search_crops"][:1]).permute(0, 3, 1, 2)).to(device)
    sentence = torch.from_numpy(golden["tf_seq"]).long()[None].to(device)
    with torch.inference_mode():
        features = tracker.model.encoder(tracker.templates, search)[0]
        logits = tracker.model(tracker.templates, search, sentence).tokens[0]
    np.testing.assert_allclose(features.cpu(), golden["enc_frame1"], atol=1e-4)
    np.testing.assert_allclose(logits.cpu(), golden["tf_logits"], atol=1e-4)


@pytest.mark.gpu
def test_share_of_equal_tokens_in_bfloat16(capsys):
    equal = []
    for case in CASES:
        golden = golden_of(case)
        tracker = tracker_of(case, device="cuda", dtype="bfloat16")
        tracker.init(golden["frames"][0], golden["init_box"].astype(float))
        for i, image in enumerate(golden["frames"][1:]):
            equal.append(tracker.predict(image)[1].tokens[0].cpu().numpy() == golden["tokens"][i])
            tracker.box = tuple(golden["boxes"][i].tolist())  # every frame from the recorded place
    with capsys.disabled():
        print(f"\nbfloat16: {np.mean(equal):.0%} of {np.size(equal)} tokens equal (random weights, near ties)")


def test_three_lines_of_python():
    from seqtrack_lit import load_tracker
    from seqtrack_lit.tracking.long_term import load_tracker as by_its_full_name

    assert load_tracker is by_its_full_name
