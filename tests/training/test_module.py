"""The module: losses, logging, averages, guards, and that it learns."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.plugins.precision import MixedPrecision

from seqtrack_lit.models.seqtrack import SeqTrack
from seqtrack_lit.runs.folder import read_rows
from seqtrack_lit.training.callbacks.checkpoint import Checkpoints
from seqtrack_lit.training.callbacks.metrics import FileLogger, LogMetrics, RunLogger, StepTimer
from seqtrack_lit.training.callbacks.sample_pictures import SamplePictures
from seqtrack_lit.training.callbacks.track_videos import TrackHeldOut
from seqtrack_lit.training.length import TrainingLength
from seqtrack_lit.training.module import Ema, NonFiniteError, SeqTrackModule
from seqtrack_lit.training.optim import AdamWSettings, MuonSettings

pytestmark = pytest.mark.filterwarnings("ignore:.*many workers.*", "ignore:.*logging interval.*")
FAST = AdamWSettings(lr=3e-3, encoder_lr=3e-3, clip=1.0)


def trainer(folder: Path, length: TrainingLength, **settings: Any) -> Trainer:
    plain = {
        "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False, "logger": False,
        "num_sanity_val_steps": 0, "log_every_n_steps": 1, "accelerator": "cpu", "devices": 1,
        "max_epochs": length.epochs, "accumulate_grad_batches": length.accumulate, "default_root_dir": folder,
    }  # fmt: skip
    return Trainer(**{**plain, **settings})


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize(
    "settings",
    [{}, {"order": "whcxcy"}, {"order": "xyxy"}, {"bidirectional": True}, {"past": 2}, {"parallel": "refined"}],
    ids=str,
)
def test_steps_of_every_kind_of_model(
    make_net: Callable[..., SeqTrack], squares: Any, settings: dict[str, Any], size: int
) -> None:
    net = make_net(**settings)
    module = SeqTrackModule(net, optim=FAST, length=TrainingLength(8, 8, 4), soft_bins=1.0)
    batch = next(iter(squares(size=size).train_dataloader()))
    batch = batch._replace(past=torch.rand(size, net.past, 4))
    losses = module.losses(net, batch)
    losses["loss"].backward()
    assert net.decoder.embedding.weight.grad is not None
    assert len(losses) == (6 if net.decoder.bidirectional else 7)
    assert float(losses["samples"].mean()) == pytest.approx(float(losses["loss"].detach()))
    assert {f"loss_{name}" for name in ("x1", "x2") if settings.get("order") == "xyxy"} <= losses.keys()
    assert module.predict(batch).boxes.shape == (size, 4)


def test_untrained_loss_is_that_of_ignorance(make_net: Callable[..., SeqTrack], squares: Any) -> None:
    net = make_net(bins=400)
    module = SeqTrackModule(net, optim=FAST, length=TrainingLength(8, 8, 4))
    loss = module.losses(net, next(iter(squares(size=16).train_dataloader())))["loss"]
    assert float(loss.detach()) == pytest.approx(math.log(net.tokenizer.vocab_size), rel=0.03)


def test_learns_and_reports(make_net: Callable[..., SeqTrack], squares: Any, videos: Any, tmp_path: Path) -> None:
    """80 steps on squares: the loss falls, boxes overlap, and every promised number is in metrics.csv."""
    length = TrainingLength(80 * 16, 40 * 16, 16)
    module = SeqTrackModule(
        make_net(dense=True), optim=MuonSettings(lr=3e-3), length=length, dense_weight=1.0, ema_decay=0.9, soft_bins=0.7
    )
    files = FileLogger(tmp_path)
    shown: list[str] = []

    class Kept(RunLogger):
        def numbers(self, values: Any, step: int) -> None:
            raise AssertionError("numbers go through LogMetrics")

        def image(self, name: str, image: Any, step: int) -> None:
            shown.append(f"{name} {image.shape} {step}")

        def table(self, name: str, rows: Any, step: int) -> None:
            shown.append(f"{name} {[row['video'] for row in rows]} {step}")

        def curve(self, name: str, rows: Any, step: int) -> None:
            shown.append(f"{name} {len(rows)} {list(rows[-1])} {step}")

        def histogram(self, name: str, values: Any, step: int) -> None:
            shown.append(f"{name} {len(values)} {step}")

        def summary(self, values: Any) -> None:
            raise AssertionError("the best value comes from Checkpoints")

        def alert(self, title: str, text: str) -> None:
            raise AssertionError(title)

        def clips(self, name: str, files: Any, step: int) -> None:
            shown.append(f"{name} {[caption.split(',')[0] for caption in files]} {step}")
            assert all(file.stat().st_size > 1000 for file in files.values())

    tracking = TrackHeldOut(
        lambda: videos, tracker={"search_factor": 2.0, "template_factor": 1.5}, loggers=[Kept()], clips=1
    )
    callbacks = [
        StepTimer(),
        tracking,
        SamplePictures([Kept()], count=2),
        LogMetrics([files], every=1),
        Checkpoints(tmp_path / "checkpoints"),
    ]
    fit = trainer(tmp_path, length, callbacks=callbacks)
    fit.fit(module, datamodule=squares(batches=40, size=16))
    rows = read_rows(tmp_path / "metrics.csv")
    assert len(rows) == 80
    assert float(rows[-1]["train/loss"]) < 0.75 * float(rows[0]["train/loss"])
    assert float(rows[-1]["val/pair_iou"]) > 35 > float(rows[-1]["val/reliance"])
    numbers = {name for name, value in rows[-1].items() if value}
    assert numbers >= {
        "step", "samples", "epoch", "train/loss", "train/loss_cx", "train/loss_h", "train/loss_end", "train/loss_dense",
        "train/gradient_norm", "train/lr_muon", "train/lr_adamw", "val/loss", "val/pair_iou", "val/pair_iou_other",
        "val/reliance", "val/auc", "val/ao", "time/data", "time/step", "time/samples_per_second", "memory/peak_gb",
        "data/skipped",
    }  # fmt: skip
    assert (rows[-1]["step"], rows[-1]["samples"]) == ("80", "1280")
    assert 0 <= float(rows[-1]["val/auc"]) <= 100
    after = [
        "val/pairs (200, 208, 3) {}", "val/attention (334, 648, 3) {}", "val/videos ['one', 'two'] {}",
        "val/success 21 ['overlap', 'percent'] {}", "val/precision 51 ['pixels', 'percent'] {}",
        "val/confidences 14 {}", "val/clips ['one'] {}",
    ]  # fmt: skip
    assert shown == ["train/samples (200, 208, 3) 0", *[one.format(step) for step in (40, 80) for one in after]]
    saved = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)
    assert saved["ema"].keys() == module.net.state_dict().keys()
    assert {f"net.{name}" for name in saved["ema"]} == saved["state_dict"].keys()
    assert not torch.equal(saved["ema"]["decoder.norm.weight"], saved["state_dict"]["net.decoder.norm.weight"])


def test_losses_and_shares_of_data_sets(make_net: Callable[..., SeqTrack], squares: Any) -> None:
    """Three samples of the first set, one of the third, none of the second: 75, 0 and 25 %."""
    module = SeqTrackModule(make_net(), optim=FAST, length=TrainingLength(8, 8, 4), end_weight=0.5)
    batch = next(iter(squares(size=4).train_dataloader()))._replace(dataset=torch.tensor([0, 2, 0, 0]))
    losses = module.losses(module.net, batch)
    module._add_datasets(batch, losses["samples"])
    assert module.means.take() == {}  # of one set there is nothing to say
    module.datasets = ("a", "b", "c")
    module._add_datasets(batch, losses["samples"])
    module._add_datasets(batch, losses["samples"])
    means = module.means.take()
    assert {name: means[f"data/share_{name}"] for name in "abc"} == {"a": 75, "b": 0, "c": 25}
    assert means["data/loss_a"] == pytest.approx(float(losses["samples"][[0, 2, 3]].mean()))
    alone = module.losses(module.net, batch._replace(**{name: getattr(batch, name)[1:2] for name in batch._fields}))
    assert means["data/loss_c"] == pytest.approx(float(alone["loss"].detach()), rel=1e-5)
    assert "data/loss_b" not in means


def test_overfits_one_batch(make_net: Callable[..., SeqTrack], squares: Any) -> None:
    net = make_net()
    module = SeqTrackModule(net, optim=FAST, length=TrainingLength(8, 8, 4))
    batch = next(iter(squares(size=3).train_dataloader()))
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        loss = module.losses(net, batch)["loss"]
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.05
    assert torch.equal(module.predict(batch).boxes, net.tokenizer.decode(net.tokenizer.encode(batch.box)))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_accumulation_gives_the_same_weights(
    make_net: Callable[..., SeqTrack], squares: Any, tmp_path: Path, accumulate: int
) -> None:
    """4 steps of 8 samples, at once or as two halves of them; dataloader positions must match: same samples."""

    class Halves(type(squares())):  # type: ignore[misc]
        def train_dataloader(self) -> torch.utils.data.DataLoader[Any]:
            batch, step = next(iter(squares(size=8).train_dataloader())), 8 // accumulate
            parts = [type(batch)(*(field[i : i + step] for field in batch)) for i in range(0, 8, step)]
            return torch.utils.data.DataLoader(parts * 4, batch_size=None)

    length = TrainingLength(32, 32, 8, device_batch=8 // accumulate)
    assert length.accumulate == accumulate
    module = SeqTrackModule(make_net(), optim=FAST, length=length, ema_decay=0.5)
    fit = trainer(tmp_path, length, limit_val_batches=0)
    fit.fit(module, datamodule=Halves())
    assert fit.global_step == 4
    reference = SeqTrackModule(make_net(), optim=FAST, length=length, ema_decay=0.5)
    optimizer = FAST.build(reference.net, 8)
    average = Ema(reference.net, 0.5)
    batch = next(iter(squares(size=8).train_dataloader()))
    for step in range(4):
        optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = 3e-3 * 8**-0.5 * (0.1 if step >= 3 else 1)
        reference.losses(reference.net, batch)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(reference.net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.update(reference.net, step + 1)
    for (name, mine), other in zip(module.net.named_parameters(), reference.net.parameters(), strict=True):
        # the softmax does not feel a key's bias: its gradient is rounding noise, which Adam blows up
        assert name.endswith(("key.bias", "qkv.bias")) or torch.allclose(mine, other, atol=1e-5), name
    ours, theirs = module.tracked_net.decoder.head[0].weight, average.net.decoder.head[0].weight
    assert torch.allclose(ours, theirs, atol=1e-5)


def spoil_loss(factor: float) -> Callable[[dict[str, torch.Tensor], int], dict[str, torch.Tensor]]:
    return lambda losses, number: {**losses, "loss": losses["loss"] * (factor if number >= 4 else 1.0)}


def spoil_value(losses: dict[str, torch.Tensor], number: int) -> dict[str, torch.Tensor]:
    """The loss is no number, its gradient alone would be finite."""
    return {**losses, "loss": losses["loss"] + (float("nan") if number >= 4 else 0.0)}


def spoil_dense(losses: dict[str, torch.Tensor], number: int) -> dict[str, torch.Tensor]:
    """Only the dense part is no number."""
    return {**losses, "loss": losses["loss"] + losses["loss_dense"] * (float("inf") if number >= 4 else 1.0)}


def spoil_gradient(losses: dict[str, torch.Tensor], number: int) -> dict[str, torch.Tensor]:
    """A finite loss whose gradient overflows: d sqrt(x) / dx at 0."""
    loss = losses["loss"]
    return {**losses, "loss": loss + ((loss - loss.detach()).sqrt() if number >= 4 else 0.0)}


def spoil_first_part(losses: dict[str, torch.Tensor], number: int) -> dict[str, torch.Tensor]:
    """Of each two accumulated batches only the first is bad."""
    return {**losses, "loss": losses["loss"] * (float("nan") if number >= 4 and number % 2 == 0 else 1.0)}


GUARDED = {
    # what goes wrong from the third step on, batches in a step, precision -> samples kept
    "loss NaN": (spoil_loss(float("nan")), 2, "32-true", 4),
    "loss inf": (spoil_loss(float("inf")), 2, "32-true", 4),
    "loss NaN in bf16": (spoil_loss(float("nan")), 2, "bf16-mixed", 4),
    "value only": (spoil_value, 2, "32-true", 4),
    "dense loss only": (spoil_dense, 2, "32-true", 4),
    "gradient only": (spoil_gradient, 2, "32-true", 4),
    "first part of the step only": (spoil_first_part, 2, "32-true", 2),
}


@pytest.mark.parametrize("name", GUARDED)
def test_guard_stops_and_keeps_the_batch(
    make_net: Callable[..., SeqTrack], squares: Any, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """From step 2 on the gradient is no number: these steps are left out, the third in a row stops training."""
    spoil, accumulate, precision, kept_samples = GUARDED[name]
    length = TrainingLength(40, 40, 4, device_batch=4 // accumulate)
    module = SeqTrackModule(make_net(dense=True), optim=FAST, length=length, dense_weight=1.0, nonfinite_limit=3)
    losses, weights = module.losses, []

    def broken(net: SeqTrack, batch: Any, *_: Any) -> Any:
        weights.append(net.decoder.head[0].weight.detach().clone())
        return spoil(losses(net, batch), len(weights) - 1)

    module.losses = broken  # type: ignore[method-assign]
    alerts: list[str] = []

    class Alerted(FileLogger):
        def alert(self, title: str, text: str) -> None:
            alerts.append(f"{title}: {text}")

    callbacks = [LogMetrics([Alerted(tmp_path)])]
    fit = trainer(tmp_path, length, limit_val_batches=0, precision=precision, callbacks=callbacks)
    with pytest.raises(NonFiniteError, match=r"3 steps in a row, last in step 4; .*nonfinite_batch_rank0.pt"):
        fit.fit(module, datamodule=squares(batches=20, size=length.batch))
    assert len(weights) == 10
    assert not torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[2], weights[4])
    assert torch.equal(weights[4], weights[9])
    kept = torch.load(tmp_path / "nonfinite_batch_rank0.pt", weights_only=True)
    assert kept["search"].shape == (kept_samples, 3, 16, 16)
    assert kept["key"][0].tolist() == [0, 8, 0]  # the ninth batch is the first of the fifth step
    assert len(kept["loss"]) == kept_samples // 2
    told = [record.message for record in caplog.records if record.name == "seqtrack_lit.training.module"]
    assert [text.partition(":")[0][-6:] for text in told] == ["step 2", "step 3"]
    assert alerts == [
        f"loss or gradient is not finite: left out {count} step(s) in a row, last step {step}"
        for count, step in ((1, 2), (2, 3))
    ]


def test_average(make_net: Callable[..., SeqTrack]) -> None:
    """Weight of step n: max(1 - decay, 1 / (n + 1)): 1/2, 1/3, then 0.4 with decay 0.6."""
    net = make_net()
    average = Ema(net, 0.6)
    assert not any(parameter.requires_grad for parameter in average.net.parameters())
    start = net.linear.bias[0].item()
    expected = start
    for step, weight in [(1, 0.5), (2, 0.4), (3, 0.4)]:
        with torch.no_grad():
            net.linear.bias += 1.0
        expected += weight * (start + step - expected)
        average.update(net, step)
    assert average.net.linear.bias[0].item() == pytest.approx(expected)
    assert average.net.linear.bias.data_ptr() != net.linear.bias.data_ptr()


def test_wrong_settings(make_net: Callable[..., SeqTrack]) -> None:
    for settings, text in [
        ({"end_weight": -1.0}, r"train\.end_weight must be a number >= 0, got -1"),
        ({"ema_decay": 1.5}, r"train\.ema_decay must be a number >= 0 and <= 1"),
        ({"dense_weight": 3.0}, r"train\.dense_weight = 3\.0 needs model\.dense_head=true"),
        ({"nonfinite_limit": 0}, r"train\.nonfinite_limit"),
    ]:
        with pytest.raises(ValueError, match=text):
            SeqTrackModule(make_net(), optim=FAST, length=TrainingLength(8, 8, 4), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("optim", [FAST, MuonSettings(lr=3e-3)], ids=["adamw", "muon"])
def test_mixed_precision_keeps_float32_weights(
    make_net: Callable[..., SeqTrack], squares: Any, tmp_path: Path, optim: Any
) -> None:
    """bf16, and fp16 with its scale: steps as in fp32, up to the precision."""
    length = TrainingLength(12, 12, 4)

    def after(precision: Any) -> torch.Tensor:
        net = make_net()
        plugins = [precision] if precision is not None else []
        fit = trainer(tmp_path, length, plugins=plugins, limit_val_batches=0)
        fit.fit(SeqTrackModule(net, optim=optim, length=length), datamodule=squares(batches=3))
        assert net.linear.weight.dtype == torch.float32
        return net.decoder.head[0].weight.detach()

    exact, start = after(None), make_net().decoder.head[0].weight.detach()
    for precision in (
        MixedPrecision("bf16-mixed", "cpu"), MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu")),
    ):  # fmt: skip
        found = after(precision)
        assert (found - exact).norm() < 0.5 * (exact - start).norm()


@pytest.mark.filterwarnings("ignore:Detected call of .lr_scheduler.step")
def test_an_overflow_of_fp16_lowers_the_scale_and_stops_nothing(
    make_net: Callable[..., SeqTrack], squares: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """2^36 overflows in the first steps; a loss that stays infinite stops training once the scale is down at 1."""
    length = TrainingLength(40 * 4, 40 * 4, 4)

    def fit(spoiled: bool) -> tuple[SeqTrackModule, torch.amp.GradScaler]:
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**36 if not spoiled else 16.0, growth_interval=1000)
        module = SeqTrackModule(make_net(), optim=FAST, length=length, nonfinite_limit=2)
        losses = module.losses
        if spoiled:
            module.losses = lambda net, batch, *_: spoil_loss(float("inf"))(losses(net, batch), 9)  # type: ignore[method-assign]
        plugin = MixedPrecision("16-mixed", "cpu", scaler)
        trainer(tmp_path, length, plugins=[plugin], limit_val_batches=0).fit(module, datamodule=squares(batches=40))
        return module, scaler

    start = make_net().decoder.head[0].weight.detach()
    module, scaler = fit(spoiled=False)
    assert not torch.equal(module.net.decoder.head[0].weight, start)
    assert 1 <= scaler.get_scale() < 2.0**36
    assert not [record for record in caplog.records if record.name == "seqtrack_lit.training.module"]
    with pytest.raises(NonFiniteError, match=r"2 steps in a row, last in step 5;"):
        fit(spoiled=True)


@pytest.mark.parametrize(("tracked", "steps"), [(True, {1}), (False, {2})])
def test_best_checkpoint(
    make_net: Callable[..., SeqTrack], squares: Any, videos: Any, tmp_path: Path, tracked: bool, steps: set[int]
) -> None:
    """By tracking: the larger AUC, here made up as 50 then 40; without videos to track: the last one."""
    length = TrainingLength(8, 4, 4)
    tracking = TrackHeldOut(lambda: videos[:1] if tracked else [], tracker={})

    class Falling(Callback):
        def on_validation_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
            if tracked:
                pl_module.log("val/auc", 50.0 - 10 * trainer.current_epoch)

    module = SeqTrackModule(make_net(), optim=FAST, length=length)
    callbacks = [Falling() if tracked else tracking, Checkpoints(tmp_path)]
    trainer(tmp_path, length, callbacks=callbacks).fit(module, datamodule=squares(batches=1))
    best, last = (torch.load(tmp_path / name, weights_only=True) for name in ("best.ckpt", "last.ckpt"))
    assert {best["global_step"]} == steps
    assert last["global_step"] == 2
    assert (tmp_path / "previous.ckpt").exists() == tracked
    assert not list(tmp_path.glob("part*"))


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_compiled_blocks_compute_the_same(make_net, squares):
    """Losses and gradients of fused blocks, rounding apart; a compiler must be there."""
    batch = next(iter(squares(size=4).train_dataloader()))
    found = []
    for compiled in (False, True):
        net = make_net(bins=64)
        module = SeqTrackModule(net, optim=AdamWSettings(), length=TrainingLength(8, 8, 8), compile=compiled)
        losses = module.losses(net, batch)
        losses["loss"].backward()
        found.append((losses["loss"].detach(), net.encoder.patch_embed.weight.grad, net.state_dict().keys()))
    assert found[0][2] == found[1][2]  # checkpoints of both are the same
    torch.testing.assert_close(found[0][:2], found[1][:2], rtol=1e-4, atol=1e-5)
