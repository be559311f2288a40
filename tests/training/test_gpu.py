"""Training on one CUDA device beside the same training on a CPU; runs unattended (`make test-gpu`)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from seqtrack_lit.models.seqtrack import SeqTrack
from seqtrack_lit.training.length import TrainingLength
from seqtrack_lit.training.module import SeqTrackModule
from seqtrack_lit.training.optim import AdamWSettings, MuonSettings
from seqtrack_lit.training.precision import choose_precision, tf32

# a new driver's or library's advice must not stop the only check that runs on a GPU
pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]
PLAIN: dict[str, Any] = {
    "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False, "logger": False,
    "num_sanity_val_steps": 0, "devices": 1, "accelerator": "gpu",
}  # fmt: skip


def gradients(net: SeqTrack, batch: Any) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Losses of a batch and the gradient, back on the CPU."""
    module = SeqTrackModule(net, optim=AdamWSettings(), length=TrainingLength(8, 8, 8), dense_weight=1.0, soft_bins=1.0)
    losses = module.losses(net, batch)
    losses["loss"].backward()
    found = {name: parameter.grad.cpu() for name, parameter in net.named_parameters() if parameter.grad is not None}
    return {name: loss.detach().cpu() for name, loss in losses.items()}, found


def test_losses_and_gradients_are_those_of_a_cpu(make_net: Callable[..., SeqTrack], squares: Any) -> None:
    """fp32 without TF32: rounding apart, every loss and the gradient of every weight."""
    batch = next(iter(squares(size=8).train_dataloader()))
    losses, wanted = gradients(make_net(dense=True, bins=64), batch)
    with tf32(False):
        found, gradient = gradients(make_net(dense=True, bins=64).cuda(), type(batch)(*(one.cuda() for one in batch)))
    for name, loss in losses.items():
        torch.testing.assert_close(found[name], loss, rtol=1e-4, atol=1e-5)
    assert gradient.keys() == wanted.keys()
    for name, one in wanted.items():
        torch.testing.assert_close(gradient[name], one, rtol=1e-3, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}")


def test_tf32_rounds_products_only_where_allowed() -> None:
    """1 + 2^-12 has 12 bits behind the point; TF32 keeps 10 and makes it 1."""
    a = torch.full((256, 256), 1 + 2**-12, device="cuda")
    ones = torch.eye(256, device="cuda")
    with tf32(False):
        assert torch.equal(a @ ones, a)
    if torch.cuda.get_device_capability() < (8, 0):
        return
    with tf32(True):
        assert torch.equal(a @ ones, torch.ones_like(a))


def test_auto_is_what_the_gpu_computes_in() -> None:
    capability = torch.cuda.get_device_capability()
    wanted = "bf16" if capability >= (8, 0) else "fp16" if capability >= (7, 0) else "fp32"
    assert choose_precision("auto", gpu=True)[0] == wanted


class Memory(Callback):
    """Allocated bytes after each step."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.seen.append(torch.cuda.memory_allocated())


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_learns_without_growing(
    make_net: Callable[..., SeqTrack], squares: Any, tmp_path: Path, precision: Any
) -> None:
    """200 steps with averaged weights: the loss falls, and memory after the last step is that after the tenth."""
    length = TrainingLength(200 * 16, 200 * 16, 16)
    net = make_net(dense=True)
    module = SeqTrackModule(net, optim=MuonSettings(lr=3e-3), length=length, dense_weight=1.0, ema_decay=0.9)
    losses, memory = [], Memory()
    kept = module.losses

    def watched(net: SeqTrack, batch: Any) -> Any:
        found = kept(net, batch)
        losses.append(found["loss"].detach())
        return found

    module.losses = watched  # type: ignore[method-assign]
    trainer = Trainer(
        **PLAIN, precision=precision, max_epochs=1, callbacks=[memory], default_root_dir=tmp_path, limit_val_batches=0
    )
    trainer.fit(module, datamodule=squares(batches=200, size=16))
    values = torch.stack(losses).cpu()
    assert bool(values.isfinite().all())
    assert float(values[-20:].mean()) < 0.8 * float(values[:20].mean())
    assert memory.seen[-1] <= memory.seen[10] + 200 * 1024  # the list of losses here: 512 bytes a step at most
    assert all(parameter.dtype == torch.float32 for parameter in net.parameters())
