"""A command called as from a shell, in a folder of its own."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch


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
