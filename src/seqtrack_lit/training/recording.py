"""What a run leaves behind: metrics.csv, timings, pictures, clips, curves and tables."""

import csv
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import cv2
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from seqtrack_lit.checks import whole
from seqtrack_lit.crops import Image
from seqtrack_lit.training.callbacks import step_done
from seqtrack_lit.training.module import SeqTrackModule

_TRAINING = ("train/", "time/", "memory/", "data/")


@runtime_checkable
class Sink(Protocol):
    """Where what a run tells goes; `step` is the number of optimizer steps done."""

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """Take numbers by name."""
        ...

    def image(self, name: str, image: Image, step: int) -> None:
        """Take a picture (RGB)."""
        ...

    def table(self, name: str, rows: Sequence[Mapping[str, object]], step: int) -> None:
        """Take a table; all rows have the same keys."""
        ...

    def curve(self, name: str, rows: Sequence[Mapping[str, float]], step: int) -> None:
        """Take a curve: a point a row, first the value along x, then the one along y."""
        ...

    def clips(self, name: str, files: Mapping[str, Path], step: int) -> None:
        """Take videos by caption; the files may be gone when this returns."""
        ...


class RunFolder:
    """Files in the folder of a run: `metrics.csv`, and `pictures/<name>_<step>` as .png, .mp4, and .csv for tables.

    metrics.csv has a row a step and a column a number.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "metrics.csv"
        self._columns: list[str] = []
        self._last = 0

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """Write a row, or add to the last one where it is of the same step; on the disk when this returns."""
        row: dict[str, object] = {"step": step, **values}
        new = [name for name in row if name not in self._columns]
        self._columns += new
        if new or step == self._last:
            rows: list[dict[str, object]] = [dict(row) for row in read_metrics(self.path)] if self._last else []
            if step == self._last:
                row = {**rows.pop(), **row}
            self._write([*rows, row])
        else:
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, self._columns, restval="", lineterminator="\n").writerow(row)
        self._last = step

    def cut(self, steps: int) -> None:
        """Forget rows after this many steps: they will come again in a run that is continued from there."""
        rows = read_metrics(self.path) if self.path.exists() else []
        kept = [row for row in rows if int(row["step"]) <= steps]
        if kept:
            self._columns, self._last = list(kept[0]), int(kept[-1]["step"])
            self._write(kept)
        else:
            self.path.unlink(missing_ok=True)

    def image(self, name: str, image: Image, step: int) -> None:
        """Write a PNG."""
        cv2.imwrite(str(self._picture(name, step, ".png")), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))

    def table(self, name: str, rows: Sequence[Mapping[str, object]], step: int) -> None:
        """Write a CSV file."""
        with self._picture(name, step, ".csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]) if rows else [], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    def curve(self, name: str, rows: Sequence[Mapping[str, float]], step: int) -> None:
        """Write a CSV file."""
        self.table(name, rows, step)

    def clips(self, name: str, files: Mapping[str, Path], step: int) -> None:
        """Copy the videos, numbered."""
        for number, file in enumerate(files.values()):
            shutil.copyfile(file, self._picture(f"{name}_{number}", step, file.suffix))

    def _write(self, rows: Sequence[Mapping[str, object]]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        with part.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        part.replace(self.path)

    def _picture(self, name: str, step: int, suffix: str) -> Path:
        folder = self.folder / "pictures"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name.replace('/', '_')}_{step:07d}{suffix}"


class Record(Callback):
    """Hands what was logged to the sinks: training numbers every so many steps, all of validation.

    With them go the samples seen so far and the epoch.
    Must stand between the callbacks that log and `Checkpoints`: a checkpoint then never knows more than the sinks.
    """

    def __init__(self, sinks: Sequence[Sink], *, every: int = 50) -> None:
        whole("callbacks", 1, log_every=every)
        self.sinks, self.every = sinks, every

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Numbers of training."""
        if step_done(trainer) and trainer.global_step % self.every == 0:
            self._send(trainer, _TRAINING)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Numbers of validation."""
        self._send(trainer, ("val/",))

    def _send(self, trainer: Trainer, kinds: tuple[str, ...]) -> None:
        if not (self.sinks and trainer.is_global_zero):
            return
        values = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith(kinds)}
        module = trainer.lightning_module
        assert isinstance(module, SeqTrackModule)
        known = {"samples": trainer.global_step * module.budget.global_batch, "epoch": trainer.current_epoch}
        for sink in self.sinks:
            sink.numbers({**known, **values}, trainer.global_step)


def read_metrics(path: Path) -> list[dict[str, str]]:
    """Rows of a metrics.csv; empty strings where a metric was not logged. A torn last row is left out."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if None not in row.values() and row["step"].isdigit()]


class Meter(Callback):
    """Logs seconds waiting for data and computing per optimizer step, samples per second, and memory in GB.

    With accumulation a step is all its batches. On a GPU the two times are only roughly apart (work is submitted, not
    awaited); their sum and the samples per second are right, because the norm of the gradient is awaited in each step.
    `memory/peak_gb` is of the first process: allocated on its GPU, or resident; it never falls. `data/skipped` counts
    the samples that could not be made and were replaced, since the run began, in the first process.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock; a run resumed inside an epoch begins here."""
        self._restart()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave out the validation before this epoch."""
        self._restart()

    def _restart(self) -> None:
        self._end = time.perf_counter()
        self._waited, self._computed, self._samples = 0.0, 0.0, 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """The batch has come."""
        self._start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The batch is done, and with it perhaps the step."""
        now = time.perf_counter()
        self._waited += self._start - self._end
        self._computed += now - self._start
        self._samples += len(batch.box) * trainer.world_size
        self._end = now
        if not step_done(trainer):
            return
        pl_module.log_dict(
            {
                "time/data": self._waited,
                "time/step": self._computed,
                "time/samples_per_second": self._samples / (self._waited + self._computed),
                "memory/peak_gb": peak_memory(pl_module.device),
                "data/skipped": float(getattr(trainer.datamodule, "skipped", 0)),  # type: ignore[attr-defined]
            },
            batch_size=len(batch.box),
        )
        self._waited, self._computed, self._samples = 0.0, 0.0, 0


def peak_memory(device: torch.device) -> float:
    """Largest memory so far in GB: allocated on the GPU, or resident in this process (0 where unknown)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    if sys.platform == "win32":
        return 0.0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
