"""Templates that see only themselves: their keys and values are kept, to the last bit."""

import re
from pathlib import Path

import pytest
import torch
from tests.campaign.weights import DESCRIPTION, GOLDEN, MODEL, ours

from seqtrack_lit.models import cached_encoder
from seqtrack_lit.models.attention import merge_heads, split_heads
from seqtrack_lit.models.cached_encoder import CachedEncoder
from seqtrack_lit.models.checkpoint import load_model, load_weights
from seqtrack_lit.models.description import build_model
from seqtrack_lit.models.encoder import ViTEncoder

SIZES = {"search_size": 48, "template_size": 32, "patch": 8, "width": 16, "depth": 3, "heads": 2}


def images(batch: int = 1, templates: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shape = (batch, templates, 3, 32, 32)
    return torch.randn(shape, generator=generator), torch.randn(batch, 3, 48, 48, generator=generator)


@pytest.fixture
def encoder() -> CachedEncoder:
    torch.manual_seed(0)
    made = CachedEncoder(templates=2, **SIZES).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return made


@torch.no_grad()
def test_cached_equals_uncached_to_the_last_bit(encoder: CachedEncoder) -> None:
    templates, search = images()
    one_by_one = [encoder.prepare_templates(templates[:, :1]), encoder.prepare_templates(templates[:, 1:])]
    prepared = torch.cat(one_by_one, dim=1)
    assert prepared.shape == (1, 2 * 16, 2 * 3 + 1, 16)
    for search_only in (True, False):
        cached = encoder.features(prepared, search, search_only=search_only)
        assert torch.equal(cached, encoder(templates, search)[:, : cached.shape[1]])


@torch.no_grad()
def test_a_template_sees_nothing_but_itself(encoder: CachedEncoder) -> None:
    templates, search = images()
    features = encoder(templates, search)
    assert features.shape == (1, 36 + 2 * 16, 16)
    other = templates.clone()
    other[:, 1] += 1
    changed = encoder(other, search + 1)
    assert torch.equal(changed[:, 36:52], features[:, 36:52])  # the first template
    assert not torch.allclose(changed[:, 52:], features[:, 52:])
    seen = encoder(other, search)[:, :36]
    assert (seen - features[:, :36]).abs().max() > 1e-4  # the search region sees both


@torch.no_grad()
def test_the_arithmetic_is_that_of_the_plain_encoder_with_a_mask(encoder: CachedEncoder) -> None:
    """Masked attention of the plain blocks over all tokens gives the same."""
    templates, search = images(batch=2)
    plain = ViTEncoder(templates=2, **SIZES).eval()
    plain.load_state_dict(encoder.state_dict())
    owner = torch.tensor([0] * 36 + [1] * 16 + [2] * 16)
    mask = (owner[:, None] == owner) | (owner[:, None] == 0)
    tokens = [plain._embed(search) + plain.search_position]
    tokens += [plain._embed(one) + plain.template_position for one in templates.unbind(1)]
    x = torch.cat(tokens, dim=1)
    for block in plain.blocks:
        q, k, v = block.attn.qkv(block.norm1(x)).view(2, 68, 3, 2, 8).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-1, -2) / 8**0.5).masked_fill(~mask, -torch.inf)
        x = x + block.attn.proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        x = x + block.mlp(block.norm2(x))
    torch.testing.assert_close(encoder(templates, search), plain.norm(x), atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("block", [0, -1])
def test_search_attention_is_that_of_the_block(encoder: CachedEncoder, block: int) -> None:
    """Values weighted by it lead to the block's own output."""
    templates, search = images()
    weights = encoder.search_attention(templates, search, block=block)
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 2, 36))
    number = block % 3
    tokens, vectors = encoder._embed(search) + encoder.search_position, encoder.prepare_templates(templates).unbind(2)
    for index, one in enumerate(encoder.blocks):
        before = tokens
        tokens = cached_encoder._run(one, tokens, vectors[2 * index], vectors[2 * index + 1])
        if index == number:
            break
    values = torch.cat([one.attn.qkv(one.norm1(before)).chunk(3, -1)[2], vectors[2 * number + 1]], dim=1)
    middle = before + one.attn.proj(merge_heads(weights @ split_heads(values, 2)))
    torch.testing.assert_close(middle + one.mlp(one.norm2(middle)), tokens, atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="block 3: there are 3"):
        encoder.search_attention(templates, search, block=3)


@pytest.mark.parametrize("setting", ["joint=false", "checkpoint=true"])
def test_what_it_cannot_do_is_refused(setting: str) -> None:
    name, value = setting.split("=")
    with pytest.raises(ValueError, match=rf"model\.encoder\.{setting}.*ablation=cached.*leave it out"):
        CachedEncoder(**SIZES, **{name: value == "true"})


CACHED = {**MODEL, "encoder": {**MODEL["encoder"], "_target_": "seqtrack_lit.models.cached_encoder.CachedEncoder"}}


def test_checkpoints_of_ours_keep_what_their_templates_see(tmp_path: Path) -> None:
    for tree, made, other in ((MODEL, ViTEncoder, CACHED), (CACHED, CachedEncoder, MODEL)):
        ours(tmp_path, {**DESCRIPTION, "model": tree})
        assert type(load_model(tmp_path / "best.ckpt").model.encoder) is made
        load_weights(build_model({"bins": 40}, tree), tmp_path / "best.ckpt")
        remedy = "leave ablation=cached out" if other is CACHED else "add ablation=cached"
        with pytest.raises(
            ValueError, match=rf"best\.ckpt: its templates see .*; {remedy}, or train without init_from"
        ):
            load_weights(build_model({"bins": 40}, other), tmp_path / "best.ckpt")
    wrong = {**CACHED, "encoder": {**CACHED["encoder"], "width": "32"}}  # of the type that the signature names
    ours(tmp_path, {**DESCRIPTION, "model": wrong})
    with pytest.raises(ValueError, match=r"best\.ckpt: model\.encoder: width"):
        load_model(tmp_path / "best.ckpt")


def test_official_weights_are_refused() -> None:
    path = GOLDEN / "SEQTRACK_ep0007.pth.tar"
    plain = load_model(path, official_config=GOLDEN / "cfg.yaml")
    encoder = {**plain.description.model["encoder"], "_target_": CACHED["encoder"]["_target_"]}
    cached = build_model(plain.description.tokenizer, {**plain.description.model, "encoder": encoder})
    assert cached.state_dict().keys() == plain.model.state_dict().keys()
    with pytest.raises(ValueError, match=re.escape(f"{path}: its templates see the search region too")):
        load_weights(cached, path)
