"""Generation with a cache equals the plain model, run again for every token."""

from itertools import combinations, product

import pytest
import torch

from seqtrack_lit.models.inference_decoder import InferenceDecoder

GEOMETRY = {
    "1 template, half the size": {"templates": 1, "template_size": 16},
    "2 templates, same size": {"templates": 2, "template_size": 32},
    "3 templates, twice the size": {"templates": 3, "search_size": 16, "template_size": 32},
}


def one_by_one(net, templates, search, window, past):
    """Greedy decoding without cache: the whole prefix again for each token (method of the official tracker)."""
    inputs = torch.full((len(search), 1), net.tokenizer.start)
    likelihoods = []
    for position in range(4):
        logits = net(templates, search, inputs, past).tokens
        last = logits[:, position - 4] if net.decoder.bidirectional else logits[:, -1]
        probabilities = last.float().softmax(-1)[:, : net.tokenizer.bins]
        if window is not None and position in net.tokenizer.window_positions:
            probabilities = probabilities.double() * window
        likelihood, token = probabilities.max(-1)
        inputs = torch.cat([inputs, token[:, None]], 1)
        likelihoods.append(likelihood.double())
    return inputs[:, 1:], torch.stack(likelihoods, 1)


def check(net, inputs, windowed, batch=2):
    templates, search, past = inputs(net, batch)
    window = net.tokenizer.hann_window() if windowed else None
    with torch.no_grad():
        if net.decoder.refined:  # the first reading of tracking is windowed, that of training is not
            window = None
        windowed = window is not None
        tokens, likelihoods = one_by_one(net, templates, search, window, past)
    fast = [InferenceDecoder(net.decoder, net.memory_position, project=project) for project in (True, False)]
    for reader in (None, *fast):
        found = net.generate(templates, search, hann_window=window, past=past, decoder=reader)
        assert torch.equal(found.tokens, tokens)
        assert found.likelihoods.dtype == (torch.float64 if windowed else torch.float32)
        torch.testing.assert_close(found.likelihoods.double(), likelihoods, atol=1e-6, rtol=1e-4)
        assert found.boxes.dtype == torch.float32
        assert torch.equal(found.boxes, net.tokenizer.decode(tokens))


ORDERS = ("cxcywh", "whcxcy", "xyxy")
# every pair of order, memory and norm; geometry and window take turns, so that each meets each of the others
CAUSAL = [
    (ORDERS[o], memory, bool(p), list(GEOMETRY)[(o + m + p) % 3], (o + m + p) % 2 == 0)
    for o, (m, memory), p in product(range(3), enumerate(("search", "both", "mean")), range(2))
]


@pytest.mark.parametrize(("order", "memory", "pre_norm", "geometry", "windowed"), CAUSAL)
def test_causal(build, inputs, order, memory, pre_norm, geometry, windowed):
    net = build(order=order, memory=memory, encoder=GEOMETRY[geometry], decoder={"pre_norm": pre_norm})
    check(net, inputs, windowed)


def test_the_cases_meet_each_other():
    for a, b in combinations(range(5), 2):
        values = [len({case[i] for case in CAUSAL}) for i in (a, b)]
        assert len({(case[a], case[b]) for case in CAUSAL}) == values[0] * values[1], (a, b)


VARIANTS = {
    "temporal 1": {"decoder": {"past": 1}},
    "temporal 4": {"decoder": {"past": 4}},
    "bidirectional": {"decoder": {"bidirectional": True}},
    "separate": {"encoder": {"joint": False}, "memory": "both"},
    "separate bidirectional": {"encoder": {"joint": False}, "memory": "both", "decoder": {"bidirectional": True}},
    "3 layers": {"decoder": {"depth": 3}},
    "independent": {"decoder": {"parallel": "independent"}},
    "independent, pre-norm": {"decoder": {"parallel": "independent", "pre_norm": True}},
    "refined": {"decoder": {"parallel": "refined"}},
    "refined, pre-norm, 3 layers": {"decoder": {"parallel": "refined", "pre_norm": True, "depth": 3}},
}


@pytest.mark.parametrize("windowed", [False, True], ids=["no window", "window"])
@pytest.mark.parametrize("name", VARIANTS)
def test_variants(build, inputs, name, windowed):
    changes, number = VARIANTS[name], list(VARIANTS).index(name) + windowed
    decoder = changes.get("decoder", {}) | {"pre_norm": number % 2 == 0}
    check(build(order=ORDERS[number % 3], **changes | {"decoder": decoder}), inputs, windowed)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_batch_sizes(build, inputs, batch):
    check(build(), inputs, True, batch)


@pytest.mark.parametrize("changes", [{}, {"decoder": {"past": 2}}, {"decoder": {"bidirectional": True}}])
def test_neighbours_in_a_batch_do_not_matter(build, inputs, changes):
    net = build(**changes)
    templates, search, past = inputs(net, 3)
    window = net.tokenizer.hann_window()
    together = net.generate(templates, search, hann_window=window, past=past)
    for i in range(3):
        own = None if past is None else past[i : i + 1]
        alone = net.generate(templates[i : i + 1], search[i : i + 1], hann_window=window, past=own)
        assert torch.equal(alone.tokens, together.tokens[i : i + 1])
        torch.testing.assert_close(alone.likelihoods, together.likelihoods[i : i + 1], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("memory", ["search", "both", "mean"])
@pytest.mark.parametrize(
    "decoder", [{}, {"past": 2}, {"bidirectional": True}], ids=["causal", "temporal", "bidirectional"]
)
def test_attention_on_request(build, inputs, memory, decoder):
    net = build(memory=memory, decoder=decoder)
    templates, search, past = inputs(net)
    plain = net.generate(templates, search, past=past)
    asked = net.generate(templates, search, past=past, attention=True)
    assert plain.attention is None
    assert torch.equal(plain.tokens, asked.tokens)
    torch.testing.assert_close(asked.likelihoods, plain.likelihoods, rtol=0, atol=1e-5)  # fused there, written out here
    memory_tokens = net.memory_position.shape[1]
    assert asked.attention.cross.shape == (2, 4, 2, 4, memory_tokens)  # B, tokens, layers, heads, M
    torch.testing.assert_close(asked.attention.cross.sum(-1), torch.ones(2, 4, 2, 4))
    if memory_tokens > 1:
        assert (asked.attention.cross.std(1).amax((1, 2, 3)) > 1e-4).all()  # the four tokens look at different places


def test_attention_rows_belong_to_their_tokens(build, inputs):
    """The attention of token i is that of a plain pass over the tokens before it."""
    net = build()
    templates, search, _ = inputs(net)
    prediction = net.generate(templates, search, attention=True)
    start = torch.full((2, 1), net.tokenizer.start)
    memory = net.encode(templates, search)
    state, _ = net.decoder.prefill(memory, net.memory_position)
    with torch.no_grad():
        for position in range(4):
            state.length = position
            token = torch.cat([start, prediction.tokens], 1)[:, position : position + 1]
            _, attention = net.decoder.decode_step(token, state, weights=True)
            torch.testing.assert_close(attention.cross[:, 0], prediction.attention.cross[:, position])


@pytest.mark.parametrize("order", ["cxcywh", "whcxcy"])
@pytest.mark.parametrize("windowed", [False, True])
def test_distributions_on_request(build, inputs, windowed, order):
    net = build(order=order)
    templates, search, _ = inputs(net)
    window = net.tokenizer.hann_window() if windowed else None
    prediction = net.generate(templates, search, hann_window=window, distributions=True)
    assert net.generate(templates, search).distributions is None
    assert prediction.distributions.shape == (2, 4, net.tokenizer.bins)
    best, token = prediction.distributions.max(-1)
    assert torch.equal(token, prediction.tokens)
    assert torch.equal(best, prediction.likelihoods)
    assert (prediction.distributions.sum(-1) <= 1).all()  # END and START took their share
    if windowed:
        positions = prediction.distributions[:, list(net.tokenizer.window_positions)]
        assert (positions[..., [0, -1]] == 0).all()


def test_window_moves_positions_to_the_middle(build, inputs):
    net = build()
    templates, search, _ = inputs(net, 3)
    spike = torch.zeros(net.tokenizer.bins, dtype=torch.float64)
    spike[7] = 1.0
    assert (net.generate(templates, search, hann_window=spike).tokens[:, :2] == 7).all()


@pytest.mark.parametrize("windowed", [False, True])
@pytest.mark.parametrize("how", ["autocast", "weights"])
def test_bfloat16(build, inputs, how, windowed):
    """Everything after the logits is float32 or float64, whatever the model runs in."""
    net = build()
    templates, search, _ = inputs(net)
    window = net.tokenizer.hann_window() if windowed else None
    if how == "weights":
        prediction = net.bfloat16().generate(
            templates.bfloat16(), search.bfloat16(), hann_window=window, attention=True
        )
    else:
        with torch.autocast("cpu", torch.bfloat16):
            prediction = net.generate(templates, search, hann_window=window, attention=True)
    assert prediction.likelihoods.dtype == (torch.float64 if windowed else torch.float32)
    assert prediction.boxes.dtype == torch.float32
    assert (prediction.likelihoods > 0).all()
    assert torch.isfinite(prediction.boxes).all()


def test_generation_keeps_no_gradient(build, inputs):
    net = build()
    templates, search, _ = inputs(net)
    assert not net.generate(templates, search).likelihoods.requires_grad


@pytest.mark.parametrize("project", [False, True])
def test_inference_decoder_follows_its_weights_where_it_stands(build, inputs, project):
    """A graph holds the addresses of its tensors: refreshing fills them, and changes none."""
    net = build()
    templates, search, _ = inputs(net, 2)
    fast = InferenceDecoder(net.decoder, net.memory_position, project=project)
    addresses = [tensor.data_ptr() for tensor in (fast.table, fast.memory_weight, *fast.layers[0][1:])]
    before = net.generate(templates, search, decoder=fast)
    with torch.no_grad():
        for parameter in net.decoder.parameters():
            parameter.mul_(1.5)
    fast.refresh()
    after, plain = net.generate(templates, search, decoder=fast), net.generate(templates, search)
    assert [tensor.data_ptr() for tensor in (fast.table, fast.memory_weight, *fast.layers[0][1:])] == addresses
    torch.testing.assert_close(after.likelihoods, plain.likelihoods, atol=1e-6, rtol=1e-4)
    assert not torch.allclose(after.likelihoods, before.likelihoods)


@pytest.mark.parametrize("order", ORDERS)
def test_a_box_by_expectation(build, inputs, order):
    """The mean of the bins up to 3 away from each token by the probabilities before the window, one by one."""
    net = build(order=order)
    templates, search, _ = inputs(net, 2)
    reading = {"hann_window": net.tokenizer.hann_window(), "distributions": True}
    found = net.generate(templates, search, expectation=3, **reading)
    assert torch.equal(found.tokens, net.generate(templates, search, **reading).tokens)
    for row in range(2):
        means = []
        for token, shares in zip(found.tokens[row].tolist(), found.unwindowed[row].tolist(), strict=True):
            bins = range(max(0, token - 3), min(net.tokenizer.bins, token + 4))
            means.append(sum(i * shares[i] for i in bins) / sum(shares[i] for i in bins))
        torch.testing.assert_close(found.boxes[row], net.tokenizer.decode(torch.tensor(means)), atol=1e-5, rtol=1e-5)
