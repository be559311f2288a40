"""What a run leaves behind: metrics.csv, timings, pictures and tables."""

import csv
import sys
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import cv2
import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger

from seqtrack_lit.crops import Image
from seqtrack_lit.training.budget import Budget


@runtime_checkable
class Sink(Protocol):
    """Where named pictures, tables and files of a run go, beside the metrics."""

    def image(self, name: str, image: Image, step: int) -> None:
        """Take a picture (RGB)."""
        ...

    def table(self, name: str, rows: Sequence[Mapping[str, object]], step: int) -> None:
        """Take a table; all rows have the same keys."""
        ...


class FolderSink:
    """Pictures as `<folder>/<name>_<step>.png`, tables as `.csv`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def image(self, name: str, image: Image, step: int) -> None:
        """Write a PNG."""
        cv2.imwrite(str(self._path(name, step, ".png")), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))

    def table(self, name: str, rows: Sequence[Mapping[str, object]], step: int) -> None:
        """Write a CSV file."""
        with self._path(name, step, ".csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]) if rows else [])
            writer.writeheader()
            writer.writerows(rows)

    def _path(self, name: str, step: int, suffix: str) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / f"{name.replace('/', '_')}_{step:07d}{suffix}"


class MetricsFile(Logger):
    """All logged numbers in `metrics.csv`: one row a step, a column a metric, `samples` seen so far.

    Args:
        path: the file.
        global_batch: samples of a step.
    """

    def __init__(self, path: Path, *, global_batch: int) -> None:
        super().__init__()
        self.path, self.global_batch = path, global_batch
        self._columns: list[str] = []
        self._row: dict[str, object] = {}

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "csv"

    @property
    def version(self) -> str:
        """One file, no versions."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The configuration is a file of its own."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Take numbers of a 0-based step; numbers of the same step share a row."""
        done = (step or 0) + 1
        if self._row.get("step") != done:
            self._flush()
            self._row = {"step": done, "samples": done * self.global_batch}
        self._row.update({name: value for name, value in metrics.items() if name != "step"})

    @rank_zero_only
    def save(self) -> None:
        """Nothing: a row is written when the next begins, or at the end."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the last row."""
        self._flush()
        self._row = {}

    @rank_zero_only
    def cut(self, steps: int) -> None:
        """Forget rows after this many steps: they will come again after a resume."""
        rows = read_metrics(self.path) if self.path.exists() else []
        kept = [row for row in rows if int(row["step"]) <= steps]
        self._columns = list(rows[0]) if rows else []
        self._write(kept)

    def _flush(self) -> None:
        if not self._row:
            return
        new = [name for name in self._row if name not in self._columns]
        if new:
            rows = read_metrics(self.path) if self._columns else []
            self._columns += new
            self._write([*rows, self._row])
            return
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self._columns, restval="").writerow(self._row)

    def _write(self, rows: Sequence[Mapping[str, object]]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        with part.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns, restval="")
            writer.writeheader()
            writer.writerows(rows)
        part.replace(self.path)


def read_metrics(path: Path) -> list[dict[str, str]]:
    """Rows of a metrics.csv; empty strings where a metric was not logged. A torn last row is left out."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if None not in row.values() and row["step"].isdigit()]


class Meter(Callback):
    """Logs seconds waiting for data and computing per batch, samples per second, and memory in GB.

    On a GPU the computing time of a single batch is only the time to submit it; the samples per second are right.
    `memory/peak_gb` is of the GPU where there is one, else of the process; it never falls.
    """

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._end = time.perf_counter()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """The batch has come."""
        self._start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The batch is done."""
        now = time.perf_counter()
        waited, computed = self._start - self._end, now - self._start
        self._end = now
        pl_module.log_dict(
            {
                "time/data": waited,
                "time/step": computed,
                "time/samples_per_second": len(batch.box) * trainer.world_size / (waited + computed),
                "memory/peak_gb": peak_memory(pl_module.device),
            },
            batch_size=len(batch.box),
        )


def peak_memory(device: torch.device) -> float:
    """Largest memory so far in GB: allocated on the GPU, or resident in this process (0 where unknown)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    if sys.platform == "win32":
        return 0.0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


class DryRun(Callback):
    """Times a few steps, to say what a whole training needs."""

    STEPS = 4

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Take the time after the first step, which warms up, and after the last."""
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize()
        if trainer.global_step <= 1:
            self._began = time.perf_counter()
        self._seconds, self._steps = time.perf_counter() - self._began, trainer.global_step - 1
        self._device = pl_module.device

    def report(self, budget: Budget) -> str:
        """Peak memory, speed, and how long the training would take without validations."""
        speed = self._steps * budget.global_batch / max(self._seconds, 1e-9)
        memory = f"peak memory {peak_memory(self._device):.2f} GB"
        if self._device.type == "cuda":
            memory += f" of {torch.cuda.get_device_properties(self._device).total_memory / 1e9:.0f} GB"
        return f"{memory}, {speed:.1f} samples/s, {budget.total / speed / 3600:.1f} h for {budget.total:,} samples"
