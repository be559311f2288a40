"""A run that was stopped and continued ends bitwise like one that was not: weights, averages, optimizer, metrics."""

import io
import os
import random
import signal
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer

from seqtrack_lit.models.seqtrack import SeqTrack
from seqtrack_lit.runs.folder import read_rows
from seqtrack_lit.training.callbacks.checkpoint import (
    LAST,
    PREVIOUS,
    Checkpoints,
    RandomState,
    remove_parts,
    resumable,
)
from seqtrack_lit.training.callbacks.metrics import FileLogger, LogMetrics, StepTimer
from seqtrack_lit.training.callbacks.stop import StopCleanly, StoppedError
from seqtrack_lit.training.callbacks.track_videos import TrackHeldOut
from seqtrack_lit.training.length import TrainingLength
from seqtrack_lit.training.module import SeqTrackModule
from seqtrack_lit.training.optim import MuonSettings

pytestmark = pytest.mark.filterwarnings("ignore:.*many workers.*", "ignore:.*logging interval.*")
BATCHES = 6


class PowerCutError(Exception):
    """The machine goes down: nothing is saved."""


class At(Callback):
    """Does something at the end of a step, or in the validation after an epoch."""

    def __init__(self, act: Callable[[], None], *, step: int = -1, validation: int = 0) -> None:
        self.act, self.step, self.validation = act, step, validation

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            self.step = -1
            self.act()

    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.current_epoch + 1 == self.validation:
            self.validation = 0
            self.act()


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def cut_power() -> None:
    raise PowerCutError


class Experiment:
    """Builds the same run as often as it is asked to; every step draws from torch, numpy and Python."""

    def __init__(self, make_net: Any, squares: Any, videos: Any, *, workers: int, accumulate: int) -> None:
        self.make_net, self.squares, self.videos = make_net, squares, videos
        self.workers, self.accumulate = workers, accumulate

    def run(self, folder: Path, *extra: Callback, resume: bool = False, every: int = 2) -> SeqTrackModule:
        torch.manual_seed(1)
        np.random.seed(1)  # noqa: NPY002
        random.seed(1)
        length = TrainingLength(18 * 4, BATCHES * 4, 4, device_batch=4 // self.accumulate)
        net = self.make_net(dropout=0.1)
        torch.manual_seed(2)
        module = SeqTrackModule(net, optim=MuonSettings(), length=length, ema_decay=0.9)
        losses = module.losses

        def noisy(net: SeqTrack, batch: Any, *features: Any) -> Any:
            noise = random.random() + float(np.random.random())  # noqa: NPY002
            return {name: value * (1 + 0.01 * noise) for name, value in losses(net, batch, *features).items()}

        module.losses = noisy  # type: ignore[method-assign]
        files = FileLogger(folder)
        checkpoints = Checkpoints(folder, every_steps=every)
        tracking = TrackHeldOut(lambda: self.videos[:1], tracker={"search_factor": 2.0, "template_factor": 1.5})
        callbacks = [
            StepTimer(),
            tracking,
            LogMetrics([files], every=1),
            *extra,
            RandomState(),
            checkpoints,
            StopCleanly(checkpoints),
        ]
        trainer = Trainer(
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
            log_every_n_steps=1, accelerator="cpu", devices=1, max_epochs=length.epochs, default_root_dir=folder,
            accumulate_grad_batches=self.accumulate, logger=False, callbacks=callbacks, use_distributed_sampler=False,
        )  # fmt: skip
        path = resumable(folder)[0] if resume else None
        assert resume == (path is not None)
        if path is not None:
            files.metrics.cut(torch.load(path, weights_only=True)["global_step"])
        data = self.squares(batches=BATCHES * self.accumulate, size=length.batch, workers=self.workers)
        trainer.fit(module, datamodule=data, ckpt_path=path, weights_only=True)
        assert trainer.global_step == 18
        return module


def assert_same_tree(a: Any, b: Any, where: str) -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same_tree(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same_tree(x, y, f"{where}[{i}]")
    else:
        assert a == b, where


def assert_same_run(first: Path, second: Path) -> None:
    one, two = (torch.load(folder / LAST, weights_only=True) for folder in (first, second))
    for part in ("state_dict", "ema", "optimizer_states", "lr_schedulers", "callbacks", "global_step", "epoch"):
        assert_same_tree(one[part], two[part], part)
    rows = [
        [
            {k: v for k, v in row.items() if not k.startswith(("time/", "memory/"))}
            for row in read_rows(f / "metrics.csv")
        ]
        for f in (first, second)
    ]
    assert rows[0] == rows[1]
    assert [row["step"] for row in rows[0]] == [str(i) for i in range(1, 19)]
    assert sum(bool(row["val/auc"]) for row in rows[0]) == 3


STOPS = {
    "asked in the middle of an epoch": (At(terminate, step=8), StoppedError),
    "asked in an epoch's last step": (At(terminate, step=6), StoppedError),
    "asked in the first step": (At(terminate, step=1), StoppedError),
    "asked in a validation": (At(terminate, validation=2), StoppedError),
    "power cut between checkpoints": (At(cut_power, step=11), PowerCutError),
    "power cut after an epoch's last step": (At(cut_power, step=12), PowerCutError),
    "power cut in a validation": (At(cut_power, validation=2), PowerCutError),
    "an error in the very first validation": (At(cut_power, validation=1), PowerCutError),
}


@pytest.mark.parametrize(("workers", "accumulate"), [pytest.param(0, 1, marks=pytest.mark.slow), (2, 1), (0, 2)])
def test_stopped_and_continued(
    make_net: Any, squares: Any, videos: Any, tmp_path: Path, workers: int, accumulate: int
) -> None:
    experiment = Experiment(make_net, squares, videos, workers=workers, accumulate=accumulate)
    experiment.run(tmp_path / "whole")
    chosen = STOPS if (workers, accumulate) == (0, 1) else dict(list(STOPS.items())[:2])
    for number, (name, (stop, error)) in enumerate(chosen.items()):
        folder = tmp_path / str(number)
        again = At(stop.act, step=stop.step, validation=stop.validation)
        with pytest.raises(error):
            experiment.run(folder, again)
        experiment.run(folder, resume=True)
        print(name)
        assert_same_run(tmp_path / "whole", folder)


def test_a_checkpoint_is_there_before_the_first_validation(
    make_net: Any, squares: Any, videos: Any, tmp_path: Path
) -> None:
    """Five of the six steps are kept though nothing else asks for a checkpoint; and only once a process."""
    experiment = Experiment(make_net, squares, videos, workers=0, accumulate=2)
    with pytest.raises(PowerCutError):
        experiment.run(tmp_path, At(cut_power, validation=1), every=0)
    assert torch.load(tmp_path / LAST, weights_only=True)["global_step"] == 5
    with pytest.raises(PowerCutError):
        experiment.run(tmp_path, At(cut_power, validation=3), resume=True, every=0)
    assert torch.load(tmp_path / LAST, weights_only=True)["global_step"] == 12


def test_checkpoints_are_written_when_due(make_net: Any, squares: Any, tmp_path: Path) -> None:
    """Every 8 steps, also where that is an epoch's last; at the end; before validations until one has the metric."""
    steps = []

    class Writes(Checkpoints):
        def save(self, trainer: Trainer, *, best: bool = False) -> None:
            steps.append((trainer.global_step, best))
            super().save(trainer, best=best)

    length = TrainingLength(20 * 4, 4 * 4, 4)
    settings: Any = {
        "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False, "logger": False,
        "num_sanity_val_steps": 0, "accelerator": "cpu", "devices": 1, "default_root_dir": tmp_path,
    }  # fmt: skip

    class Third(Callback):
        def on_validation_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
            trainer.callback_metrics.pop("val/auc", None)
            if trainer.current_epoch == 2:
                pl_module.log("val/auc", 50.0)

    trainer = Trainer(max_epochs=length.epochs, callbacks=[Third(), Writes(tmp_path, every_steps=8)], **settings)
    module = SeqTrackModule(make_net(), optim=MuonSettings(), length=length)
    trainer.fit(module, datamodule=squares(batches=4, size=4))
    assert steps == [(3, False), (7, False), (8, False), (11, False), (12, True), (16, False), (20, False)]


def test_stopped_twice(make_net: Any, squares: Any, videos: Any, tmp_path: Path) -> None:
    experiment = Experiment(make_net, squares, videos, workers=0, accumulate=1)
    experiment.run(tmp_path / "whole")
    with pytest.raises(PowerCutError):
        experiment.run(tmp_path / "parts", At(cut_power, step=5))
    with pytest.raises(StoppedError):
        experiment.run(tmp_path / "parts", At(terminate, step=9), resume=True)
    experiment.run(tmp_path / "parts", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_signals_are_given_back(make_net: Any, squares: Any, videos: Any, tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(StoppedError) as stop:
        Experiment(make_net, squares, videos, workers=0, accumulate=1).run(tmp_path, At(terminate, step=2))
    assert stop.value.number == signal.SIGTERM
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def _zipped(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", data)
    return file.getvalue()


def _saved(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def test_checkpoints_are_whole_or_passed_over(make_net: Any, squares: Any, videos: Any, tmp_path: Path) -> None:
    """A torn last.ckpt: the one before, and why; both torn: an error; none: a fresh start."""
    assert resumable(tmp_path) == (None, "")
    Experiment(make_net, squares, videos, workers=0, accumulate=1).run(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.ckpt")) == ["best.ckpt", "last.ckpt", "previous.ckpt"]
    for name in ("best.ckpt", LAST, PREVIOUS):
        assert "seqtrack" in torch.load(tmp_path / name, weights_only=True)
    assert resumable(tmp_path) == (tmp_path / LAST, "")
    whole = (tmp_path / LAST).read_bytes()
    entry = whole.rindex(b"PK\x01\x02")  # of the directory at the end; 10 bytes on: compression, 46: the name
    torn = {
        "half": whole[: len(whole) // 2], "hole": whole[:3000] + bytes(500) + whole[3500:], "empty": b"",
        "noise": random.Random(0).randbytes(5000), "compression": whole[: entry + 10] + b"\x63" + whole[entry + 11 :],
        "unfolding": _zipped(bytes(10_000_000)), "no training": _saved([1]), "no weights": _saved({"global_step": 1}),
        "weights of text": _saved({"global_step": 1, "state_dict": {"a": "b"}}),
        "name": whole[: entry + 46] + b"\xff\x90" + whole[entry + 48 :],
    }  # fmt: skip
    for content in torn.values():
        (tmp_path / LAST).write_bytes(content)
        path, passed_over = resumable(tmp_path)
        assert path == tmp_path / PREVIOUS
        assert passed_over.startswith("last.ckpt is damaged (")
    (tmp_path / PREVIOUS).write_bytes(b"")
    with pytest.raises(ValueError, match=r"no checkpoint in .* \(last.* previous.*\); .* init_from=.*best\.ckpt"):
        resumable(tmp_path)


@pytest.mark.parametrize(("part", "value"), [("state_dict", float("nan")), ("ema", float("inf"))])
def test_weights_that_are_not_finite_are_refused(
    make_net: Any, squares: Any, videos: Any, tmp_path: Path, part: str, value: float
) -> None:
    Experiment(make_net, squares, videos, workers=0, accumulate=1).run(tmp_path)
    saved = torch.load(tmp_path / LAST, weights_only=True)
    name = next(name for name in saved[part] if name.endswith("decoder.norm.weight"))
    saved[part][name][3] = value
    torch.save(saved, tmp_path / LAST)
    with pytest.raises(ValueError, match=rf"last\.ckpt: {name} holds NaN or Inf"):
        resumable(tmp_path)


def test_a_full_disk_leaves_the_last_checkpoint(
    make_net: Any, squares: Any, videos: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, written = Trainer.save_checkpoint, []

    def fills_up(trainer: Trainer, path: Any, **settings: Any) -> None:
        written.append(path)
        if len(written) == 3:
            Path(path).write_bytes(b"half a checkpo")
            raise OSError(28, "No space left on device", str(path))
        save(trainer, path, **settings)

    monkeypatch.setattr(Trainer, "save_checkpoint", fills_up)
    with pytest.raises(OSError, match="No space left"):
        Experiment(make_net, squares, videos, workers=0, accumulate=1).run(tmp_path)
    path, passed_over = resumable(tmp_path)
    assert path == tmp_path / LAST
    assert not passed_over
    assert torch.load(path, weights_only=True)["global_step"] == 4
    remove_parts(tmp_path.parent)
    assert (tmp_path / "part.ckpt").exists()
    (tmp_path / "metrics.part").touch()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "part.ckpt").rename(tmp_path / "checkpoints/part.ckpt")
    remove_parts(tmp_path)
    assert not list(tmp_path.rglob("*part*"))
