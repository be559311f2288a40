import math

import pytest
import torch
from torch import nn

from seqtrack_lit.models.decoder import Decoder
from seqtrack_lit.models.encoder import ViTEncoder
from seqtrack_lit.models.seqtrack import SeqTrack
from seqtrack_lit.models.tiny_init import TinyInit
from seqtrack_lit.tokens import BoxTokenizer

STILL = {"encoder_position_std": 1e-9, "target_share": 0.5}


def encoder(template_size: int, **changes: float) -> ViTEncoder:
    torch.manual_seed(0)
    geometry = {"search_size": 32, "template_size": template_size, "patch": 8, "width": 64, "depth": 2, "heads": 2}
    return ViTEncoder(**geometry, init=TinyInit(**STILL | changes))


def test_keys_start_equal_to_orthogonal_queries():
    queries, keys, values = encoder(16, match_gain=0.8).blocks[0].attn.qkv.weight.chunk(3)
    assert torch.equal(queries, keys)
    torch.testing.assert_close(queries @ queries.T, 0.64 * torch.eye(64), atol=1e-5, rtol=0)
    assert values.abs().max() <= (6 / 128) ** 0.5  # Xavier's bound of a 64 x 64 matrix


def test_template_positions_mark_the_target():
    # share 0.5 of a 2 x 2 grid: a quarter of each patch lies inside the target; of a 4 x 4 grid: the middle four
    narrow, wide = (encoder(size).template_position[0].detach() for size in (16, 32))
    torch.testing.assert_close(narrow[0].expand(4, -1), narrow)
    inside = torch.tensor([5, 6, 9, 10])
    outside = torch.tensor([i for i in range(16) if i not in (5, 6, 9, 10)])
    torch.testing.assert_close(wide[inside], wide[5].expand(4, -1))
    torch.testing.assert_close(wide[outside], wide[0].expand(12, -1))
    torch.testing.assert_close(narrow[0], encoder(16).template_position[0, 0])
    assert not torch.allclose(wide[5], wide[0])


def test_query_bias_points_to_the_target():
    net = encoder(32, match_gain=0.8, target_bias=6.0)
    target = net.template_position[0, 5].detach()
    for block in net.blocks:
        queries, keys, values = block.attn.qkv.bias.chunk(3)
        # 6 unit vectors through an orthogonal map of gain 0.8
        assert queries.norm().item() == pytest.approx(6 * 0.8, rel=1e-4)
        torch.testing.assert_close(queries, block.attn.qkv.weight.chunk(3)[1] @ target / target.norm() * 6)
        assert (keys == 0).all()
        assert (values == 0).all()


def test_patch_gain():
    torch.testing.assert_close(encoder(16, patch_gain=3.0).patch_embed.weight, 3 * encoder(16).patch_embed.weight)


def test_linear_layers_and_tables():
    tokenizer, init = BoxTokenizer(bins=20), TinyInit(memory_position_std=0.3, embedding_std=0.02)
    decoder = Decoder(tokenizer=tokenizer, width=64, heads=4, ffn=24, past=3, init=init)
    net = SeqTrack(tokenizer=tokenizer, encoder=encoder(16), decoder=decoder, dense_head=True, init=init)
    for module in (*decoder.modules(), net.linear, net.dense):
        if isinstance(module, nn.Linear):
            assert module.weight.abs().max() <= math.sqrt(6 / sum(module.weight.shape))
            assert (module.bias == 0).all()
    assert decoder.embedding.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert decoder.position.std().item() == pytest.approx(1, rel=0.1)
    assert decoder.past_position.std().item() == pytest.approx(1, rel=0.1)
    assert net.memory_position.std().item() == pytest.approx(0.3, rel=0.1)


@pytest.mark.parametrize(
    ("name", "value"), [("target_share", 1.5), ("embedding_std", -1.0), ("patch_gain", math.nan), ("match_gain", True)]
)
def test_wrong_values_are_named(name, value):
    with pytest.raises(ValueError, match=rf"model\.init\.{name} must be a number"):
        TinyInit(**{name: value})
