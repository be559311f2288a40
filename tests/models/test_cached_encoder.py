"""Templates that see only themselves: their keys and values are kept, to the last bit."""

import pytest
import torch

from seqtrack_lit.models.cached_encoder import CachedEncoder
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
