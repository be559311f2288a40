"""A clean stop on signals: save, then end."""

import os
import signal
import threading
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from seqtrack_lit.training.callbacks.checkpoint import Checkpoints, between_steps

_CLUSTER = tuple(getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name))  # not on Windows
LAUNCHER = "SEQTRACK_LAUNCHER"  # set for a job of a sweep: process number of the launcher, its parent


class StoppedError(Exception):
    """Training was asked to stop, and did after saving."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number

    def hand_on(self) -> None:
        """Pass a cluster's signal on to who handled it before training: submitit puts the job into the queue again."""
        if self.number in _CLUSTER and callable(signal.getsignal(self.number)):
            signal.raise_signal(self.number)


class StopCleanly(Callback):
    """A signal ends training after the present step (in a validation: after it), with a checkpoint.

    SIGINT and SIGTERM, and SIGUSR1 and SIGUSR2, which Slurm is told to send before a job's time is up. The same signal
    once more interrupts at once; what was done since the last checkpoint is then done again on resume.
    A job of a sweep also stops when its launcher is gone, whatever ended that one.
    Must stand behind `Checkpoints`. `asked` is the signal that came, or None.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        self.checkpoints = checkpoints
        self.asked: int | None = None
        self._former: dict[int, Any] = {}
        self._parent = os.getppid() if os.environ.get(LAUNCHER) == str(os.getppid()) else None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Remember who handled the signals before."""
        if threading.current_thread() is threading.main_thread():
            found = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, *_CLUSTER)}
            self._former = {number: handler for number, handler in found.items() if handler is not None}  # None: in C

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the signals, after Lightning did; one that it took meanwhile counts."""
        for number in self._former:
            signal.signal(number, self._take)
        if trainer.received_sigterm:
            self.asked = self.asked or signal.SIGTERM

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.asked == number:
            raise KeyboardInterrupt
        self.asked = number

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Stop between two steps."""
        if between_steps(trainer) and self._agreed(trainer):
            self.checkpoints.save_once(trainer)
            raise StoppedError(self.asked or signal.SIGTERM)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop after an epoch; after the last one training is over, and who asked finds `asked`."""
        if self._agreed(trainer) and trainer.current_epoch + 1 < (trainer.max_epochs or 0):
            self.checkpoints.save_once(trainer)
            raise StoppedError(self.asked or signal.SIGTERM)

    def _agreed(self, trainer: Trainer) -> bool:
        """Whether any process was asked to stop; all of them stop at the same step."""
        if self._parent is not None and os.getppid() != self._parent:
            self.asked = self.asked or signal.SIGTERM
        asked = self.asked is not None
        return asked if trainer.world_size == 1 else bool(trainer.strategy.reduce_boolean_decision(asked, all=False))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the signals back."""
        self._give_back()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the signals back."""
        self._give_back()

    def _give_back(self) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
