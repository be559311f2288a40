"""A command called as from a shell, in a folder of its own."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from tests.cli.tiny import Late, Stop


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Callable[..., int]:
    """Call the main() of the module COMMAND of the test's file in an empty folder; returns the exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    torch.set_num_threads(1)
    command = request.module.COMMAND

    def call(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", [f"seqtrack-{command.__name__.rpartition('.')[2]}", *arguments])
        try:
            command.main()
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    return call


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> str:
    """An override that stops a run; importable for Hydra."""
    module = ModuleType("stopping")
    module.Stop, module.Late = Stop, Late  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "stopping", module)
    return "+callbacks.extra.stop._target_=stopping.Stop"
