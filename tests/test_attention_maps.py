from dataclasses import replace

import numpy as np
import pytest
import torch

from seqtrack_lit.attention_maps import bars, overlay, predict_attention, strip, template_attention, template_images
from seqtrack_lit.crops import Crop
from seqtrack_lit.models.decoder import Decoder
from seqtrack_lit.models.encoder import ViTEncoder
from seqtrack_lit.models.seqtrack import SeqTrack
from seqtrack_lit.pictures import LABEL
from seqtrack_lit.tokens import BoxTokenizer
from seqtrack_lit.tracking.seqtrack import SeqTrackTracker


def tracker(order="cxcywh", memory="search", bidirectional=False) -> SeqTrackTracker:
    torch.manual_seed(0)
    tokenizer = BoxTokenizer(bins=20, order=order)
    encoder = ViTEncoder(search_size=32, template_size=16, templates=2, patch=8, width=16, depth=1, heads=2)
    decoder = Decoder(tokenizer=tokenizer, width=16, heads=2, ffn=16, bidirectional=bidirectional)
    made = SeqTrackTracker(SeqTrack(tokenizer=tokenizer, encoder=encoder, decoder=decoder, memory=memory))
    made.init(picture(0), np.array([20.0, 15, 12, 10]))
    return made


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (48, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize("memory", ["search", "both"])
def test_look_reads_what_the_tracker_reads(memory):
    made = tracker(memory=memory)
    attention = predict_attention(made, picture(1))
    assert attention.crop.shape == (32, 32, 3)
    assert attention.maps.shape == (4, 4, 4)
    assert attention.distributions.shape == (4, 20)
    total = attention.maps.sum((1, 2))
    if memory == "search":
        np.testing.assert_allclose(total, 1, rtol=1e-5)
    else:
        assert (total < 1).all()  # the templates had their share
    # the same frame read by the tracker itself: its confidence is the mean of the largest probabilities
    assert made.update(picture(1)).confidence == pytest.approx(attention.distributions.max(1).mean())


@pytest.mark.parametrize(
    ("order", "names"),
    [("cxcywh", ("cx", "cy", "w", "h")), ("whcxcy", ("w", "h", "cx", "cy")), ("xyxy", ("x1", "y1", "x2", "y2"))],
)
def test_names_follow_the_order(order, names):
    assert predict_attention(tracker(order), picture(1)).names == names


def test_maps_of_layers_and_heads_row_by_row():
    # 4 tokens, 2 layers, 2 heads, 2 x 2 search tokens; the first layer looks elsewhere
    attention = predict_attention(tracker(), picture(1))
    cross = np.zeros((4, 2, 2, 2, 2), np.float32)
    cross[:, 0, :, 1, 1] = 1.0
    cross[2, 1, 0] = [[0.0, 0.6], [0.0, 0.0]]
    cross[2, 1, 1] = [[0.0, 0.2], [0.8, 0.0]]
    attention = replace(attention, cross=cross)
    np.testing.assert_allclose(attention.maps[2], [[0, 0.4], [0.4, 0]], rtol=1e-6)
    np.testing.assert_allclose(attention.map(head=0)[2], [[0, 0.6], [0, 0]], rtol=1e-6)
    np.testing.assert_allclose(attention.map(layer=0)[2], [[0, 0], [0, 1]], rtol=1e-6)


def test_a_token_sees_those_before_it():
    own = predict_attention(tracker(), picture(1)).own  # 4 tokens, 2 layers, 2 heads, START and 4 tokens
    assert own.shape == (4, 2, 2, 5)
    np.testing.assert_allclose(own.sum(-1), 1, rtol=1e-5)
    for position in range(4):
        assert (own[position, ..., : position + 1] > 0).all()
        assert (own[position, ..., position + 1 :] == 0).all()


def test_distributions_before_and_after_the_window():
    made = tracker()
    attention = predict_attention(made, picture(1))
    window = made.model.tokenizer.hann_window().numpy()
    np.testing.assert_allclose(attention.distributions[:2], attention.unwindowed[:2] * window, rtol=1e-12)
    np.testing.assert_array_equal(attention.distributions[2:], attention.unwindowed[2:])
    assert (attention.distributions.argmax(1) == attention.tokens).all()


def test_a_forced_token_changes_those_behind_it():
    made = tracker()
    free = predict_attention(made, picture(1))
    other = int((free.tokens[1] + 7) % 20)
    forced = predict_attention(made, picture(1), forced=(None, other))
    assert forced.tokens[1] == other
    np.testing.assert_array_equal(forced.distributions[:2], free.distributions[:2])
    assert (np.abs(forced.distributions[2:] - free.distributions[2:]).max(1) > 1e-4).all()
    assert forced.box_cxcywh[1] == pytest.approx(other / 19)


def test_the_bidirectional_decoder_is_not_told_of_a_forced_token():
    made = tracker(bidirectional=True)
    free, forced = predict_attention(made, picture(1)), predict_attention(made, picture(1), forced=(3,))
    assert (free.own > 0).all()
    assert free.own.shape == (4, 2, 2, 4)
    np.testing.assert_array_equal(forced.tokens, [3, *free.tokens[1:]])


def test_attention_to_the_templates():
    made = tracker()
    attention = template_attention(made, picture(1))
    assert attention.shape == (4, 4, 2, 2, 2)  # 4 x 4 search tokens, 2 templates of 2 x 2
    assert ((attention.sum((2, 3, 4)) > 0) & (attention.sum((2, 3, 4)) < 1)).all()
    heads = [template_attention(made, picture(1), head=head) for head in range(2)]
    np.testing.assert_allclose(np.mean(heads, 0), attention, rtol=1e-5)
    with pytest.raises(ValueError, match="block 1: there are 1"):
        template_attention(made, picture(1), block=1)
    first, second = template_images(made)
    assert (first == second).all()  # both of the first frame so far
    crop = Crop.around(made.box, factor=made.template_factor, size=16)
    assert (first == crop.cut(picture(0))).all()


def test_one_memory_token_has_no_map():
    with pytest.raises(ValueError, match=r"model\.memory must be search or both"):
        predict_attention(tracker(memory="mean"), picture(1))


def test_overlay_covers_where_the_weight_is():
    image = np.full((40, 60, 3), 100, np.uint8)
    weights = np.zeros((4, 6), np.float32)
    weights[1, 4] = 0.3
    shown = overlay(image, weights, strength=1.0)
    assert shown.shape == image.shape
    assert shown.dtype == np.uint8
    assert (shown[:, :20] == 100).all()
    assert (shown[15, 45].astype(int) - 100).max() > 50  # the middle of cell 1, 4: bright
    assert (overlay(image, weights * 0) == image).all()
    assert (overlay(image, weights, strength=0.0) == image).all()
    assert (image == 100).all()


@pytest.mark.parametrize(("bins", "bin_", "columns"), [(4, 1, range(2, 4)), (8, 5, [5]), (16, 5, [2])])
def test_bars(bins, bin_, columns):
    # 8 columns: 4 bins take two columns each, 8 one, of 16 bins two share one
    distribution = np.zeros(bins)
    distribution[bin_] = 0.2
    drawn = bars(distribution, width=8, height=5)
    assert drawn.shape == (5, 8, 3)
    dark = (drawn[..., 0] == 40).all(0)
    assert dark.nonzero()[0].tolist() == list(columns)


def test_bars_are_in_proportion():
    drawn = bars(np.array([0.1, 0.2, 0.0]), width=3, height=10)
    assert (drawn[..., 0] == 40).sum(0).tolist() == [5, 10, 0]


def test_strip_shows_five_panels():
    attention = predict_attention(tracker(), picture(1))
    shown = strip(attention, side=96)
    assert shown.dtype == np.uint8
    assert shown.shape == (LABEL + 96 + 16, 5 * 96 + 4 * 2, 3)
    assert (strip(attention, side=96) == shown).all()


def test_strip_draws_boxes_beyond_the_crop():
    attention = predict_attention(tracker(), picture(1))
    wild = replace(attention, box_cxcywh=np.array([0.9, 0.5, 0.8, -0.1]))
    assert strip(wild, side=48).shape[0] > 48
