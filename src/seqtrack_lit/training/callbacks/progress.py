"""Progress on the screen: a bar in a terminal, one line per validation everywhere."""

import logging
import math
import sys
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger(__name__)
_STARTING = 20  # steps that do not tell how long the others take: workers and caches start in them
_TOLD = (40, 200)  # steps after which it is said; the second time only if videos were still being made in the first
_SHOWN = ("train/loss", "val/loss", "val/pair_iou", "val/reliance", "val/auc", "val/ao")


class ProgressLines(Callback):
    """How long training will take; a bar of steps in a terminal; a line of numbers after every epoch.

    Args:
        bar: whether to draw the bar; None: where the output is a terminal.
    """

    def __init__(self, *, bar: bool | None = None) -> None:
        self.bar = sys.stdout.isatty() if bar is None else bar
        self._progress: Progress | None = None
        self._since = (0, 0.0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the bar."""
        self._began, self._before = time.perf_counter(), trainer.global_step
        self._since, self._told = (0, self._began), 0.0  # steps done at a time; seconds a step, as said last
        if self.bar and trainer.is_global_zero:
            columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
            self._progress = Progress(*columns, refresh_per_second=2, transient=True)
            self._task = self._progress.add_task("steps", total=_steps(trainer), completed=trainer.global_step)
            self._progress.start()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Move the bar; after the first steps, tell how long all will take."""
        done = trainer.global_step - self._before
        before, then = self._since
        if done in (_STARTING, *_TOLD) and done > before:  # the same again while gradients are summed
            now = time.perf_counter()
            seconds, self._since = (now - then) / (done - before), (done, now)
            left, new = _steps(trainer) - trainer.global_step, not 0.8 < seconds / (self._told or math.inf) < 1.25
            if done in _TOLD and new and left > 0 and trainer.is_global_zero:
                self._told, took = seconds, _clock(seconds * left)
                log.info("about %s for %d more steps of %.2g s, and the validations", took, left, seconds)
        if self._progress is not None:
            self._progress.update(self._task, completed=trainer.global_step)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Steps wait from here on."""
        self._paused = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The time of a validation is no step's."""
        before, then = self._since
        self._since = before, then + time.perf_counter() - self._paused

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line."""
        if not trainer.is_global_zero:
            return
        numbers = trainer.callback_metrics
        shown = "  ".join(
            f"{name.removeprefix('val/')} {float(numbers[name]):.4g}" for name in _SHOWN if name in numbers
        )
        spent = time.perf_counter() - self._began
        steps = trainer.global_step - self._before
        left = spent / max(1, steps) * (_steps(trainer) - trainer.global_step)
        log.info(
            "epoch %d/%d  step %d  %s  %s left", trainer.current_epoch + 1, trainer.max_epochs, trainer.global_step,
            shown, _clock(left),
        )  # fmt: skip

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Take the bar away."""
        self._stop()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the bar away."""
        self._stop()

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def _steps(trainer: Trainer) -> int:
    return int(trainer.estimated_stepping_batches)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
