import pytest
import torch
from torch import nn

from seqtrack_lit.models.attention import merge_heads, split_heads
from seqtrack_lit.models.encoder import ViTEncoder

SMALL = {"search_size": 32, "template_size": 16, "templates": 2, "patch": 8, "width": 24, "depth": 2, "heads": 2}


def encoder(**changes) -> ViTEncoder:
    torch.manual_seed(0)
    return ViTEncoder(**SMALL | changes).eval()


def images(net: ViTEncoder, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    shape = (batch, net.templates, 3, net.template_size, net.template_size)
    return torch.randn(shape), torch.randn(batch, 3, net.search_size, net.search_size)


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize(
    ("search_size", "template_size", "templates", "batch"), [(32, 16, 1, 2), (32, 32, 2, 1), (16, 32, 3, 3)]
)
def test_shapes(search_size, template_size, templates, batch, joint):
    net = encoder(search_size=search_size, template_size=template_size, templates=templates, joint=joint)
    assert net.search_tokens == (search_size // 8) ** 2
    assert net.tokens == net.search_tokens + templates * (template_size // 8) ** 2
    assert net(*images(net, batch)).shape == (batch, net.tokens, 24)


@pytest.mark.parametrize("joint", [True, False])
def test_search_features_know_the_templates_only_in_joint_encoding(joint):
    net = encoder(joint=joint)
    templates, search = images(net)
    before, after = net(templates, search), net(templates + 1, search)
    assert torch.equal(before[:, : net.search_tokens], after[:, : net.search_tokens]) is not joint
    assert not torch.equal(before[:, net.search_tokens :], after[:, net.search_tokens :])


@pytest.mark.parametrize("joint", [True, False])
def test_templates_prepared_once_serve_many_search_regions(joint):
    net = encoder(joint=joint)
    templates, search = images(net)
    prepared = net.prepare_templates(templates)
    for other in (search, search.flip(-1)):
        whole = net(templates, other)
        assert torch.equal(net.features(prepared, other), whole)
        wanted = whole[:, : net.search_tokens]
        torch.testing.assert_close(net.features(prepared, other, search_only=True), wanted, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("block", [0, -1])
def test_search_attention_is_that_of_the_fused_block(block):
    """Values weighted by it are what the block's own attention gives."""
    net = encoder()
    for one in net.parameters():
        torch.nn.init.normal_(one, std=0.2)
    images_ = images(net)
    weights = net.search_attention(*images_, block=block)
    assert weights.shape == (2, 2, net.search_tokens, net.tokens)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, net.search_tokens))
    templates, search = images_
    search_tokens = net.patch_embed(search).flatten(2).transpose(1, 2) + net.search_position
    tokens = torch.cat([search_tokens, net.prepare_templates(templates)], dim=1)
    for one in net.blocks[: block % 2]:
        tokens = one(tokens)
    chosen = net.blocks[block]
    tokens = chosen.norm1(tokens)
    values = split_heads(chosen.attn.qkv(tokens)[..., 48:], 2)
    wanted = chosen.attn(tokens, net.search_tokens)
    torch.testing.assert_close(chosen.attn.proj(merge_heads(weights @ values)), wanted, rtol=0, atol=1e-5)


def test_search_attention_where_there_is_none():
    with pytest.raises(ValueError, match="joint=false: the search region never attends"):
        encoder(joint=False).search_attention(*images(encoder()))
    with pytest.raises(ValueError, match="block 2: there are 2"):
        encoder().search_attention(*images(encoder()), block=2)


def test_separate_templates_know_nothing_of_each_other():
    net = encoder(joint=False)
    templates, search = images(net)
    before = net(templates, search)
    templates[:, 1] += 1
    after = net(templates, search)
    second = net.search_tokens + net.template_grid**2
    assert torch.equal(before[:, :second], after[:, :second])
    assert not torch.equal(before[:, second:], after[:, second:])


def test_templates_share_positions():
    # exchanging two templates exchanges their features and leaves those of the search region
    net = encoder()
    templates, search = images(net)
    straight, crossed = net(templates, search), net(templates.flip(1), search)
    tokens, each = net.search_tokens, net.template_grid**2
    torch.testing.assert_close(straight[:, :tokens], crossed[:, :tokens])
    torch.testing.assert_close(straight[:, tokens : tokens + each], crossed[:, tokens + each :])


def test_patches_are_read_row_by_row():
    net = encoder(depth=0)
    templates, search = images(net)
    changed = search.clone()
    changed[:, :, 8:16, 24:32] += 1  # row 1, column 3 of a 4 x 4 grid
    differs = (net(templates, search) != net(templates, changed)).any(-1).any(0)
    assert differs.nonzero().flatten().tolist() == [1 * 4 + 3]


def test_checkpointing_changes_no_gradient():
    gradients = []
    for checkpoint in (False, True):
        net = encoder(checkpoint=checkpoint).train()
        net(*images(net)).square().mean().backward()
        gradients.append([parameter.grad for parameter in net.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_every_parameter_learns():
    net = encoder().train()
    net(*images(net)).square().sum(-1).log().mean().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_official_start():
    net = encoder(width=96)
    for name, module in net.named_modules():
        if isinstance(module, nn.Linear):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.05), name
            assert (module.bias == 0).all()
        if isinstance(module, nn.LayerNorm):
            assert module.eps == 1e-6
    assert net.search_position.std().item() == pytest.approx(0.02, rel=0.1)
    assert net.template_position.std().item() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"search_size": 250},
            "search_size must be a multiple of the patch size 8, got 250; the nearest are 248 and 256",
        ),
        ({"template_size": 4}, "template_size must be a multiple of the patch size 8, got 4"),
        ({"templates": 0}, "templates must be a whole number >= 1, got 0"),
        ({"heads": 0}, "heads must be a whole number >= 1, got 0"),
        ({"heads": 5}, "width must be a multiple of model.encoder.heads = 5"),
    ],
)
def test_wrong_geometry_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        encoder(**changes)
