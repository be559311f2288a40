"""Training lengths, schedules and optimizers."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from seqtrack_lit.models.seqtrack import SeqTrack
from seqtrack_lit.training.length import TrainingLength
from seqtrack_lit.training.optim import (
    AdamWSettings,
    MuonAdamW,
    MuonSettings,
    StepDecay,
    WarmupConstantLinear,
    orthogonalise,
    split_parameters,
)

BUDGETS = {
    # samples, epoch, batch, devices, device batch -> steps an epoch, epochs, batch, accumulate, samples drawn
    "paper": ((30_000_000, 60_000, 64, 8, None), (937, 500, 8, 1, 29_984_000)),
    "one small device": ((30_000_000, 60_000, 64, 1, 8), (937, 500, 8, 8, 29_984_000)),
    "quickstart": ((90_000, 15_000, 48, 1, None), (312, 6, 48, 1, 89_856)),
    "less than an epoch": ((100, 60_000, 10, 1, None), (10, 1, 10, 1, 100)),
    "one step": ((3, 3, 3, 1, 1), (1, 1, 1, 3, 3)),
}


@pytest.mark.parametrize("name", BUDGETS)
def test_length(name: str) -> None:
    (samples, epoch, batch, devices, device), expected = BUDGETS[name]
    length = TrainingLength(samples, epoch, batch, devices, device)
    assert (length.steps_per_epoch, length.epochs, length.batch, length.accumulate, length.total) == expected
    assert length.batch * length.devices * length.accumulate == batch
    assert f"{expected[-1]:,} samples" in str(length)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"global_batch": 0}, "train.global_batch must be a whole number >= 1, got 0"),
        ({"global_batch": True}, "got True"),
        ({"samples": 0}, "train.samples"),
        ({"samples": 10}, "less than one batch"),
        ({"device_batch": 7}, "train.device_batch = 7; the nearest are 63 and 70"),
        ({"devices": 3}, "3 device"),
    ],
)
def test_wrong_lengths(values: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        TrainingLength(**{"samples": 1000, "epoch_samples": 100, "global_batch": 64, **values})


def test_schedules() -> None:
    step = StepDecay()
    assert [step(i, 500) for i in (0, 399, 400, 499)] == [1, 1, 0.1, 0.1]
    warm = WarmupConstantLinear(warmup=0.05, constant=0.5)  # of 100 steps: up 5, constant to 50, down 50
    assert [warm(i, 100) for i in (0, 3, 4, 49, 50, 75, 99)] == pytest.approx([0.2, 0.8, 1, 1, 1, 0.5, 0.02])
    assert [WarmupConstantLinear(0.0, 1.0)(i, 3) for i in range(3)] == [1, 1, 1]
    for wrong in ({"warmup": 2.0}, {"warmup": 0.5, "constant": 0.1}, {"warmup": -0.1}):
        with pytest.raises(ValueError, match=r"optimizer\.schedule"):
            WarmupConstantLinear(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(("scaling", "rate"), [("none", 1e-4), ("sqrt", 1e-4 * 2**0.5), ("linear", 2e-4)])
def test_adamw_groups(make_net: Callable[..., SeqTrack], scaling: Any, rate: float) -> None:
    """Encoder a tenth of the rest; decay on everything; both follow the batch (128 where 64 is stated)."""
    net = make_net()
    encoder, rest = AdamWSettings(batch_scaling=scaling).build(net, 128).param_groups
    assert encoder["lr"] == pytest.approx(rate / 10)
    assert rest["lr"] == pytest.approx(rate)
    assert encoder["weight_decay"] == rest["weight_decay"] == 1e-4
    assert len(encoder["params"]) == len(list(net.encoder.parameters()))
    assert len(encoder["params"]) + len(rest["params"]) == len(list(net.parameters()))


def test_wrong_settings() -> None:
    with pytest.raises(ValueError, match=r"optimizer\.lr must be a number >= 0, got -1"):
        AdamWSettings(lr=-1.0)
    with pytest.raises(ValueError, match=r"optimizer\.clip must be a number > 0, got 0"):
        MuonSettings(clip=0.0)


def test_muon_takes_matrices_only(make_net: Callable[..., SeqTrack]) -> None:
    net = make_net(dense=True, past=1)
    parts = split_parameters(net)
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    assert {names[id(p)] for p in parts.packed} == {"encoder.blocks.0.attn.qkv.weight"}
    assert {names[id(p)] for p in parts.decayed} == {
        "encoder.patch_embed.weight",
        "decoder.head.4.weight",
        "dense.weight",
    }
    free = {names[id(p)] for p in parts.free}
    assert {"decoder.embedding.weight", "memory_position", "decoder.past_position", "encoder.norm.weight"} <= free
    assert all(p.ndim == 2 for p in parts.matrices + parts.packed)
    assert len(names) == sum(len(part) for part in (parts.matrices, parts.packed, parts.decayed, parts.free))


def _gradients(parameters: list[torch.nn.Parameter], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def test_equal_to_the_optimizers_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Muon matrices as torch.optim.Muon moves them (bfloat16 inside), the rest as torch.optim.AdamW."""
    monkeypatch.setattr("seqtrack_lit.training.optim._newton_schulz_dtype", lambda device: torch.bfloat16)
    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(shape)) for shape in [(8, 8), (8, 24), (24, 8), (5,)]]
    theirs = copy.deepcopy(ours)
    both = MuonAdamW(
        [
            {"params": ours[:3], "muon": True, "pieces": 1, "momentum": 0.95, "lr": 0.02, "weight_decay": 0.05},
            {"params": ours[3:], "muon": False, "lr": 0.01, "betas": (0.9, 0.98), "weight_decay": 0.1},
        ]
    )
    muon = torch.optim.Muon(theirs[:3], lr=0.02, weight_decay=0.05, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(theirs[3:], lr=0.01, betas=(0.9, 0.98), weight_decay=0.1)
    for step in range(4):
        _gradients(ours, step)
        _gradients(theirs, step)
        both.step()
        muon.step()
        adamw.step()
    for mine, other in zip(ours[:3], theirs[:3], strict=True):
        assert torch.allclose(mine, other, atol=2e-4)  # a step moves entries by about 0.02 * 0.2
    assert torch.allclose(ours[3], theirs[3])


def test_packed_matrices_are_moved_one_by_one() -> None:
    torch.manual_seed(0)
    whole = torch.nn.Parameter(torch.randn(24, 8))
    parts = [torch.nn.Parameter(part.clone()) for part in whole.detach().chunk(3)]
    group = {"muon": True, "momentum": 0.95, "lr": 0.02, "weight_decay": 0.05}
    packed = MuonAdamW([{"params": [whole], "pieces": 3, **group}])
    single = MuonAdamW([{"params": parts, "pieces": 1, **group}])
    _gradients([whole], 1)
    assert whole.grad is not None
    for part, gradient in zip(parts, whole.grad.chunk(3), strict=True):
        part.grad = gradient.clone()
    packed.step()
    single.step()
    assert torch.allclose(whole, torch.cat([part.detach() for part in parts]), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("steps", [5, 3])
def test_orthogonalise(steps: int, dtype: torch.dtype) -> None:
    matrices = torch.randn(3, 16, 40, generator=torch.Generator().manual_seed(0))
    singular = torch.linalg.svdvals(orthogonalise(matrices, steps, dtype))
    assert float(singular.min()) > 0.6
    assert float(singular.max()) < 1.3


@pytest.mark.parametrize("steps", [5, 3])
@pytest.mark.parametrize("shape", [(3, 16, 40), (2, 16, 16)])
def test_orthogonalise_in_float32_is_the_same_polynomial(shape: tuple[int, ...], steps: int) -> None:
    matrices = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    exact = orthogonalise(matrices.double(), steps, torch.float64)
    assert torch.allclose(orthogonalise(matrices, steps, torch.float32).double(), exact, atol=1e-4)
    assert torch.allclose(orthogonalise(matrices, steps).double(), exact, atol=0.05)


def test_three_iterations_reach_as_small_singular_values_as_promised() -> None:
    """From 0.01 on, of a matrix whose norm is 1."""
    basis, _ = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(0)))
    values = torch.logspace(-1.9, 0, 8)
    assert 0.01 < float(values.min() / values.norm()) < 0.011
    singular = torch.linalg.svdvals(orthogonalise((basis * values)[None], 3, torch.float32))
    assert float(singular.min()) > 0.72
    assert float(singular.max()) < 1.28


def test_another_number_of_iterations_is_refused() -> None:
    with pytest.raises(ValueError, match=r"optimizer\.newton_schulz"):
        MuonSettings(newton_schulz=4)


@pytest.mark.parametrize("optim", [AdamWSettings(), MuonSettings()])
def test_resume_is_bitwise(make_net: Callable[..., SeqTrack], optim: Any) -> None:
    """Steps 1-6 at once, or 1-3, saved and loaded, 4-6."""
    straight, parted = make_net(), make_net()
    optimizer = optim.build(straight, 64)
    for step in range(6):
        _gradients(list(straight.parameters()), step)
        optimizer.step()
    first = optim.build(parted, 64)
    for step in range(3):
        _gradients(list(parted.parameters()), step)
        first.step()
    state = copy.deepcopy(first.state_dict())
    second = optim.build(parted, 64)
    second.load_state_dict(state)
    for step in range(3, 6):
        _gradients(list(parted.parameters()), step)
        second.step()
    for mine, other in zip(straight.parameters(), parted.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_parameters_without_gradient_stay(make_net: Callable[..., SeqTrack]) -> None:
    net = make_net()
    before = copy.deepcopy(net.state_dict())
    MuonSettings().build(net, 64).step()
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
