"""Checkpoints that can be trusted, exact resume, and a clean stop.

A run can be stopped at any moment and continued to bitwise the same weights and metrics (on a CPU): the order of
samples is a function of (seed, epoch, position), the loader counts what it gave (data module), Lightning stores
weights, optimizer and counters, and `RandomState` the generators of torch, numpy and Python.
"""

import logging
import os
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from seqtrack_lit.checks import shown, whole

log = logging.getLogger(__name__)
LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"
MONITOR = "val/auc"  # best.ckpt has the largest value of it, or is the last one where it was never logged


class Checkpoints(Callback):
    """Writes `last.ckpt` (the one before stays as `previous.ckpt`) and `best.ckpt`, each whole or not at all.

    Saved every so many steps, after every validation that gave the monitored metric, and at the end. Until this process
    has seen that metric, also one step before each validation: whatever may be wrong there costs a step, not hours.

    Args:
        folder: where to.
        every_steps: optimizer steps between two saves; 0: none.
        report: called in the first process with the best value so far, where training goes on and whenever it rises.
    """

    def __init__(
        self,
        folder: Path,
        *,
        every_steps: int = 1000,
        report: Callable[[float], None] | None = None,
    ) -> None:
        whole("callbacks", 0, checkpoint_steps=every_steps)
        self.folder, self.every_steps = folder, every_steps
        self.report = report
        self.best: float | None = None
        self._proven = False  # whether a validation of this process gave the metric
        self._fresh = False  # whether this epoch has metrics
        self._saved = 0  # step of the last save

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count steps from where training begins or goes on."""
        self._saved = trainer.global_step
        self._report(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember that this epoch has fresh metrics."""
        self._fresh = True

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Save inside an epoch."""
        if between_steps(trainer) and (self._due(trainer) or (not self._proven and _one_step_left(trainer))):
            self.save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after the validation."""
        value = trainer.callback_metrics.get(MONITOR) if self._fresh else None
        self._fresh, self._proven = False, self._proven or value is not None
        best = value is not None and bool(value.isfinite()) and (self.best is None or float(value) > self.best)
        if best:
            self.best = float(value)  # type: ignore[arg-type]
            self._report(trainer)
        end = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        if value is not None or end or self._due(trainer):
            self.save(trainer, best=best or (end and self.best is None))

    def _report(self, trainer: Trainer) -> None:
        if self.report is not None and self.best is not None and trainer.is_global_zero:
            self.report(self.best)

    def _due(self, trainer: Trainer) -> bool:
        """Whether a multiple of `every_steps` was reached since the last save."""
        every = self.every_steps
        return bool(every) and trainer.global_step // every > self._saved // every

    def save(self, trainer: Trainer, *, best: bool = False) -> None:
        """Write `last.ckpt`, and `best.ckpt` where asked for; all processes must call it."""
        part = self.folder / "part.ckpt"
        if trainer.is_global_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
        trainer.save_checkpoint(part)
        if trainer.is_global_zero:
            with part.open("rb") as file:
                os.fsync(file.fileno())
            if best:
                shutil.copyfile(part, self.folder / "part_best.ckpt")
                (self.folder / "part_best.ckpt").replace(self.folder / BEST)
            if (self.folder / LAST).exists():
                (self.folder / LAST).replace(self.folder / PREVIOUS)
            part.replace(self.folder / LAST)
        self._saved = trainer.global_step
        trainer.strategy.barrier("checkpoint")

    def save_once(self, trainer: Trainer) -> None:
        """Write `last.ckpt` unless that of this very step is there."""
        if self._saved != trainer.global_step:
            self.save(trainer)

    def state_dict(self) -> dict[str, Any]:
        """The best value so far."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the best value so far."""
        self.best = state_dict["best"]


class RandomState(Callback):
    """Keeps the random generators of every process in the checkpoint; sets them before the first batch after it."""

    def __init__(self) -> None:
        self._stored: list[dict[str, Any]] | None = None

    def state_dict(self) -> dict[str, Any]:
        """States of all processes, in the order of their ranks; plain containers and tensors."""
        mine = _random_state()
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return {"ranks": [mine]}
        ranks: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(ranks, mine)
        return {"ranks": ranks}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the states; they are set when training goes on."""
        self._stored = state_dict["ranks"]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Set the states once, after everything else that may draw numbers."""
        stored, self._stored = self._stored, None
        if stored is None:
            return
        if len(stored) == trainer.world_size:
            _set_random_state(stored[trainer.global_rank])
        elif trainer.is_global_zero:
            log.warning(
                "the checkpoint was written by %d processes and is continued by %d: random numbers differ from an "
                "uninterrupted run", len(stored), trainer.world_size,
            )  # fmt: skip


def _random_state() -> dict[str, Any]:
    # this project passes generators around; libraries may still draw from the global ones
    numpy_state: Any = np.random.get_state()  # noqa: NPY002
    name, keys, *rest = numpy_state
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [str(name), torch.from_numpy(keys.astype(np.int64)), *rest],
        "python": random.getstate(),
    }


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"].cpu())
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), *rest))  # noqa: NPY002
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))


def resumable(folder: Path) -> tuple[Path | None, str]:
    """The newest whole checkpoint of a run, `last.ckpt` or the one before; None in a fresh folder.

    With it comes what was passed over and why, empty where nothing was.

    Raises:
        ValueError: there are checkpoints, and none can be read; or the newest has weights that are not finite.
    """
    found = [path for path in (folder / LAST, folder / PREVIOUS) if path.exists()]
    passed_over: list[str] = []
    for path in found:
        reason = _damage(path)
        if reason is None:
            _refuse_nonfinite(path)
            return path, "; ".join(passed_over)
        passed_over.append(f"{path.name} is damaged ({reason})")
    if found:
        raise ValueError(
            f"no checkpoint in {folder} can be read ({'; '.join(passed_over)}); begin anew with overwrite=true, or "
            f"under another name with init_from={folder / BEST} if that one can be"
        )
    return None, ""


def remove_parts(folder: Path) -> None:
    """Delete what a killed training left half-written in its folder."""
    for pattern in ("*.part", "checkpoints/part*.ckpt"):
        for path in folder.glob(pattern):
            path.unlink()


def steps_of(checkpoint: Path) -> int:
    """Optimizer steps done when a checkpoint was written."""
    return int(torch.load(checkpoint, weights_only=True, map_location="cpu", mmap=True)["global_step"])


def _damage(path: Path) -> str | None:
    """What is wrong with a checkpoint file; None when it is whole: check sums are right, and PyTorch reads it."""
    try:
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                return "compressed, as torch.save writes none"  # a few bytes may unfold to gigabytes
            broken = archive.testzip()
        saved = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
        if not isinstance(saved, dict) or type(saved.get("global_step")) is not int:
            return "not of a training"
        parts = [saved.get("state_dict"), saved.get("ema") or {}]
        if not all(isinstance(part, dict) and all(map(torch.is_tensor, part.values())) for part in parts):
            return "its weights are no tensors"
    except Exception as error:  # a wrong byte in a directory of names and lengths can become any error
        return f"{' '.join(str(error).split())[:100]}; {path.stat().st_size} bytes"
    return None if broken is None else f"wrong check sum in {shown(broken)}"


def _refuse_nonfinite(path: Path) -> None:
    saved = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    for part in ("state_dict", "ema"):
        for name, value in (saved.get(part) or {}).items():
            if value.is_floating_point() and not bool(value.isfinite().all()):
                raise ValueError(
                    f"{path}: {name} holds NaN or Inf, so training cannot go on from it; begin anew with lower "
                    "learning rates (optimizer.lr ...), train.precision=fp32, or init_from= an earlier checkpoint"
                )


def step_done(trainer: Trainer) -> bool:
    """In `on_train_batch_end`: whether this batch completed an optimizer step."""
    return trainer.fit_loop.epoch_loop.batch_progress.current.ready % trainer.accumulate_grad_batches == 0


def between_steps(trainer: Trainer) -> bool:
    """In `on_train_batch_end`: an optimizer step is complete and the epoch goes on, so a checkpoint is exact."""
    return step_done(trainer) and not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch


def _one_step_left(trainer: Trainer) -> bool:
    """In `on_train_batch_end`, between steps: whether the next step is the epoch's last."""
    given = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    return given + trainer.accumulate_grad_batches >= trainer.num_training_batches
