"""Every option of the official model and tracker against the same arithmetic written out by hand (by_hand.py)."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.models.by_hand import TRACKS, ByHand, Options, state_of, video, write_checkpoint

from seqtrack_lit.models.checkpoint import load_model
from seqtrack_lit.models.safe_read import read_contents
from seqtrack_lit.tracking.seqtrack import load_seqtrack

GOLDEN = Path(__file__).parents[1] / "golden" / "model"
# a decision this close to a tie could fall either way on another machine
SAFE = 1 + 1e-5


@pytest.mark.parametrize(
    ("case", "options"),
    [
        ("s1", {"search_size": 96, "template_size": 96, "bins": 400, "interval": 2, "threshold": 1.3587}),
        ("s2", {"search_size": 64, "template_size": 64, "bins": 100, "interval": 1, "templates": 1, "window": False}),
    ],
)
def test_by_hand_is_the_official_arithmetic(case, options):
    o = Options(width=64, heads=4, hidden=32, ffn=64, **options)
    contents = read_contents(GOLDEN / case / "SEQTRACK_ep0007.pth.tar")
    golden = np.load(GOLDEN / case / "golden.npz")
    kept = ByHand(o, contents.tensors(contents.root["net"], "net")).track(golden["frames"], golden["init_box"].tolist())
    np.testing.assert_array_equal(kept["tokens"], golden["tokens"])
    np.testing.assert_array_equal(kept["updated"], golden["updated"])
    np.testing.assert_allclose(kept["likelihoods"], golden["confidence"], atol=1e-6)
    np.testing.assert_allclose(kept["boxes"], golden["boxes"], atol=1e-6)


ORDERS, MEMORIES = ("xywh", "whxy", "corner"), ("x", "xz", "token")
# sizes (search, template) and widths (encoder, decoder; equal ones switch the linear map off) take turns
SIZES, WIDTHS = ((48, 48), (64, 32), (32, 48)), ((32, 16), (24, 24), (16, 32))
CASES = [
    Options(
        order=order,
        memory=memory,
        templates=templates,
        pre_norm=n % 2 == 0,
        window=n // 2 % 2 == 0,
        search_size=SIZES[(n + n // 3) % 3][0],
        template_size=SIZES[(n + n // 3) % 3][1],
        width=WIDTHS[(n // 3 + n // 9) % 3][0],
        hidden=WIDTHS[(n // 3 + n // 9) % 3][1],
        depth=1 + n // 4 % 2,
        layers=1 + n // 2 % 3,
        seed=n,
    )
    for n, (memory, templates, order) in enumerate(product(MEMORIES, (1, 2, 3), ORDERS))
]


def test_every_option(tmp_path):
    """Cached generation equals a pass over the whole token sequence for every token, and so do all numbers before."""
    for o in CASES:
        checkpoint, config = write_checkpoint(tmp_path, o)
        loaded = load_model(checkpoint, official_config=config)
        hand = ByHand(o, state_of(o))
        generator = torch.Generator().manual_seed(o.seed)
        templates = torch.randn(o.templates, 3, o.template_size, o.template_size, generator=generator)
        search = torch.randn(3, o.search_size, o.search_size, generator=generator)
        with torch.inference_mode():
            features = loaded.model.encoder(templates[None], search[None])[0]
            window = loaded.model.tokenizer.hann_window() if loaded.tracker["window"] else None
            prediction = loaded.model.generate(templates[None], search[None], hann_window=window)
            expected = hand.encode(templates, search)
            memory = hand.remember(expected)
            tokens, likelihoods, margin = hand.generate(memory)
            assert margin > SAFE, o
            sequence = [o.bins + 1, *tokens]
            logits = loaded.model(templates[None], search[None], torch.tensor([sequence])).tokens[0]
            torch.testing.assert_close(features, expected, rtol=0, atol=1e-4, msg=lambda text, o=o: f"{o}: {text}")
            torch.testing.assert_close(logits, hand.read(sequence, memory), rtol=0, atol=1e-4)
        assert prediction.tokens[0].tolist() == tokens, o
        np.testing.assert_allclose(prediction.likelihoods[0], likelihoods, atol=1e-5, err_msg=str(o))
        assert prediction.likelihoods.dtype == (torch.float64 if o.window else torch.float32)


@pytest.mark.parametrize("name", TRACKS)
def test_whole_tracker(tmp_path, name):
    o, size, box, speed = TRACKS[name]
    frames = video(o.seed, 9, size, box, speed)
    kept = ByHand(o, state_of(o)).track(frames, box)
    assert min(kept["margin"]) > SAFE
    checkpoint, config = write_checkpoint(tmp_path, o)
    tracker = load_seqtrack(checkpoint, official_config=config, device="cpu")
    tracker.init(frames[0], np.array(box, float))
    for i, image in enumerate(frames[1:]):
        tokens = tracker.predict(image)[1].tokens[0].tolist()
        estimate = tracker.update(image)
        assert tokens == kept["tokens"][i]
        assert estimate.updated == kept["updated"][i]
        np.testing.assert_allclose(estimate.box_xywh, kept["boxes"][i], atol=1e-3)
        np.testing.assert_allclose(estimate.confidence, np.mean(kept["likelihoods"][i]), atol=1e-5)


def test_the_tracks_exercise_what_they_say():
    updates, small = [], []
    for o, size, box, speed in TRACKS.values():
        kept = ByHand(o, state_of(o)).track(video(o.seed, 9, size, box, speed), box)
        updates.append(sum(kept["updated"]))
        small.append(min(min(b[2:]) for b in kept["boxes"]) == 10)
    assert updates[-2] == 0
    assert sum(count > 0 for count in updates) >= 5
    assert any(small)
