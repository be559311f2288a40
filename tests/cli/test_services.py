"""Experiment services, without their servers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqtrack_lit.cli import services
from seqtrack_lit.cli.services import TensorBoardService, WandbService
from seqtrack_lit.training.recording import Sink


class Run:
    """Remembers what it is told."""

    def __init__(self, **settings: Any) -> None:
        self.settings, self.logged, self.defined, self.ended = settings, [], [], None

    def define_metric(self, *names: str, **settings: str) -> None:
        self.defined.append((names, settings))

    def log(self, values: dict[str, Any]) -> None:
        self.logged.append(values)

    def finish(self, exit_code: int) -> None:
        self.ended = exit_code


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    runs: list[Run] = []

    def init(**settings: Any) -> Run:
        # the id must be on the disk before the run begins
        assert (settings["dir"] / "wandb_id.txt").read_text() == settings["id"]
        runs.append(Run(**settings))
        return runs[-1]

    monkeypatch.setattr(services.wandb, "init", init)
    monkeypatch.setattr(services.wandb, "login", lambda prompt: False)
    return runs


def test_wandb(wandb: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    service = WandbService(project="p", tags=["x"])
    sink = service.open(tmp_path, name="run", group="sweep", config={"seed": 3})
    assert isinstance(sink, Sink)
    sink.numbers({"train/loss": 1.0}, 5)
    sink.image("val/pairs", np.zeros((4, 4, 3), np.uint8), 5)
    sink.table("val/videos", [{"video": "a", "AUC": 1.0}], 5)
    service.close(143)
    WandbService().open(tmp_path, name="run", group=None, config={})
    first, second = wandb
    assert first.settings["mode"] == "offline"  # no key
    assert first.settings["group"] == "sweep"
    assert (first.settings["project"], first.settings["tags"], first.settings["resume"]) == ("p", ["x"], "allow")
    assert first.settings["config"] == {"seed": 3}
    assert first.defined == [(("step",), {}), (("*",), {"step_metric": "step"})]
    assert [values["step"] for values in first.logged] == [5, 5, 5]
    assert first.logged[0]["train/loss"] == 1.0
    assert first.ended == 143
    assert second.settings["id"] == first.settings["id"]


def test_wandb_modes(wandb: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    WandbService().open(tmp_path, name="run", group=None, config={})
    WandbService(mode="online").open(tmp_path, name="run", group=None, config={})
    assert [run.settings["mode"] for run in wandb] == ["disabled", "online"]


def test_tensorboard_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard.writer", None)
    with pytest.raises(ValueError, match="pip install tensorboard"):
        TensorBoardService().open(tmp_path, name="run", group=None, config={})
