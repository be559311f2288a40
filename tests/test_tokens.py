import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqtrack_lit.boxes import cxcywh_to_xyxy
from seqtrack_lit.tokens import BoxTokenizer

ORDERS = ["cxcywh", "whcxcy", "xyxy"]


@pytest.mark.parametrize(
    ("order", "box", "tokens"),
    [  # bins 101: one bin is 0.01
        ("cxcywh", [0.5, 0.4, 0.2, 0.1], [50, 40, 20, 10]),
        ("whcxcy", [0.5, 0.4, 0.2, 0.1], [20, 10, 50, 40]),
        ("xyxy", [0.5, 0.4, 0.2, 0.1], [40, 35, 60, 45]),
        # half outside on the left: corners (-0.2, 0.25)..(0.2, 0.75) -> x in [0, 0.2]: centre of the VISIBLE part 0.1
        ("cxcywh", [0.0, 0.5, 0.4, 0.5], [10, 50, 20, 50]),
        ("xyxy", [0.0, 0.5, 0.4, 0.5], [0, 25, 20, 75]),
    ],
)
def test_encode_by_hand(order, box, tokens):
    # 1e-4 of a bin against values that sit exactly on a bin's edge
    values = torch.tensor(box, dtype=torch.float64) + torch.tensor([0, 0, 1e-6, 1e-6], dtype=torch.float64)
    assert BoxTokenizer(101, order, "nearest").encode(values).tolist() == tokens


def test_truncation_is_the_default():
    # 0.999 * 3999 = 3995.001 -> 3995; 0.5 * 3999 = 1999.5 -> 1999
    assert BoxTokenizer().encode(torch.tensor([0.5, 0.5, 0.9, 0.9])).tolist() == [1999, 1999, 3599, 3599]


@given(
    st.sampled_from(ORDERS),
    st.sampled_from([2, 16, 100, 4000]),
    st.tuples(*[st.floats(0.05, 0.95)] * 2, *[st.floats(0.01, 0.09)] * 2),
)
def test_round_trip_within_one_bin(order, bins, box):
    tokenizer = BoxTokenizer(bins, order)
    box = torch.tensor(box, dtype=torch.float32)
    tokens = tokenizer.encode(box)
    assert tokens.min() >= 0
    assert tokens.max() < bins
    decoded = tokenizer.decode(tokens)
    one_bin = 1 / (bins - 1) + 1e-6
    if order == "xyxy":  # each corner within a bin
        decoded, box = cxcywh_to_xyxy(decoded), cxcywh_to_xyxy(box)
    assert (decoded - box).abs().max() <= one_bin


@pytest.mark.parametrize("order", ORDERS)
def test_decode_then_encode_is_the_identity_on_tokens(order):
    tokenizer = BoxTokenizer(64, order, "nearest")
    grid = [
        t for t in itertools.product([10, 20, 30, 33], repeat=4) if order != "xyxy" or (t[0] < t[2] and t[1] < t[3])
    ]
    tokens = torch.tensor(grid)
    if order != "xyxy":  # keep the box inside the crop
        tokens = tokens.where(tokens == 33, tokens) % 34
        tokens = tokens.clamp(max=19) if order == "cxcywh" else tokens
        inside = cxcywh_to_xyxy(tokenizer.decode(tokens))
        tokens = tokens[((inside >= 0) & (inside <= 1)).all(-1)]
    assert len(tokens) > 10
    assert torch.equal(tokenizer.encode(tokenizer.decode(tokens)), tokens)


def test_crossed_corners_give_negative_sizes():
    assert BoxTokenizer(101, "xyxy").decode(torch.tensor([60, 40, 50, 60]))[2] == pytest.approx(-0.1)


def test_teacher_sequences():
    tokenizer = BoxTokenizer(101)
    inputs, targets = tokenizer.teacher(torch.tensor([[0.5, 0.5, 0.2, 0.2]]))
    assert inputs.tolist() == [[102, *targets[0, :4].tolist()]]
    assert targets[0, 4] == tokenizer.end == 101
    assert tokenizer.vocab_size == 103


def test_window_is_numpy_hanning():
    import numpy as np

    for bins in (16, 100, 4000):
        window = BoxTokenizer(bins).hann_window()
        assert window.dtype == torch.float64
        assert window[0] == window[-1] == 0
        np.testing.assert_array_equal(window, np.hanning(bins))


@pytest.mark.parametrize(("order", "slots"), [("cxcywh", (0, 1)), ("xyxy", (0, 1)), ("whcxcy", (2, 3))])
def test_window_slots(order, slots):
    assert BoxTokenizer(10, order).window_positions == slots


@pytest.mark.parametrize(("field", "value"), [("bins", 1), ("bins", 2.5), ("order", "xywh"), ("rounding", "up")])
def test_wrong_values_name_the_field(field, value):
    with pytest.raises(ValueError, match=field):
        # object.__setattr__ avoided: beartype would refuse the type before our own message in some cases
        BoxTokenizer.__post_init__(_fake(field, value))


def _fake(field, value):
    tokenizer = object.__new__(BoxTokenizer)
    for name, default in {"bins": 10, "order": "cxcywh", "rounding": "floor"}.items():
        object.__setattr__(tokenizer, name, value if name == field else default)
    return tokenizer


def test_tokens_are_cut_not_rounded() -> None:
    """50.999 of 100 is token 50, in the official code's `.int()`; the nearest one where that is asked for."""
    box = torch.tensor([0.50999, 0.50999, 0.20999, 0.30999], dtype=torch.float64)
    assert BoxTokenizer(bins=101).encode(box).tolist() == [50, 50, 20, 30]
    assert BoxTokenizer(bins=101, rounding="nearest").encode(box).tolist() == [51, 51, 21, 31]
