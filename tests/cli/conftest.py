"""A command called as from a shell, in a folder of its own."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import torch
from tests.cli.tiny import Late, Stop, call


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Callable[..., int]:
    """Call the main() of the module COMMAND of the test's file in an empty folder; returns the exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    torch.set_num_threads(1)
    return partial(call, monkeypatch, request.module.COMMAND)


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> str:
    """An override that stops a run; importable for Hydra."""
    module = ModuleType("stopping")
    module.Stop, module.Late = Stop, Late  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "stopping", module)
    return "+callbacks.extra.stop._target_=stopping.Stop"
