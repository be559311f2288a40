"""What training prints of the time it will take."""

import logging
import time
from unittest.mock import MagicMock

import pytest
from lightning.pytorch import LightningModule, Trainer

from seqtrack_lit.training.callbacks.progress import ProgressLines


def told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, first: float, then: float, steps: int = 1000
) -> list[str]:
    """Lines of the first 300 steps, of which 60 take `first` seconds, and two validations; a batch is half a step."""
    caplog.set_level(logging.INFO)
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    trainer = MagicMock(spec=Trainer, global_step=0, is_global_zero=True, estimated_stepping_batches=steps)
    lines, module = ProgressLines(bar=False), MagicMock(spec=LightningModule)
    lines.on_train_start(trainer, module)
    for step in range(min(300, steps + 1)):
        for half in (0, 1):
            clock[0] += (first if step < 60 else then) / 2
            trainer.global_step = step + half
            lines.on_train_batch_end(trainer, module)
        if step in (30, 100):
            lines.on_validation_start(trainer, module)
            clock[0] += 500
            lines.on_validation_end(trainer, module)
    return [record.getMessage() for record in caplog.records]


def test_the_time_is_told_again_when_the_first_steps_were_slow(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # steps 40 to 200: 20 of 1 s, 140 of .25 s
    assert told(caplog, monkeypatch, 1.0, 0.25) == [
        "about 16:00 for 960 more steps of 1 s, and the validations",
        "about 4:35 for 800 more steps of 0.34 s, and the validations",
    ]


def test_the_time_is_told_once_where_steps_stay_as_long(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert told(caplog, monkeypatch, 0.5, 0.5) == ["about 8:00 for 960 more steps of 0.5 s, and the validations"]


def test_nothing_is_told_when_no_step_is_left(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert told(caplog, monkeypatch, 1.0, 0.25, steps=200) == [
        "about 2:40 for 160 more steps of 1 s, and the validations",
    ]
