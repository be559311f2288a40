"""dry_run=true: a few steps and one validation, then what a whole training needs; nothing is kept."""

import logging
import time
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from seqtrack_lit.data.datamodule import TrackingData
from seqtrack_lit.process import peak_memory
from seqtrack_lit.training.callbacks.checkpoint import step_done
from seqtrack_lit.training.callbacks.track_videos import TrackHeldOut
from seqtrack_lit.training.length import TrainingLength
from seqtrack_lit.training.module import SeqTrackModule

log = logging.getLogger(__name__)
STEPS = 4


def dry_run(trainer: Trainer, module: SeqTrackModule, data: TrackingData, tracker: Mapping[str, Any]) -> None:
    """Train some steps, validate on a batch of pairs and one tracked video, print memory, speed and time.

    Raises:
        torch.OutOfMemoryError: it does not fit.
    """
    videos = data.val_sequences()[:1]
    watch = _Watch()
    trainer.callbacks += [TrackHeldOut(lambda: videos, tracker=tracker), watch]  # type: ignore[attr-defined]
    trainer.limit_train_batches = STEPS * module.length.accumulate
    trainer.limit_val_batches = 1
    trainer.fit_loop.max_epochs = 1
    trainer.fit(module, datamodule=data)
    if trainer.is_global_zero:
        tracked = f"1 video of {len(videos[0])} frames" if videos else "no video"
        log.info(
            "length   %s\nfits     %s\n         validation: a batch of pairs and %s in %.1f s",
            module.length, watch.report(module.length), tracked, watch.validation,
        )  # fmt: skip


class _Watch(Callback):
    """Times the steps and the validation."""

    validation = 0.0  # seconds

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Take the time after the first step, which warms up, and after the last."""
        if not step_done(trainer):
            return
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize()
        if trainer.global_step <= 1:
            self._began = time.perf_counter()
        self._seconds, self._steps = time.perf_counter() - self._began, trainer.global_step - 1
        self._device = pl_module.device

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._validated = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop it."""
        self.validation = time.perf_counter() - self._validated

    def report(self, length: TrainingLength) -> str:
        """Peak memory, speed, and how long the training would take without validations."""
        memory = f"peak memory {peak_memory(self._device):.2f} GB"
        if self._device.type == "cuda":
            memory += f" of {torch.cuda.get_device_properties(self._device).total_memory / 1e9:.0f} GB"
        else:
            memory += " (all of this process, without its data workers)"
        if not self._steps:
            return f"{memory}; one step is too little to tell the speed"
        speed = self._steps * length.global_batch / self._seconds
        return f"{memory}, {speed:.1f} samples/s, {length.total / speed / 3600:.1f} h for {length.total:,} samples"
