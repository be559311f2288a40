import math

import pytest
import torch
import torch.nn.functional as F

from seqtrack_lit.models.decoder import Decoder
from seqtrack_lit.models.encoder import ViTEncoder, normalise
from seqtrack_lit.models.seqtrack import SeqTrack, check_memory, sinusoid
from seqtrack_lit.tokens import BoxTokenizer

VARIANTS = {
    "plain": {},
    "both": {"memory": "both"},
    "mean": {"memory": "mean"},
    "pre-norm": {"decoder": {"pre_norm": True}},
    "bidirectional": {"decoder": {"bidirectional": True}},
    "temporal": {"decoder": {"past": 4}},
    "separate": {"memory": "both", "encoder": {"joint": False}},
    "dense": {"dense_head": True},
    "dense, both": {"dense_head": True, "memory": "both"},
    "dense, mean": {"dense_head": True, "memory": "mean"},
}


def teach(net, batch=2):
    generator = torch.Generator().manual_seed(3)
    boxes = torch.rand(batch, 4, generator=generator) * 0.5 + 0.25
    words, targets = net.tokenizer.teacher(boxes)
    return words, targets[:, :4] if net.decoder.bidirectional else targets


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_forward_shapes_and_every_parameter_learns(build, inputs, changes):
    net = build(**changes).train()
    templates, search, past = inputs(net)
    words, targets = teach(net)
    logits = net(templates, search, words, past)
    assert logits.tokens.shape == (2, targets.shape[1], net.tokenizer.vocab_size)
    loss = F.cross_entropy(logits.tokens.flatten(0, 1), targets.flatten())
    if net.dense is None:
        assert logits.dense is None
    else:
        assert logits.dense.shape == (2, net.encoder.search_tokens)
        loss = loss + logits.dense.square().mean()
    loss.backward()
    idle = {name for name, p in net.named_parameters() if p.grad is None or (p.grad == 0).all()}
    # a key's bias shifts all scores of a query alike, so that rounding alone gives it a gradient
    idle = {name for name in idle if not name.endswith("key.bias")}
    if net.memory == "mean":  # one memory token has weight 1, whatever the query and its key
        lost = (
            "memory_position",
            "cross_attention.query.weight",
            "cross_attention.query.bias",
            "cross_attention.key.weight",
        )
        idle = {name for name in idle if not name.endswith(lost)}
    assert idle == set()


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_an_untrained_model_knows_nothing(build, inputs, changes):
    net = build(**changes, random=False)
    templates, search, past = inputs(net, 3)
    words, targets = teach(net, 3)
    loss = F.cross_entropy(net(templates, search, words, past).tokens.flatten(0, 1), targets.flatten())
    assert loss.item() == pytest.approx(math.log(net.tokenizer.vocab_size), rel=0.1)


@pytest.mark.parametrize(("memory", "length"), [("search", 4 * 4), ("both", 4 * 4 + 2 * 2 * 2), ("mean", 1)])
def test_memory(build, inputs, memory, length):
    net = build(memory=memory)
    templates, search, _ = inputs(net)
    features = net.encoder(templates, search)
    mapped = net.linear(features.mean(1, keepdim=True)) if memory == "mean" else net.linear(features)[:, :length]
    assert net.memory_position.shape == (1, length, 16)
    torch.testing.assert_close(net.encode(templates, search), mapped)


def test_dense_answers_are_of_the_search_tokens(build, inputs):
    for memory in ("search", "both", "mean"):
        net = build(memory=memory, dense_head=True)
        templates, search, _ = inputs(net)
        words, _ = teach(net)
        expected = net.dense(net.linear(net.encoder(templates, search)[:, :16]))[..., 0]
        torch.testing.assert_close(net(templates, search, words).dense, expected)


@pytest.mark.parametrize("map_equal_widths", [False, True])
def test_linear_map_of_equal_widths(build, inputs, map_equal_widths):
    net = build(decoder={"width": 24}, map_equal_widths=map_equal_widths)
    templates, search, _ = inputs(net)
    features = net.encoder(templates, search)[:, :16]
    assert torch.equal(net.encode(templates, search), features) is not map_equal_widths
    assert net.linear.weight.shape == (24, 24)  # there all the same


def test_overfits_one_batch(build, inputs):
    net = build(random=False, decoder={"width": 32, "dropout": 0.0}, encoder={"width": 32}).train()
    templates, search, _ = inputs(net, 3)
    words, targets = teach(net, 3)
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3)
    for _ in range(80):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(templates, search, words).tokens.flatten(0, 1), targets.flatten())
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    assert torch.equal(net.eval().generate(templates, search).tokens, targets[:, :4])


@pytest.mark.parametrize("changes", [{}, {"dense_head": True}, {"decoder": {"bidirectional": True}}])
def test_trains_under_bfloat16_autocast(build, inputs, changes):
    net = build(**changes).train()
    templates, search, _ = inputs(net)
    words, targets = teach(net)
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(templates, search, words)
    F.cross_entropy(logits.tokens.float().flatten(0, 1), targets.flatten()).backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("memory", "joint", "message"),
    [
        ("template", True, "model.memory must be one of search, both, mean, got 'template'"),
        ("search", False, "joint=false needs model.memory=both, got search"),
        ("mean", False, "joint=false needs model.memory=both, got mean"),
    ],
)
def test_wrong_memories_are_named(memory, joint, message):
    with pytest.raises(ValueError, match=message):
        check_memory(memory, joint=joint)


def test_the_constructor_checks_the_memory(build):
    with pytest.raises(ValueError, match=r"joint=false needs model\.memory=both"):
        build(encoder={"joint": False})


def test_two_tokenizers_are_refused():
    with pytest.raises(ValueError, match="decoder was built with BoxTokenizer\\(bins=30"):
        SeqTrack(
            tokenizer=BoxTokenizer(bins=20),
            encoder=ViTEncoder(search_size=16, patch=16, width=16, depth=1, heads=1, template_size=16),
            decoder=Decoder(tokenizer=BoxTokenizer(bins=30), width=16, heads=1),
        )


@pytest.mark.parametrize(
    ("templates", "search"),
    [((2, 1, 3, 16, 16), (2, 3, 32, 32)), ((2, 2, 3, 32, 32), (2, 3, 32, 32)), ((2, 2, 3, 16, 16), (2, 3, 16, 16))],
    ids=["one template too few", "large templates", "small search region"],
)
def test_images_that_do_not_fit_are_refused(build, templates, search):
    with pytest.raises(ValueError, match=r"the model was built for (templates of shape|search crops of side)"):
        build().generate(torch.zeros(templates), torch.zeros(search))


def test_normalise():
    # (0.5 - 0.485) / 0.229 for a value of 127.5; 0 -> -0.485 / 0.229, 255 -> (1 - 0.406) / 0.225
    image = torch.stack([torch.full((2, 2), value, dtype=torch.uint8) for value in (0, 51, 255)])
    expected = torch.tensor([-0.485 / 0.229, (0.2 - 0.456) / 0.224, (1 - 0.406) / 0.225])
    torch.testing.assert_close(normalise(image)[:, 1, 1], expected)
    assert normalise(image[None, None]).shape == (1, 1, 3, 2, 2)


def test_sinusoid():
    # columns 0 and 1 turn with rate 1, columns 2 and 3 with rate 10000^(-2/4) = 0.01
    expected = [[0, 1, 0, 1], [math.sin(1), math.cos(1), math.sin(0.01), math.cos(0.01)]]
    torch.testing.assert_close(sinusoid(2, 4), torch.tensor(expected))
