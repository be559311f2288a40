"""Further processes of a run start from the configuration of that very run."""

import os
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from seqtrack_lit.cli.hydra.overrides import options_first
from seqtrack_lit.cli.launch.processes import job_command, processes


def test_command_of_a_further_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "a sweep" / "lr=1,2"
    settings = OmegaConf.create({"runtime": {"output_dir": str(folder)}, "job": {"name": "train"}})
    monkeypatch.setattr(HydraConfig, "get", staticmethod(lambda: settings))
    command, where = job_command(1)
    assert where == str(tmp_path)
    assert command[1:3] == ["-m", "seqtrack_lit.cli.train"]
    assert options_first(command[3:])[:4] == command[3:7]
    assert command[3:7] == ["--config-path", str(folder / ".hydra"), "--config-name", "config"]
    assert f"hydra.run.dir='{folder}'" in command
    assert {"hydra.mode=RUN", "hydra.output_subdir=null", "resume=auto", "overwrite=false"} <= set(command)


def test_no_trace_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning.pytorch.strategies.launchers import subprocess_script

    former = subprocess_script._hydra_subprocess_cmd
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setenv("NODE_RANK", "3")
    with processes():
        assert subprocess_script._hydra_subprocess_cmd is job_command
        os.environ["LOCAL_RANK"] = "0"
    assert subprocess_script._hydra_subprocess_cmd is former
    assert "LOCAL_RANK" not in os.environ
    assert os.environ["NODE_RANK"] == "3"
