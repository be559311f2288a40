"""Prepacked layers compute what the layers they were made of compute, for as long as these keep their weights."""

import pytest
import torch
from torch import nn

from seqtrack_lit.models import prepacked
from seqtrack_lit.models.prepacked import PrepackedLinear, PrepackedNetwork, prepack
from seqtrack_lit.models.timm_encoder import TimmEncoder
from seqtrack_lit.models.two_stage_encoder import TwoStageEncoder
from seqtrack_lit.training.module import Ema

LAYOUTS = ["onednn", "transposed", "plain"]


def encode(encoder, batch=2):
    generator = torch.Generator().manual_seed(3)
    templates = torch.randn(batch, encoder.templates, 3, *[encoder.template_size] * 2, generator=generator)
    search = torch.randn(batch, 3, *[encoder.search_size] * 2, generator=generator)
    with torch.inference_mode():
        return encoder.features(encoder.prepare_templates(templates), search)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layer(layout, gelu, dtype):
    torch.manual_seed(0)
    linear = nn.Linear(48, 20).to(dtype)
    x = torch.randn(2, 7, 48).to(dtype)
    with torch.inference_mode():
        found = PrepackedLinear(linear, layout, gelu=gelu)(x)
        exact = linear(x) if not gelu else nn.functional.gelu(linear(x))
    assert found.dtype == dtype
    torch.testing.assert_close(found, exact, **({"atol": 1e-6, "rtol": 1e-5} if dtype == torch.float32 else {}))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["plain", "two stages", "timm"])
def test_encoders(build, kind, layout):
    torch.manual_seed(0)
    sizes = {"search_size": 28, "template_size": 14}
    encoder = build().encoder
    if kind == "two stages":
        encoder = TwoStageEncoder(**sizes, width=24, depth=3, heads=2, separate_blocks=1).eval()
    if kind == "timm":
        options = {"embed_dim": 24, "depth": 2, "num_heads": 2, "img_size": 28}
        encoder = TimmEncoder(name="vit_small_patch14_dinov2.lvd142m", options=options, **sizes).eval()
    before = encode(encoder)
    torch.testing.assert_close(encode(prepack(encoder, layout)), before, atol=1e-5, rtol=1e-4)
    assert torch.equal(encode(encoder), before)  # which is as it was


def test_gelu_is_part_of_the_product(build):
    mlp = prepack(build().encoder, "onednn").blocks[0].mlp
    assert [type(one) for one in mlp] == [PrepackedLinear, PrepackedLinear]
    assert [one.gelu for one in mlp] == [True, False]


def load(net):
    net.load_state_dict({name: 0.9 * one for name, one in net.state_dict().items()})


def assign(net):
    net.load_state_dict({name: 0.9 * one for name, one in net.state_dict().items()}, assign=True)


def optimise(net, **options):
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, **options)
    for one in net.parameters():
        one.grad = torch.randn_like(one)
    optimizer.step()


def optimise_fused(net):
    optimise(net, fused=True)


def optimise_together(net):
    optimise(net, foreach=True)


def average(net):
    ema = Ema(net, 0.5)
    ema.net = net
    other = Ema(net, 0.5).net
    load(other)
    ema.update(other, 3)


@pytest.mark.parametrize("change", [load, assign, optimise, optimise_fused, optimise_together, average])
def test_weights_that_change_are_prepacked_again(build, inputs, change):
    net = build()
    templates, search, _ = inputs(net)
    fast = PrepackedNetwork(net, "transposed")
    with torch.inference_mode():
        old = net.features(templates, search)
        torch.testing.assert_close(fast.network.features(templates, search), old, atol=1e-5, rtol=1e-4)
    change(net)
    fast.refresh()
    with torch.inference_mode():
        new = net.features(templates, search)
        assert not torch.allclose(new, old, atol=1e-3)
        torch.testing.assert_close(fast.network.features(templates, search), new, atol=1e-5, rtol=1e-4)


def test_weights_that_stay_are_not_prepacked_again(build):
    fast = PrepackedNetwork(build())
    before = fast.network
    fast.refresh()
    assert fast.network is before


@pytest.mark.parametrize("layout", [*LAYOUTS, "int8"])
def test_released_it_computes_the_same(build, inputs, layout):
    net = build()
    if layout == "int8" and not prepacked.onednn_works(torch.float32, "int8"):
        pytest.skip("this torch has no products of 8-bit integers for this processor")
    templates, search, _ = inputs(net)
    fast = PrepackedNetwork(net, layout)
    with torch.inference_mode():
        before = fast.network.features(templates, search)
        fast.release()
        fast.refresh()
        assert torch.equal(fast.network.features(templates, search), before)
        broken = fast.network.features(templates * torch.nan, search * torch.nan)
    assert not broken.isfinite().any()
    assert sum(one.numel() for one in net.encoder.parameters() if one.ndim == 2) == 0


@pytest.mark.parametrize("fault", ["missing", "other arguments", "wrong numbers"])
def test_without_the_private_operators(monkeypatch, fault):
    """Another version of torch: the plain layers are used."""
    monkeypatch.setattr(prepacked, "capabilities", dict)
    assert prepacked.best_layout.__wrapped__(torch.float32) == "onednn"

    class Operators:
        if fault != "missing":
            _reorder_linear_weight = staticmethod(lambda weight: weight)
        if fault == "wrong numbers":
            _linear_pointwise = staticmethod(lambda x, weight, bias, *after: x @ weight.t())
        if fault == "other arguments":
            _linear_pointwise = staticmethod(lambda x, weight: x @ weight.t())

    monkeypatch.setattr(prepacked.torch.ops, "mkldnn", Operators, raising=False)
    prepacked.onednn_works.cache_clear()
    assert prepacked.best_layout.__wrapped__(torch.float32) == "plain"
    prepacked.onednn_works.cache_clear()


@pytest.mark.parametrize("gelu", [False, True])
def test_eight_bits(gelu):
    """Inputs and weights are rounded to 255 levels."""
    torch.manual_seed(0)
    linear, x = nn.Linear(256, 64), torch.randn(2, 9, 256)
    with torch.inference_mode():
        for moved in (x, x + 3, -x.abs(), x * 1e-6, torch.zeros_like(x)):
            exact = nn.functional.gelu(linear(moved)) if gelu else linear(moved)
            found = PrepackedLinear(linear, "int8", gelu=gelu)(moved)
            level = float(moved.max().clamp(min=0) - moved.min().clamp(max=0)) / 254
            assert (found - exact).abs().max() < 2 * level + 1e-6
    assert not PrepackedLinear(linear, "int8")(x.index_fill(2, torch.tensor(3), float("nan"))).isfinite().any()
    assert not PrepackedLinear(linear, "int8")(x.index_fill(2, torch.tensor(3), float("inf"))).isfinite().any()
