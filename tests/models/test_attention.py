import pytest
import torch

from seqtrack_lit.models.attention import attend, merge_heads, split_heads

Q, K, V = (torch.randn(2, 3, n, 4, generator=torch.Generator().manual_seed(n)) for n in (5, 7, 7))
MASK = torch.arange(7) <= torch.arange(5)[:, None]


@pytest.mark.parametrize("attn_mask", [None, MASK], ids=["all visible", "masked"])
def test_written_out_attention_equals_the_fused_kernel(attn_mask):
    fused, nothing = attend(Q, K, V, attn_mask=attn_mask)
    written, weights = attend(Q, K, V, attn_mask=attn_mask, weights=True)
    assert nothing is None
    torch.testing.assert_close(written, fused, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 5))


def test_by_hand():
    # one query of width 1: scores 1 * (0, log 3) -> weights 1/4, 3/4 -> 0.25 * 8 + 0.75 * 4 = 5
    queries, keys = torch.ones(1, 1, 1, 1), torch.tensor([1.0, 3.0]).log()
    answers, weights = attend(queries, keys.view(1, 1, 2, 1), torch.tensor([8.0, 4.0]).view(1, 1, 2, 1), weights=True)
    torch.testing.assert_close(weights.flatten(), torch.tensor([0.25, 0.75]))
    torch.testing.assert_close(answers.flatten(), torch.tensor([5.0]))


def test_masked_keys_get_no_weight():
    _, weights = attend(Q, K, V, attn_mask=MASK, weights=True)
    assert (weights[:, :, ~MASK] == 0).all()


def test_low_precision_on_a_cpu_is_close_and_trains():
    low = [tensor.bfloat16().requires_grad_() for tensor in (Q, K, V)]
    answers, _ = attend(*low)
    answers.float().sum().backward()
    assert answers.dtype == torch.bfloat16
    torch.testing.assert_close(answers.float(), attend(Q, K, V)[0], atol=0.03, rtol=0.03)
    assert all(torch.isfinite(tensor.grad).all() for tensor in low)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_keeps_the_mean(dtype):
    torch.manual_seed(0)
    tensors = [tensor.repeat(200, 1, 1, 1).to(dtype) for tensor in (Q, K, V)]
    dropped, _ = attend(*tensors, dropout=0.5)
    assert not torch.equal(dropped[0], dropped[2])
    mean = dropped.float().view(200, *Q.shape).mean(0)
    torch.testing.assert_close(mean, attend(Q, K, V)[0], atol=0.4, rtol=0)


def test_heads_round_trip():
    tokens = torch.randn(2, 5, 12)
    heads = split_heads(tokens, 3)
    assert heads.shape == (2, 3, 5, 4)
    assert torch.equal(heads[:, 1], tokens[..., 4:8])
    assert torch.equal(merge_heads(heads), tokens)
