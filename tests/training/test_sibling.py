"""A bidirectional decoder beside a causal one, and what it is tuned on."""

import numpy as np
import torch

from seqtrack_lit.data.samples.augment import Augmentation, JitterSchedule
from seqtrack_lit.data.samples.sampling import draw_samples
from seqtrack_lit.data.synthetic.videos import GeneratedVideos
from seqtrack_lit.tracking.seqtrack import SeqTrackTracker
from seqtrack_lit.training import sibling

VIDEOS = GeneratedVideos(4, kept_frames=8, length=20)


def test_the_sibling_has_four_queries_on_the_same_encoder(make_net) -> None:
    tracker = SeqTrackTracker(make_net(), search_factor=3.0, template_factor=2.0)
    before = {name: value.clone() for name, value in tracker.model.state_dict().items()}
    made = sibling.bidirectional_sibling(tracker, VIDEOS, pairs=6, steps=2, batch=3)
    assert (made.model.decoder.bidirectional, made.settings) == (True, tracker.settings)
    assert made.model.encoder is tracker.model.encoder
    assert all(torch.equal(value, before[name]) for name, value in tracker.model.state_dict().items())
    video = VIDEOS[0]
    made.init(video.frames[0], np.array([60.0, 40, 30, 30]))
    assert made.update(video.frames[1]).box_xywh.shape == (4,)


def test_tuning_lowers_the_loss(make_net) -> None:
    tracker = SeqTrackTracker(make_net(), search_factor=3.0, template_factor=2.0)
    logits = []
    for steps in (0, 60):
        made = sibling.bidirectional_sibling(tracker, VIDEOS, pairs=8, steps=steps, batch=8).model
        torch.manual_seed(0)
        features = torch.randn(1, made.encoder.search_tokens, made.encoder.width)
        logits.append(made.logits(features, torch.zeros(1, 5, dtype=torch.long)).tokens.detach())
    assert (logits[1].log_softmax(-1)[..., -2:] < logits[0].log_softmax(-1)[..., -2:]).all()  # END, START: never a box


def test_samples_of_one_set_have_the_same_frames_whatever_the_augmentation() -> None:
    plain = Augmentation(grayscale=0, flip=0)
    still = JitterSchedule(0.0, 0.0)
    one = draw_samples(VIDEOS, count=3, templates=1, augmentation=plain, jitter=still)
    grey = draw_samples(VIDEOS, count=3, templates=1, augmentation=Augmentation(grayscale=1, flip=0), jitter=still)
    assert torch.equal(one.box, grey.box)
    assert (grey.search[:, 0] == grey.search[:, 2]).all()
    assert not (one.search[:, 0] == one.search[:, 2]).all()
    torch.testing.assert_close(one.box[:, :2], torch.full((3, 2), 0.5), rtol=0, atol=0.01)
    assert draw_samples(VIDEOS, count=2).templates.shape == (2, 2, 3, 256, 256)
