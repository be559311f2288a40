"""Commands called as from a shell; trainings with a model that takes milliseconds a step, and what they leave."""

import os
import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from seqtrack_lit.runs.folder import read_rows

TINY = [
    "model=seqtrack_tiny", "model.encoder.width=32", "model.encoder.depth=1", "model.decoder.width=32",
    "model.decoder.ffn=32", "model.decoder.dropout=0.1", "data=quickstart", "data.train.generated.open.count=4",
    "data.validation.open.count=4", "data.validation.pairs=4", "data.validation.tracks=1",
    "data.validation.track_frames=4", "optimizer=muon", "debug=fast", "trainer=cpu", "callbacks.pictures=2",
    "train.ema_decay=0.9",
]  # fmt: skip


def call(patch: pytest.MonkeyPatch, command: ModuleType, *arguments: str) -> int:
    """The exit code of a command, a module with a main()."""
    patch.setattr(sys, "argv", [f"seqtrack-{command.__name__.rpartition('.')[2]}", *arguments])
    try:
        command.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


ONE_STEP = ["train.samples=8", "train.epoch_samples=8"]  # and its validation


def tiny(folder: str, *arguments: str) -> list[str]:
    return [*TINY, f"hydra.run.dir={folder}", *arguments]


def numbers(folder: Path) -> list[dict[str, str]]:
    """metrics.csv without what depends on the clock."""
    rows = read_rows(folder / "metrics.csv")
    return [{k: v for k, v in row.items() if not k.startswith(("time/", "memory/"))} for row in rows]


def weights(path: Path) -> dict[str, Any]:
    saved: dict[str, Any] = torch.load(path, weights_only=True)
    return saved["state_dict"]  # type: ignore[no-any-return]


class Stop(Callback):
    """Asks training to stop in its fifth step."""

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 5:
            os.kill(os.getpid(), signal.SIGTERM)


class Late(Callback):
    """Asks the first job to stop when nothing is left of it but its last validation."""

    def on_validation_start(self, trainer: Any, *_: Any) -> None:
        if trainer.current_epoch + 1 == trainer.max_epochs and "seed-0" in trainer.default_root_dir:
            os.kill(os.getpid(), signal.SIGTERM)
