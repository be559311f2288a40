import math

import pytest
import torch
from torch import nn

from seqtrack_lit.models.decoder import Decoder
from seqtrack_lit.tokens import BoxTokenizer

TOKENIZER = BoxTokenizer(bins=20)
SMALL = {"tokenizer": TOKENIZER, "width": 16, "heads": 4, "ffn": 24}
MEMORY, POSITION = torch.randn(2, 7, 16), torch.randn(1, 7, 16)
WORDS = torch.tensor([[TOKENIZER.start, 3, 5, 7, 9], [TOKENIZER.start, 2, 4, 6, 8]])


def decoder(**changes) -> Decoder:
    torch.manual_seed(0)
    return Decoder(**SMALL | changes).eval()


@pytest.mark.parametrize("pre_norm", [False, True])
@pytest.mark.parametrize("place", range(5))
def test_causality(place, pre_norm):
    """A word changes the answers at its own place and later, never earlier."""
    net = decoder(pre_norm=pre_norm)
    changed = WORDS.clone()
    changed[:, place] = 13
    differs = (net(WORDS, MEMORY, POSITION) != net(changed, MEMORY, POSITION)).any(-1)
    assert differs.tolist() == [[i >= place for i in range(5)]] * 2


def test_past_boxes_are_seen_by_start_and_all_words():
    net = decoder(past=2)
    past = torch.tensor([[[1, 2, 3, 4], [5, 6, 7, 8]]] * 2)
    changed = past.clone()
    changed[:, 0, 2] = 11
    before, after = net(WORDS, MEMORY, POSITION, past), net(WORDS, MEMORY, POSITION, changed)
    assert before.shape == (2, 5, 22)
    assert (before != after).any(-1).all()


def test_past_boxes_are_clamped_to_coordinates():
    net = decoder(past=1)
    wild, tame = torch.tensor([[[-5, 3, 400, 21]]] * 2), torch.tensor([[[0, 3, 19, 19]]] * 2)
    assert torch.equal(net(WORDS, MEMORY, POSITION, wild), net(WORDS, MEMORY, POSITION, tame))


def test_past_boxes_have_an_order():
    net = decoder(past=2)
    past = torch.tensor([[[1, 2, 3, 4], [5, 6, 7, 8]]] * 2)
    assert not torch.equal(net(WORDS, MEMORY, POSITION, past), net(WORDS, MEMORY, POSITION, past.flip(1)))


@pytest.mark.parametrize(("built_for", "given"), [(2, None), (2, 1), (0, 1)])
def test_wrong_number_of_past_boxes_is_named(built_for, given):
    past = None if given is None else torch.zeros(2, given, 4, dtype=torch.long)
    with pytest.raises(ValueError, match=rf"built for {built_for} past boxes .* got {given or 0}"):
        decoder(past=built_for)(WORDS, MEMORY, POSITION, past)


def test_bidirectional_queries_see_each_other():
    net = decoder(bidirectional=True)
    before = net(WORDS, MEMORY, POSITION)
    assert before.shape == (2, 4, 22)
    for query in range(4):
        with torch.no_grad():
            net.embedding.weight[query] += torch.linspace(-1, 1, 16)
        after = net(WORDS, MEMORY, POSITION)
        assert (before != after).any(-1).all(), query
        before = after


def test_bidirectional_queries_are_distinct_and_inputs_ignored():
    net = decoder(bidirectional=True)
    answers = net(WORDS, MEMORY, POSITION)
    assert torch.equal(answers, net(WORDS.flip(1), MEMORY, POSITION))
    assert len({tuple(row.tolist()) for row in answers[0]}) == 4


def test_memory_positions_are_added_to_keys_only():
    # with all values equal, where attention looks cannot matter
    net = decoder()
    flat = torch.ones(2, 7, 16)
    torch.testing.assert_close(net(WORDS, flat, POSITION), net(WORDS, flat, torch.zeros_like(POSITION)))
    assert not torch.allclose(net(WORDS, MEMORY, POSITION), net(WORDS, MEMORY, torch.zeros_like(POSITION)))


@pytest.mark.parametrize("pre_norm", [False, True])
def test_dropout_has_its_places(pre_norm):
    """After the embedding's norm, three residual branches, inside the MLP; and on attention weights."""
    net = decoder(pre_norm=pre_norm, dropout=0.25)
    assert net.embedding_dropout.p == 0.25
    for layer in net.layers:
        assert (layer.dropout.p, layer.ffn[2].p) == (0.25, 0.25)
        assert (layer.self_attention.dropout, layer.cross_attention.dropout) == (0.25, 0.25)
    assert torch.equal(net(WORDS, MEMORY, POSITION), net(WORDS, MEMORY, POSITION))
    net.train()
    assert not torch.equal(net(WORDS, MEMORY, POSITION), net(WORDS, MEMORY, POSITION))


@pytest.mark.parametrize("past", [0, 2])
def test_official_start(past):
    net = decoder(width=64, past=past, bidirectional=False)
    bound = {
        "query": math.sqrt(6 / (3 * 64 + 64)),  # queries, keys and values are one 192 x 64 matrix there
        "out": math.sqrt(6 / (64 + 64)),
        "ffn.0": math.sqrt(6 / (24 + 64)),
    }
    layer = net.layers[0]
    for module, limit in [
        (layer.self_attention.query, bound["query"]),
        (layer.cross_attention.value, bound["query"]),
        (layer.self_attention.out, bound["out"]),
        (layer.ffn[0], bound["ffn.0"]),
    ]:
        assert module.weight.abs().max().item() == pytest.approx(limit, rel=0.01)
        assert module.weight.abs().max() <= limit
    assert (layer.self_attention.query.bias == 0).all()
    assert layer.ffn[0].bias.abs().max() > 0  # torch's default
    assert net.head[0].weight.abs().max().item() == pytest.approx(1 / 8, rel=0.01)  # torch's default: 1 / sqrt(64)
    assert net.position.abs().max() <= math.sqrt(6 / (5 + 64))
    assert all(norm.eps == 1e-5 for norm in net.modules() if isinstance(norm, nn.LayerNorm))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 3}, "width must be a multiple of model.decoder.heads = 3, got 16"),
        ({"depth": 0}, "depth must be a whole number >= 1, got 0"),
        ({"past": -1}, "past must be a whole number >= 0, got -1"),
        ({"dropout": 1.5}, "dropout must be a number >= 0 and <= 1, got 1.5"),
        ({"past": 4, "bidirectional": True}, "past = 4 needs the causal decoder"),
    ],
)
def test_wrong_values_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        decoder(**changes)


@pytest.mark.parametrize("how", ["autocast", "weights"])
def test_logits_in_bfloat16_are_told_apart(how):
    """Bias 8 + bin / 1000 and a zero weight: bfloat16 would make all of them 8, and argmax would take the first."""
    net = decoder()
    with torch.no_grad():
        net.head[-1].weight.zero_()
        net.head[-1].bias.copy_(8 + torch.arange(22) / 1000)
    if how == "weights":
        kept = net.head[-1].bias.clone()
        net = net.bfloat16()
        net.head[-1].bias.data = kept  # bfloat16 cannot hold it; what is summed onto it counts here
    dtype = torch.bfloat16 if how == "weights" else torch.float32
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        logits = net(WORDS, MEMORY.to(dtype), POSITION.to(dtype))
    assert logits.dtype == torch.float32
    assert logits.argmax(-1).unique().tolist() == [21]


def test_independent_queries_see_only_themselves():
    """Another query changes its own logits alone; of the refined decoder, all of the second reading's."""
    for parallel, later in (("independent", 0), ("refined", 4)):
        net = decoder(parallel=parallel)
        memory, position = torch.randn(1, 6, net.width), torch.zeros(1, 6, net.width)
        before = net(torch.zeros(1, 5, dtype=torch.long), memory, position)
        assert before.shape == (1, 4 + later, net.tokenizer.vocab_size)
        with torch.no_grad():
            net.embedding.weight[2, 0] += 1  # all alike would be normed away
        after = net(torch.zeros(1, 5, dtype=torch.long), memory, position)
        changed = (after - before).abs().amax(-1)[0] > 1e-6
        assert changed.tolist() == [False, False, True, False] + [True] * later


def test_parallel_has_no_past():
    with pytest.raises(ValueError, match="past = 2 needs the causal decoder"):
        decoder(parallel="refined", past=2)
