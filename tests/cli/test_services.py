"""Experiment services, without their servers. What Weights & Biases keeps of real runs: test_wandb.py."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cli.offline import offline_files, read_offline

from seqtrack_lit.cli import loggers as services
from seqtrack_lit.cli.loggers import TensorBoardService, WandbLogger, WandbService
from seqtrack_lit.training.callbacks.metrics import RunLogger

OPEN: dict[str, Any] = {"name": "run", "group": "sweep", "config": {"seed": 3}, "step": 0}


@pytest.fixture
def began(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Settings of the runs that were begun, without beginning them."""
    runs: list[dict[str, Any]] = []

    class Run:
        def define_metric(self, *names: str, **settings: str) -> None: ...

    def init(**settings: Any) -> Run:
        # the id must be on the disk before the run begins
        assert (settings["dir"] / "wandb_id.txt").read_text() == settings["id"]
        runs.append(settings)
        return Run()

    monkeypatch.setattr(services.wandb, "init", init)
    return runs


@pytest.mark.parametrize(
    ("key", "variable", "mode", "expected"),
    [
        (False, None, None, "offline"),
        (True, None, None, "online"),
        (True, "disabled", None, "disabled"),
        (True, "offline", "online", "online"),
        (False, None, "offline", "offline"),
    ],
)
def test_wandb_modes(
    began: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    key: bool,
    variable: str | None,
    mode: Any,
    expected: str,
) -> None:
    """The configuration wins over $WANDB_MODE, that over the key; only online there is a run to resume."""
    monkeypatch.setattr(services.wandb, "login", lambda prompt: key)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    if variable is not None:
        monkeypatch.setenv("WANDB_MODE", variable)
    WandbService(mode=mode).open(tmp_path, **OPEN)
    WandbService(mode=mode, group="own").open(tmp_path, **OPEN)
    first, second = began
    assert first["mode"] == expected
    assert first["resume"] == ("allow" if expected == "online" else None)
    assert (first["group"], second["group"]) == ("sweep", "own")
    assert first["id"] == second["id"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"project": "a/b"}, "logger=wandb: Invalid project name 'a/b'"),
        ({"tags": ["x" * 80]}, "Tags must be between 1 and 64 characters"),
    ],
)
def test_wandb_refuses(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WandbService(**settings).open(tmp_path, **OPEN)


def test_wandb_with_a_broken_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", "short")
    with pytest.raises(ValueError, match=r"API key must have 40\+ characters.*; logger.mode=offline needs"):
        WandbService().open(tmp_path, **OPEN)


def test_tensorboard_reads_back(tmp_path: Path) -> None:
    """By TensorBoard's own reader; what an interrupted run wrote behind its checkpoint is gone after the resume."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    service = TensorBoardService()
    logger = service.open(tmp_path, **OPEN)
    assert isinstance(logger, RunLogger)
    image = np.zeros((4, 6, 3), np.uint8)
    logger.image("train/samples", image, 0)
    for step in (1, 2, 3):
        logger.numbers({"train/loss": 1.0 / step, "samples": 8 * step}, step)
    logger.table("val/videos", [{"video": "a", "AUC": 1.0}], 3)
    logger.curve("val/success", [{"overlap": 0.0, "percent": 9.0}], 3)
    logger.clips("val/clips", {"a": tmp_path / "a.mp4"}, 3)
    service.close(1, {"status": "failed"})
    again = TensorBoardService()
    again.open(tmp_path, **{**OPEN, "step": 2}).numbers({"train/loss": 9.0}, 3)
    again.close(0, {"status": "finished"})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    found = [(event.step, round(event.value, 3)) for event in events.Scalars("train/loss")]
    assert found == [(1, 1.0), (2, 0.5), (3, 9.0)]
    assert [event.value for event in events.Scalars("samples")] == [8.0, 16.0]
    (picture,) = events.Images("train/samples")
    assert (picture.step, picture.width, picture.height) == (0, 6, 4)


def test_a_run_of_a_sweep_of_theirs_has_the_agent_s_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "s")
    monkeypatch.setenv("WANDB_RUN_ID", "abc123")
    service = WandbService(mode="disabled")
    service.open(tmp_path, name="a", group=None, config={}, step=0)
    service.close(0, {})
    assert (tmp_path / "wandb_id.txt").read_text() == "abc123"


def test_numbers_that_a_killed_process_had_not_written(tmp_path: Path) -> None:
    """Its offline file lacks the end: what metrics.csv has of it is sent first, what comes again is not sent twice."""
    rows = ["step,samples,train/loss,val/auc", "1,8,3.0,", "2,16,2.0,40.0", "3,24,1.0,"]
    (tmp_path / "metrics.csv").write_text("\n".join(rows) + "\n")
    service = WandbService(mode="offline")
    facts: dict[str, Any] = {"name": "x", "group": None, "config": {}}
    service.open(tmp_path, **facts, step=0).numbers({"samples": 8.0, "train/loss": 3.0}, 1)
    service.close(1, {})
    (tmp_path / "metrics.csv").write_text("\n".join(rows[:3]) + "\n")  # cut to the checkpoint's step
    known = {3: {"samples", "train/loss"}}
    again = service.open(tmp_path, **facts, step=2, known=known, killed=True)
    again.numbers({"samples": 24.0, "train/loss": 1.0}, 3)
    service.close(0, {})
    sent = [
        [{key: value for key, value in row.items() if key[0] != "_"} for row in read_offline(path).history]
        for path in offline_files(tmp_path)
    ]
    assert sent == [
        [{"step": 1, "samples": 8, "train/loss": 3}],
        [{"step": 2, "samples": 16, "train/loss": 2, "val/auc": 40}, {"step": 3, "samples": 24, "train/loss": 1}],
    ]


def test_an_alert_where_no_number_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for each silence, and none after the end."""
    told: list[tuple[str, str]] = []

    class Run:
        def log(self, values: Any) -> None: ...

        def alert(self, title: str, text: str, level: str) -> None:
            told.append((title, text))

    monkeypatch.setattr(services, "SILENCE", 0.2)
    logger = WandbLogger(Run(), {})
    logger.numbers({"a": 1.0}, 7)
    time.sleep(0.5)
    logger.numbers({"a": 1.0}, 8)
    logger.stop_watching()
    time.sleep(0.3)
    assert told == [("training stands still", "no number came for 0 minutes after step 7")]


def test_tensorboard_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard.writer", None)
    with pytest.raises(ValueError, match="pip install tensorboard"):
        TensorBoardService().open(tmp_path, **OPEN)


def test_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user is unknown there."""

    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    with pytest.raises(ValueError, match="set HOME to a folder"):
        WandbService(mode="offline").open(tmp_path, name="a", group=None, config={}, step=0)
