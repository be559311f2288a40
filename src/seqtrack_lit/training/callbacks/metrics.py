"""What a run leaves behind: metrics.csv, timings, pictures, clips, curves and tables."""

import csv
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer

from seqtrack_lit.checks import whole
from seqtrack_lit.crops import Image
from seqtrack_lit.files import write_atomic
from seqtrack_lit.pictures import encoded
from seqtrack_lit.process import peak_memory, reset_peak_memory
from seqtrack_lit.runs.folder import PICTURES, MetricsFile, write_metadata
from seqtrack_lit.training.callbacks.checkpoint import step_done
from seqtrack_lit.training.module import SeqTrackModule, Sums

_TRAINING = ("train/", "time/", "memory/", "data/")


class RunLogger:
    """Records a run's numbers, pictures, tables, curves and clips; what a logger does not override is not recorded.

    `step` is the number of optimizer steps done.
    """

    def summary(self, values: Mapping[str, float]) -> None:
        """Take what the run came to so far."""

    def alert(self, title: str, text: str) -> None:
        """Take what somebody should see at once."""

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """Take numbers by name."""

    def image(self, name: str, image: Image, step: int) -> None:
        """Take a picture (RGB)."""

    def table(self, name: str, rows: Sequence[Mapping[str, object]], step: int) -> None:
        """Take a table; all rows have the same keys."""

    def curve(self, name: str, rows: Sequence[Mapping[str, float]], step: int) -> None:
        """Take a curve: a point a row, first the value along x, then the one along y."""

    def histogram(self, name: str, values: Sequence[float], step: int) -> None:
        """Take numbers whose distribution is of interest."""

    def clips(self, name: str, files: Mapping[str, Path], step: int) -> None:
        """Take videos by caption; the files may be gone when this returns."""


class FileLogger(RunLogger):
    """Files in the folder of a run: `metrics.csv`, and `pictures/<name>_<step>` as .png, .mp4, and .csv for tables.

    metrics.csv has a row a step and a column a number.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.metrics = MetricsFile(folder)

    def summary(self, values: Mapping[str, float]) -> None:
        """Write it to run.json."""
        write_metadata(self.folder, values)

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """Write a row, or add to the last one where it is of the same step."""
        self.metrics.add(values, step)

    def image(self, name: str, image: Image, step: int) -> None:
        """Write a PNG."""
        write_atomic(self._picture(name, step, ".png"), encoded(image, ".png"))

    def table(self, name: str, rows: Sequence[Mapping[str, object]], step: int) -> None:
        """Write a CSV file."""
        with self._picture(name, step, ".csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]) if rows else [], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    def curve(self, name: str, rows: Sequence[Mapping[str, float]], step: int) -> None:
        """Write a CSV file."""
        self.table(name, rows, step)

    def histogram(self, name: str, values: Sequence[float], step: int) -> None:
        """Write a CSV file: how many of the values lie in each of 20 intervals."""
        counts, edges = np.histogram(values, 20)
        bins = zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True)
        self.table(name, [{"from": low, "to": high, "count": count} for low, high, count in bins], step)

    def clips(self, name: str, files: Mapping[str, Path], step: int) -> None:
        """Copy the videos, numbered."""
        for number, file in enumerate(files.values()):
            shutil.copyfile(file, self._picture(f"{name}_{number}", step, file.suffix))

    def _picture(self, name: str, step: int, suffix: str) -> Path:
        folder = self.folder / PICTURES
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name.replace('/', '_')}_{step:07d}{suffix}"


class LogMetrics(Callback):
    """Writes what was logged to the loggers: means of training every so many steps, all of validation.

    With them go the samples seen so far and the epoch.
    Must stand between the callbacks that log and `Checkpoints`: a checkpoint then never knows more than the loggers.
    """

    def __init__(self, loggers: Sequence[RunLogger], *, every: int = 50) -> None:
        whole("callbacks", 1, log_every=every)
        self.loggers, self.every = loggers, every
        self._module: SeqTrackModule | None = None
        self._stored: dict[int, Sums] | None = None

    @property
    def state_key(self) -> str:
        """Its key in checkpoints, the name of this class in earlier revisions."""
        return "Record"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on with the sums of an interval in which the run was stopped."""
        assert isinstance(pl_module, SeqTrackModule)
        self._module, stored, self._stored = pl_module, self._stored, None
        if stored is not None:
            place = {"rank": trainer.global_rank, "world": trainer.world_size}
            pl_module.means.restore(stored, **place, device=pl_module.device)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Numbers of training; all processes give theirs."""
        assert isinstance(pl_module, SeqTrackModule)
        if not step_done(trainer):
            return
        if pl_module.nonfinite and trainer.is_global_zero:
            text = f"left out {pl_module.nonfinite} step(s) in a row, last step {trainer.global_step - 1}"
            for logger in self.loggers:
                logger.alert("loss or gradient is not finite", text)
        if trainer.global_step % self.every:
            return
        values = {**_logged(trainer, _TRAINING), **pl_module.latest, **pl_module.means.take()}
        if {"time/data", "time/step"} <= values.keys():
            seconds = values["time/data"] + values["time/step"]
            values["time/samples_per_second"] = pl_module.length.global_batch / seconds
        self._send(trainer, pl_module, values)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Numbers of validation."""
        assert isinstance(pl_module, SeqTrackModule)
        self._send(trainer, pl_module, _logged(trainer, ("val/",)))

    def _send(self, trainer: Trainer, module: SeqTrackModule, values: Mapping[str, float]) -> None:
        if not (self.loggers and trainer.is_global_zero):
            return
        known = {"samples": trainer.global_step * module.length.global_batch, "epoch": trainer.current_epoch}
        for logger in self.loggers:
            logger.numbers({**known, **values}, trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        """Sums of the present interval, of all processes."""
        return {"ranks": {} if self._module is None else self._module.means.gathered()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the sums; training goes on with them."""
        self._stored = state_dict["ranks"]


def _logged(trainer: Trainer, kinds: tuple[str, ...]) -> dict[str, float]:
    """Numbers that were logged in Lightning's way."""
    return {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith(kinds)}


class StepTimer(Callback):
    """Measures seconds waiting for data and computing per optimizer step, and memory in GB.

    With accumulation a step is all its batches. On a GPU the two times are only roughly apart (work is submitted, not
    awaited); their sum and the samples per second are right, because the norm of the gradient is awaited in each step.
    `memory/peak_gb` is of the first process since the run began: allocated on its GPU, or resident; it never falls.
    `data/skipped` counts the samples that could not be made and were replaced, in the first process.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the memory of runs before this one in the same process."""
        reset_peak_memory(pl_module.device)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock; a run resumed inside an epoch begins here."""
        self._restart()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave out the validation before this epoch."""
        self._restart()

    def _restart(self) -> None:
        self._end = time.perf_counter()
        self._waited, self._computed = 0.0, 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """The batch has come."""
        self._start = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """The batch is done, and with it perhaps the step."""
        now = time.perf_counter()
        self._waited += self._start - self._end
        self._computed += now - self._start
        self._end = now
        if not step_done(trainer):
            return
        assert isinstance(pl_module, SeqTrackModule)
        pl_module.means.add({"time/data": self._waited, "time/step": self._computed})
        skipped = float(getattr(trainer.datamodule, "skipped", 0))  # type: ignore[attr-defined]
        pl_module.latest |= {"memory/peak_gb": peak_memory(pl_module.device), "data/skipped": skipped}
        self._waited, self._computed = 0.0, 0.0
